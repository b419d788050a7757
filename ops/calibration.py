"""`make calibrate`: what this machine was measured to do, kept beside the stack's state for `make plan`.

The figures are given: from a load run, or from `ollama run --verbose` (its eval rate is one answer at a time).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from ops import paths, settings, speeds
from ops.errors import OpsError
from ops.files import write_atomic
from ops.preflight import fit as fits
from ops.request import Request
from stack.capacity import calibrate as machines
from stack.capacity import speed
from stack.capacity.calibrate import CalibrationError, Run
from stack.capacity.speed import SpeedError, Work
from stack.config.model import Platform

DEPTH: Final = 512  # tokens behind each answer, on average, where nothing is told
FORM: Final = (
    'for example RATES="qwen3:8b=1:112,4:300 gemma3:4b=1:190": one answer at a time got 112 tokens/s, four 300'
)


def calibrate(request: Request) -> int:
    """Stores the machine's constants. Raises OpsError for figures that cannot be used."""
    platform = settings.platform(paths.ROOT / f"Pulumi.{request.stack}.yaml")
    runs = read(request.rates, _depth(request.depth), _loads(platform))
    try:
        made = machines.calibrate(speeds.card(platform), runs, measured=f"{datetime.now(UTC):%Y-%m-%d}")
    except (CalibrationError, SpeedError) as wrong:
        raise OpsError(f"RATES={request.rates}: {wrong}") from None
    file = speeds.calibration(request.stack)
    paths.private_folder(file.parent)
    write_atomic(file, machines.dump({speeds.HOST: made}))
    print(f"{made.efficiency:.0%} of the bandwidth and {made.layer * 1e6:.0f} us a layer, kept in {file}")
    print(f"`make plan STACK={request.stack}` reckons with it; delete the file to go back to published measurements")
    return 0


def read(rates: str, depth: int, loads: dict[str, Work]) -> list[Run]:
    """The runs that RATES tells. Raises OpsError with its form."""
    if not rates.split():
        raise OpsError(f"no measured rates were given\nfix: {FORM}")
    runs = []
    for part in rates.split():
        model, _, figures = part.rpartition("=")
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


def _loads(platform: Platform) -> dict[str, Work]:
    cache = fits.settings(platform).cache
    found = fits.models(platform).items()
    return {name: speed.work(known.shape, cache) for name, known in found if known and not known.embeds}
