"""`make calibrate`: what this machine was measured to do, kept beside the stack's state for `make plan`.

The figures are given (`ollama run --verbose` prints one answer's eval rate), or taken from the report of a load run.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from loadtests.results import store
from ops import paths, plan, record, settings, speeds
from ops.docker import DockerCli
from ops.errors import OpsError, of_system
from ops.files import write_atomic
from ops.preflight import fit as fits
from ops.request import Request
from stack.capacity import calibrate as machines
from stack.capacity import observed, roofline
from stack.capacity.calibrate import CalibrationError, Run
from stack.capacity.roofline import SpeedError, Work
from stack.config.model import Platform

DEPTH: Final = 512  # tokens behind each answer, on average, where nothing is told
FORM: Final = (
    'for example RATES="qwen3:8b=1:112,4:300 gemma3:4b=1:190": one answer at a time got 112 tokens/s, four 300'
)


def calibrate(request: Request) -> int:
    """Stores the machine's constants. Raises OpsError for figures that cannot be used."""
    platform = settings.platform(paths.ROOT / f"Pulumi.{request.stack}.yaml")
    loads = _loads(platform, request.stack)
    if request.run:
        if request.rates or request.depth:
            raise OpsError("RUN=… has the rates and depths that were measured: leave RATES and DEPTH out")
        said, runs = f"RUN={request.run}", of_run(request, platform, loads)
    else:
        said, runs = f"RATES={request.rates}", read(request.rates, _depth(request.depth), loads)
    try:
        made = machines.calibrate(speeds.card(platform), runs, measured=f"{datetime.now(UTC):%Y-%m-%d}")
    except (CalibrationError, SpeedError) as wrong:
        raise OpsError(f"{said}: {wrong}") from None
    file = speeds.calibration(request.stack)
    paths.private_folder(file.parent)
    write_atomic(file, machines.dump({speeds.HOST: made}))
    print(f"{made.efficiency:.0%} of the bandwidth and {made.layer * 1e6:.0f} us a layer, kept in {file}")
    print(f"`make plan STACK={request.stack}` reckons with it; delete the file to go back to published measurements")
    return 0


def of_run(request: Request, platform: Platform, loads: dict[str, Work]) -> list[Run]:
    """The runs in the report of a load run, each said. Raises OpsError where it tells nothing of this machine."""
    folder = Path(request.run)
    said = f"RUN={request.run}"
    if record.load(request.stack).source == "mirror":
        raise OpsError(f"{said}: the models of package mirrors are small stand-ins, which say nothing of real ones")
    if platform.engine.instances > 1:
        raise OpsError(
            f"{said}: {platform.engine.instances} engines share the answers, so how many one has at once is not known\n"
            "fix: load it with engine.instances: 1"
        )
    try:
        gates = json.loads((folder / "result.json").read_text(encoding="utf-8"))["gates"]
        refuse_bottleneck(said, gates)
        seen = observed.answers(store.requests(folder / "requests.csv"))
        found = observed.rates(seen) if seen else []
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as wrong:
        why = of_system(wrong) if isinstance(wrong, OSError) else str(wrong)
        if isinstance(wrong, KeyError | TypeError | RecursionError | UnicodeDecodeError | json.JSONDecodeError):
            why = f"{folder / 'result.json'} cannot be read as a result ({type(wrong).__name__}: {why})"
        raise OpsError(
            f"{said}: {why}\nfix: give the folder that `make load` wrote, of a run with few and with many people: "
            "make load PROFILE=examples/calibrate.yaml USERS=1,2,4 FOR=1m"
        ) from None
    if not found:
        raise OpsError(f"{said}: no answer in it came whole and had its tokens counted")
    model = _named(platform, found[0].model)
    if model not in loads:
        known = ", ".join(loads) or "none of this stack's"
        raise OpsError(f"{said}: {found[0].model} is not a model whose size is known ({known})")
    for one in found:
        print(
            f"{model}: {one.answers} at once got {one.rate:.1f} tokens/s, {one.depth:.0f} behind each ({one.seen} seen)"
        )
    return [Run(model=model, load=loads[model], depth=one.depth, answers=one.answers, rate=one.rate) for one in found]


def refuse_bottleneck(said: str, gates: list[dict[str, Any]]) -> None:
    """Raises OpsError for a run whose client was too slow: its rates are the client's."""
    if bad := [str(gate["name"]) for gate in gates if gate["side"] == "client" and gate["word"] == "FAIL"]:
        raise OpsError(
            f"{said}: the client of that run was the bottleneck ({', '.join(bad)}): its rates are not the machine's"
        )


def _named(platform: Platform, name: str) -> str:
    """The model that has this name or alias."""
    return next((model.name for model in platform.models if name in {model.name, *model.aliases}), name)


def read(rates: str, depth: int, loads: dict[str, Work]) -> list[Run]:
    """The runs that RATES tells. Raises OpsError with its form."""
    if not rates.split():
        raise OpsError(
            f"no measured rates were given\nfix: RUN=<the folder that `make load` wrote>, or the rates, {FORM}"
        )
    runs = []
    for part in rates.split():
        model, equals, figures = part.rpartition("=")
        if not equals:
            raise OpsError(f"RATES={part}: there is no figure behind the model\nfix: {FORM}")
        if model not in loads:
            known = ", ".join(loads) or "none of this stack's"
            raise OpsError(f"RATES={part}: {model or part} is not a model whose size is known ({known})\nfix: {FORM}")
        for figure in figures.split(","):
            answers, _, rate = figure.partition(":")
            try:
                runs.append(Run(model=model, load=loads[model], depth=depth, answers=_count(answers), rate=float(rate)))
            except ValueError:
                raise OpsError(f"RATES={part}: {figure!r} is not answers:tokens/s\nfix: {FORM}") from None
    return runs


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 1024:
        raise ValueError(text)
    return count


def _depth(text: str) -> int:
    if text and not text.isdecimal():
        raise OpsError(
            f"DEPTH={text}: tokens behind each answer, on average, as a number (DEPTH={DEPTH} when left out)"
        )
    return int(text) if text else DEPTH


def _loads(platform: Platform, stack: str) -> dict[str, Work]:
    cache = fits.settings(platform).cache
    found = plan.models(platform, stack, DockerCli()).items()
    return {name: roofline.work(known.shape, cache) for name, known in found if known and not known.embeds}
