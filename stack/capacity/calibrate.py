"""What one machine reaches, from one or two measured runs of it; kept beside the stack's state. Pure, but for `load`.

A machine differs from others of its kind by its build of llama.cpp, its clocks and its power limit. One run tells by
how much, not in what: reading, layers, or the model alone. How much each of them usually differs shares it out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from stack.capacity.fits import batch_band, fitted
from stack.capacity.least_squares import pair
from stack.capacity.roofline import Batch, Card, Constants, Point, Speed, SpeedError, Work, seconds
from stack.capacity.speed import batch

VERSION: Final = 2
# How much differs between machines of a kind, standard deviations of logarithms: likeliest on the fitted half's rows of
# GDDR cards, each machine seen from the others (docs/planner.md).
READING: Final = 0.10
LAYERS: Final = 0.20
MODEL: Final = 0.03  # what a model alone is off by, on whatever machine
ROUNDS: Final = 20
AFTER: Final = (-0.15, 0.15)  # band for other models on a calibrated machine (docs/planner.md)
SAME: Final = (-0.08, 0.08)  # band for a model that was measured on it, at another depth

SLOWEST: Final = 20  # times slower than its kind no card is
TOGETHER: Final = 1.5  # n answers get at most n times what one gets; figures of other depths and rounded ones get more


class CalibrationError(ValueError):
    """What was measured, or what is in the file, cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One measured run: so many answers at once, each with `depth` tokens behind it, so many tokens a second in all."""

    model: str
    load: Work
    depth: float
    rate: float
    answers: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A model's measured batches: seconds of a step = bytes x `byte` + answers x `each` + `step`."""

    byte: float
    each: float
    step: float
    largest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The constants of one machine."""

    card: str
    """Its kind."""
    bandwidth: float
    efficiency: float
    layer: float
    mixture: float
    factors: Mapping[str, float] = field(default_factory=dict)
    """Model -> its own time over what the constants say."""
    curves: Mapping[str, Curve] = field(default_factory=dict)
    measured: str = ""
    """When, as an ISO date."""

    def constants(self, model: str = "") -> Constants:
        """For a model: its own when it was measured, else the machine's."""
        factor = self.factors.get(model, 1.0)
        return Constants(
            efficiency=self.efficiency / factor,
            layer=self.layer * factor,
            mixture=self.mixture * factor,
            band=SAME if model in self.factors else AFTER,
            basis=f"measured on this machine, {self.measured or 'at an unknown date'}",
        )

    def decode(self, model: str, load: Work, depth: float) -> Speed:
        """Tokens a second of one answer."""
        known = self.constants(model)
        value = 1 / seconds(load, Card(kind=self.card, bandwidth=self.bandwidth), known, depth)
        return Speed(value=value, low=value * (1 + known.band[0]), high=value * (1 + known.band[1]), basis=known.basis)

    def batch(self, model: str, load: Work) -> Batch | None:
        """The model's curve over answers at once, when several were measured."""
        curve = self.curves.get(model)
        if curve is None:
            return None
        return Batch(load=load, band=batch_band(), basis=self.constants(model).basis, **asdict(curve))


def calibrate(card: Card, runs: Sequence[Run], *, measured: str = "", usual: Constants | None = None) -> Machine:
    """A machine's constants from its runs. Raises CalibrationError for none, or for ones that cannot be true.

    `usual` is what such cards reach with builds of that age; without it, with builds since 2025.
    """
    usual = usual or _usual(card)
    alone = [run for run in runs if run.answers == 1]
    if not alone:
        raise CalibrationError("a calibration needs at least one run with a single answer at a time")
    for run in runs:
        if not (run.rate > 0 and math.isfinite(run.rate)):
            raise CalibrationError(f"{run.model}: {run.rate} tokens a second cannot be; nothing was stored")
        if run.answers == 1 and run.load.reads(run.depth) * run.rate > 1.1 * card.bandwidth:
            raise CalibrationError(
                f"{run.model}: {run.rate:.0f} tokens a second would read faster than this memory delivers; "
                "is it the card of the configuration, and did the engine answer from a cache?"
            )
    _plausible(card, runs, usual)
    known = _constants(card, alone, usual)
    factors = {}
    for model in {run.model for run in alone}:
        own = [1 / run.rate / seconds(run.load, card, known, run.depth) for run in alone if run.model == model]
        factors[model] = math.exp(sum(map(math.log, own)) / len(own))
    return Machine(
        card=card.kind,
        bandwidth=card.bandwidth,
        efficiency=known.efficiency,
        layer=known.layer,
        mixture=known.mixture,
        factors=factors,
        curves=_curves(runs),
        measured=measured,
    )


