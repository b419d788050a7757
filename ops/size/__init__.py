"""`make size`: how many people a stack serves, what stops there, what to buy, and the settings that fit."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO

import yaml

from loadtests.results import store
from loadtests.results.store import CannotWrite
from loadtests.sizing import files, measured, sized, words
from loadtests.sizing.measured import CannotSize, Run
from loadtests.sizing.place import elsewhere
from loadtests.sizing.sized import Asked, Sized
from ops import paths, plan, record, settings, speeds
from ops.docker import DockerCli
from ops.errors import OpsError
from ops.files import write_atomic
from ops.preflight import fit as fits
from ops.progress import counted
from ops.request import Request
from ops.size import asked, edit, proposal
from ops.size.here import here
from stack.capacity import calibrate, observed, roofline
from stack.capacity.box import Box, NoRoomError, placed
from stack.capacity.calibrate import CalibrationError, Machine
from stack.capacity.devices import Device, devices, find
from stack.capacity.facts import Known
from stack.capacity.fit import Verdict
from stack.capacity.observed import ObservedError
from stack.capacity.roofline import SpeedError
from stack.capacity.usage import PeopleError
from stack.config.explain import parse_platform
from stack.config.model import Accelerator, Card, Platform, Role

OUT: Final = paths.ROOT / "loadtests" / "out"


def size(request: Request) -> int:
    """Prints the answer and writes its report; with APPLY=1 the proposed settings too. Raises OpsError."""
    file = paths.ROOT / f"Pulumi.{request.stack}.yaml"
    platform = settings.platform(file)
    said = asked.parse(os.environ)
    try:
        runs = [measured.read(Path(one)) for one in request.run.replace(",", " ").split()]
        made = _sized(request, platform, said, runs)
    except NoRoomError as wrong:
        raise OpsError(
            f"{wrong}\nfix: `make plan STACK={request.stack}` says what would fit; docs/hardware.md has cards for it"
        ) from None
    except (CannotSize, PeopleError) as wrong:
        raise OpsError(str(wrong)) from None
    text = file.read_text(encoding="utf-8")
    changes = proposal.changes(platform, made, settings.PLATFORM)
    after = edit.edited(text, changes, file.name) if changes else text
    diff = edit.diff(text, after, file.name)
    _told(request, made, changes, diff)
    if not said.apply or not diff:
        return 0
    parse_platform(yaml.safe_load(after)["config"][settings.PLATFORM], source=file.name)
    write_atomic(file, after, file.stat().st_mode & 0o777)
    print(f"\n{file.name} is changed; `make up STACK={request.stack}` deploys it", file=_loud(request))
    return 0


def _told(request: Request, made: Sized, changes: Mapping[edit.Path, int], diff: str) -> None:
    written = files.render(made, edit.words(changes), diff)
    folder = OUT / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-size-{request.stack}"
    try:
        store.write(folder, written)
    except CannotWrite as wrong:
        raise OpsError(str(wrong)) from None
    if request.json:
        print(written["size.json"], end="")
        return
    print(words.headline(made))
    print(f"{words.promised(made)} {words.accounts(made)}".rstrip())
    print(words.basis(made))
    print(words.binds(made))
    print(*(f"note: {note}" for note in made.notes), sep="\n", end="\n" if made.notes else "")
    for one in made.held:
        off = one.why if one.off is None else f"{one.off:+.1%}"
        print(f"  check: {one.label} predicted from the others: {one.word} ({off})")
    if made.asked.people is not None:
        print(*words.shortlist(made), sep="\n")
    if diff:
        print(f"\nproposed settings (APPLY=1 writes them):\n{diff}", end="")
    print(f"\nreport: {folder / 'report.html'}")


def _loud(request: Request) -> TextIO:
    return sys.stderr if request.json else sys.stdout


def _sized(request: Request, platform: Platform, said: asked.Words, runs: Sequence[Run]) -> Sized:
    name = model(platform, said.model, runs)
    known = plan.models(platform, request.stack, DockerCli()).get(name) if platform.uses_engine else None
    real = record.load(request.stack).source != "mirror"
    if runs and not real:
        known = None  # the package mirrors' stand-ins are no models of that name
    now = here(DockerCli(), platform, request.stack, name) if runs else None
    others = [found for run in runs if now is not None and (found := elsewhere(run, now)) is not None]
    box = machine(platform, request.stack, known, runs if real and not others else ())
    return sized.size(
        request.stack, f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}", priced(said.asked, box), box=box, known=known,
        settings=fits.settings(platform), runs=runs, context=platform.engine.context_length, model=name,
        watts=said.watts, reached=counted("cards to buy looked at"),
        elsewhere=next(iter(others), None),
    )  # fmt: skip


def priced(said: Asked, box: Box | None) -> Asked:
    """One price of a card is that of this stack's: it counts where such a card is offered, too."""
    if box is None or said.prices.card is None or box.device.id not in devices():
        return said
    cards = {box.device.id: said.prices.card, **said.market.cards}
    return replace(said, market=replace(said.market, cards=cards))


def model(platform: Platform, wanted: str, runs: Sequence[Run]) -> str:
    """The model that people talk to: MODEL, else that of the runs, else `default`. Raises OpsError."""
    seen = {row["model"] for run in runs for row in run.rows}
    if len(seen) > 1:
        raise OpsError(f"these runs asked several models ({', '.join(sorted(seen))}): size one after the other")
    name = wanted or next(iter(seen), "default")
    for one in platform.models:
        if name in {one.name, *one.aliases} and one.role is not Role.EMBEDDING:
            return one.name
    names = ", ".join(one.name for one in platform.models if one.role is not Role.EMBEDDING)
    raise OpsError(f"MODEL={name}: people of this stack talk to none of that name; there are {names}")


def machine(platform: Platform, stack: str, known: Known | None, runs: Sequence[Run]) -> Box | None:
    """The machine as it can be planned; None where nothing is known of it or its model, or it has no card."""
    engine = platform.engine
    if known is None or not engine.cards or engine.accelerator is Accelerator.CPU:
        return None
    weakest = replace(
        min((device(one, engine.accelerator) for one in engine.hardware), key=lambda one: one.bandwidth or 0.0),
        memory=min(one.bytes for one in engine.hardware),
    )
    box = Box(
        known=known, device=weakest, settings=fits.settings(platform), machine=_measured(platform, stack, known, runs),
        reserved=_others(platform, known),
    )  # fmt: skip
    # An instance puts a model that has room there on one card, else on all of its own.
    if placed(box)[0].verdict is not Verdict.NO:
        return replace(box, cards=engine.instances)
    return replace(box, cards=len(engine.cards), hosts=engine.instances)


def device(card: Card, accelerator: Accelerator) -> Device:
    """A configured card, with what was written of it going before the table."""
    known = find(card.device) if card.device else Device(id=f"{accelerator}-card with {card.memory}", memory=0)
    return replace(known, memory=card.bytes, bandwidth=card.bandwidth * 1e9 if card.bandwidth else known.bandwidth)


def _others(platform: Platform, known: Known) -> int:
    """Bytes of a card that the largest other models take which stay loaded beside it."""
    at = fits.host(platform)
    if at is None:
        return 0
    found = fits.planned(platform, at, fits.models(platform))
    beside = sorted((one.need.total for one in found.models if one.model != known.shape.name), reverse=True)
    return sum(beside[: platform.engine.max_loaded_models - 1])


def _measured(platform: Platform, stack: str, known: Known, runs: Sequence[Run]) -> Machine | None:
    """What this machine was measured to do: by these runs, else by `make calibrate`."""
    try:
        kept = calibrate.load(speeds.calibration(stack)).get(speeds.HOST)
        if not runs:
            return kept
        load = roofline.work(known.shape, fits.settings(platform).cache)
        seen = [
            calibrate.Run(model=known.shape.name, load=load, depth=one.depth, answers=one.answers, rate=one.rate)
            for one in observed.rates(observed.answers([row for run in runs for row in run.rows]))
        ]
        return calibrate.calibrate(speeds.card(platform), seen)
    except (ObservedError, SpeedError):
        return None
    except CalibrationError as wrong:
        if runs:
            return None
        raise OpsError(str(wrong)) from None