def _plausible(card: Card, runs: Sequence[Run], known: Constants) -> None:
    """Raises CalibrationError for runs that are no such card at work: each is far from the others, or from its kind."""
    best: dict[str, float] = {}
    for run in runs:
        if run.answers > 1:
            continue
        usual = 1 / seconds(run.load, card, known, run.depth)
        if run.rate * SLOWEST < usual:
            raise CalibrationError(
                f"{run.model}: {run.rate:g} tokens a second, where such a card gives about {usual:.0f}: did processors "
                "compute it, or are these not tokens a second?"
            )
        best[run.model] = max(best.get(run.model, 0.0), run.rate)
    for run in runs:
        if run.model in best and run.rate > TOGETHER * run.answers * best[run.model]:
            raise CalibrationError(
                f"{run.model}: {run.answers} answers at once got {run.rate:g} tokens a second, more than "
                f"{run.answers} times the {best[run.model]:g} of one alone: that cannot be"
            )


def _usual(card: Card) -> Constants:
    try:
        return fitted(card.kind)
    except SpeedError:
        return Constants(efficiency=0.7, layer=0.0)  # a kind nobody measured: all of the time is reading


def _constants(card: Card, alone: Sequence[Run], usual: Constants) -> Constants:
    """The likeliest ones, by how much reading, layers and models usually differ (Gauss-Newton on logarithms of times).

    Several runs of one model count as one: they share what the model alone is off by.
    """
    reading = layers = 0.0  # logarithms of how many times the usual each takes
    for _ in range(ROUNDS):
        here = _slower(usual, reading, layers)
        rows = [(1 / READING, 0.0, 0.0), (0.0, 1 / LAYERS, 0.0)]
        for run in alone:
            taken = seconds(run.load, card, here, run.depth)
            part = here.layers(run.load) / taken
            off = (1 - part) * reading + part * layers - math.log(taken * run.rate)
            spread = MODEL * math.sqrt(sum(one.model == run.model for one in alone))
            rows.append(((1 - part) / spread, part / spread, off / spread))
        reading, layers = pair(rows)
    return _slower(usual, reading, layers)


def _slower(usual: Constants, reading: float, layers: float) -> Constants:
    """Where reading and layers take longer than usual, each by the logarithm of a factor."""
    return replace(
        usual,
        efficiency=usual.efficiency / math.exp(reading),
        layer=usual.layer * math.exp(layers),
        mixture=usual.mixture * math.exp(layers),
    )


def _curves(runs: Sequence[Run]) -> dict[str, Curve]:
    found = {}
    for model in {run.model for run in runs}:
        own = [run for run in runs if run.model == model]
        if len({run.answers for run in own}) >= 3:
            made = batch(own[0].load, [Point(answers=run.answers, depth=run.depth, rate=run.rate) for run in own])
            found[model] = Curve(byte=made.byte, each=made.each, step=made.step, largest=made.largest)
    return found


def dump(machines: Mapping[str, Machine]) -> str:
    """Hosts' machines as the text of the calibration file."""
    return json.dumps({"version": VERSION, "hosts": {name: asdict(one) for name, one in machines.items()}}, indent=2)


def load(path: Path) -> dict[str, Machine]:
    """What was measured before, by host; nothing without a file. Raises CalibrationError for a damaged one."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    again = f"delete it, or run `make calibrate` again ({path})"
    try:
        content = json.loads(text)
        if content["version"] != VERSION:
            raise CalibrationError(
                f"the calibration is of version {content['version']}, this program's is {VERSION}: {again}"
            )
        return {name: _machine(one) for name, one in content["hosts"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, CalibrationError):
            raise
        raise CalibrationError(f"the calibration cannot be read ({error}): {again}") from error


def _machine(one: Mapping[str, Any]) -> Machine:
    found = Machine(**{**one, "curves": {name: Curve(**curve) for name, curve in one["curves"].items()}})
    if not (0 < found.efficiency <= 1.5 and min(found.layer, found.mixture) >= 0 and found.bandwidth > 0):
        raise CalibrationError("the calibration has values that cannot be: delete it, or run `make calibrate` again")
    return found
