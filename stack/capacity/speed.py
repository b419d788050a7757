"""How quick a model answers on a card: one answer at a time, prompts, many answers at once. Pure.

Decode is bound by memory: a step takes the time to read what it needs, and a fixed time for each layer. Prompts are
bound by computing. Many answers share what a step reads, until a mixture of experts needs all of its experts.
The constants are fitted to the published measurements of `data/{decode,prefill,batch}.csv`, by the half of the sources
that a hash picks; the other half says how wrong the answers are (docs/planner.md).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

from stack.capacity.devices import Device
from stack.capacity.facts import rows
from stack.capacity.least_squares import nonnegative
from stack.capacity.memory import CACHE_TYPES
from stack.capacity.shape import Shape

SINCE: Final = "2025"  # older builds of llama.cpp take about twice as long for a layer: kept in the table, not fitted
REACH: Final = 2  # times the largest measured number of answers at once; beyond, nothing is said
WIDEST: Final = 0.5  # of a prediction, up and down, for a kind of card that too few measurements are held out of
LEAST_HELD_OUT: Final = 4

# What a card is, by its id in devices.csv: first match wins. Kinds differ in how much of their bandwidth is reached.
KINDS: Final = (
    (r"nvidia-(dgx-spark|jetson|gb10)", "cuda-unified"),
    (r"nvidia-(a30|a100|a800|h100|h200|h800|gh200|b200|tesla-v100|quadro-gv100|titan-v|tesla-p100)", "cuda-hbm"),
    (r"nvidia-(titan|quadro|tesla|rtx-20|gtx|t4)", "cuda-old"),
    (r"nvidia-", "cuda-gddr"),
    (r"amd-(ryzen|strix)", "apu"),
    (r"amd-", "rocm"),
    (r"apple-", "apple"),
    (r"intel-arc", "vulkan"),
)


class SpeedError(ValueError):
    """Nothing can be said about this; the text says why and what would help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one step of a model reads and computes. Bytes, unless said otherwise."""

    dense: float
    """Read by every step, whatever the number of answers."""
    experts: float = 0.0
    """All experts together."""
    share: float = 0.0
    """Of the experts, what one token uses (0 to 1)."""
    layers: int
    active: float
    """Parameters that one token is multiplied with (a count)."""
    cache: float = 0.0
    """Keys and values of one token, in the layers that look at everything."""
    windowed: float = 0.0
    """Keys and values of one token, in the layers with a window."""
    window: int = 0
    """Tokens that those layers look back."""
    state: float = 0.0
    """Recurrent state of one answer."""
    attention: float = 0.0
    """Multiplications of one token with one earlier token (a count)."""

    def history(self, depth: float) -> float:
        """Bytes that a step reads of one answer's own past of `depth` tokens."""
        return self.cache * depth + self.windowed * min(depth, self.window) + self.state

    def weights(self, batch: float = 1) -> float:
        """Bytes of weights that a step of `batch` answers reads: each brings experts, some that others have too."""
        return self.dense + self.experts * (1 - math.pow(1 - self.share, batch))

    def reads(self, depth: float, batch: float = 1, *, shared: bool = False) -> float:
        """All bytes of a step; `shared` when the answers have one past (tokens of one prompt)."""
        return self.weights(batch) + self.history(depth) * (1 if shared else batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What computes."""

    kind: str
    bandwidth: float
    """Bytes a second that its memory delivers at most."""
    tflops: float | None = None
    """10^12 additions and multiplications a second of 16-bit numbers."""
    cards: int = 1
    """Cards that share the layers of a model: more memory, one answer is no quicker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """What a kind of card, or one machine, reaches."""

    efficiency: float
    """Of the bandwidth (0 to 1)."""
    layer: float
    """Seconds for each layer, beside reading."""
    mixture: float = 0.0
    """Seconds more for each layer of a mixture of experts: choosing them takes steps of its own."""
    band: tuple[float, float] = (-WIDEST, WIDEST)
    """Relative: how far what was measured lay from what was predicted."""
    mixture_band: tuple[float, float] | None = None
    """The same of mixtures of experts, where it is another one."""
    basis: str = ""
    """What that is from."""

    def around(self, load: Work) -> tuple[float, float]:
        """The band of this model."""
        return self.mixture_band if load.experts and self.mixture_band else self.band

    def layers(self, load: Work) -> float:
        """Seconds of a step for all layers, beside reading."""
        return load.layers * (self.layer + (self.mixture if load.experts else 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """A prediction, tokens a second."""

    value: float
    low: float
    high: float
    basis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One published measurement of the tables."""

    source: str
    device: str
    model: str
    test: str
    card: Card
    work: Work
    depth: float
    batch: int
    shared: bool
    rate: float
    """Tokens a second, all answers together."""
    date: str
    build: str

    @property
    def group(self) -> str:
        """Who measured what machine: rows of one group never stand on both sides of the split."""
        return f"{self.source}#{self.device}"

    @property
    def held_out(self) -> bool:
        """Whether the fit may not read it: a fixed hash of the group."""
        return hashlib.sha256(self.group.encode()).digest()[0] % 2 == 1

    @property
    def old(self) -> bool:
        """Whether the build is too old to tell of today's."""
        return self.date < SINCE


def kind(device: str) -> str:
    """The kind of card that an id of devices.csv is. Raises SpeedError for an unknown one."""
    for pattern, name in KINDS:
        if re.match(pattern, device):
            return name
    raise SpeedError(f"{device!r}: no measurements of such a card; `make calibrate` would bring some")


def card(device: Device, cards: int = 1) -> Card:
    """A card of devices.csv. Raises SpeedError for one without a bandwidth or of a kind that nobody measured."""
    if device.bandwidth is None:
        raise SpeedError(f"{device.id}: its bandwidth is not known, and speed follows from it; give it in GB/s")
    return Card(kind=kind(device.id), bandwidth=device.bandwidth, tflops=device.tflops, cards=cards)


def work(shape: Shape, cache_type: str = "f16") -> Work:
    """What a step of this model reads and computes."""
    number = float(CACHE_TYPES[cache_type])
    read = shape.size - (0 if shape.tied else shape.embedding)
    experts = shape.experts.size if shape.experts else 0
    share = shape.experts.used / shape.experts.count if shape.experts else 0.0
    everywhere = [layer for layer in shape.caches if layer.window is None]
    windowed = [layer for layer in shape.caches if layer.window is not None]
    state = 0.0
    if shape.recurrent:
        one = shape.recurrent
        state = 4.0 * one.layers * one.inner * one.state
    return Work(
        dense=read - experts,
        experts=experts,
        share=share,
        layers=shape.layers,
        active=shape.parameters * shape.active / shape.size,
        cache=sum(layer.heads * (layer.key + layer.value) for layer in everywhere) * number,
        windowed=sum(layer.heads * (layer.key + layer.value) for layer in windowed) * number,
        window=max((layer.window or 0 for layer in windowed), default=0),
        state=state,
        attention=sum(shape.heads * max(layer.key, layer.value) for layer in everywhere),
    )


def seconds(load: Work, card: Card, constants: Constants, depth: float) -> float:
    """Of one decode step of one answer with `depth` tokens behind it."""
    return load.reads(depth) / (constants.efficiency * card.bandwidth) + constants.layers(load)


def decode(load: Work, card: Card, depth: float, constants: Constants | None = None) -> Speed:
    """Tokens a second of one answer alone. Without constants of the machine, those of its kind of card."""
    known = constants or fitted(card.kind)
    return _speed(1 / seconds(load, card, known, depth), known.around(load), known.basis)


def offloaded(load: Work, card: Card, depth: float, *, outside: float, system: float, constants: Constants) -> Speed:
    """Tokens a second when `outside` of the weights' bytes (0 to 1) are read by processors instead.

    `system` is what system memory delivers, bytes a second (measured; else about 0.7 of what is printed on it).
    """
    if not 0 <= outside <= 1:
        raise SpeedError(f"the part outside the card is {outside}; it is a share from 0 to 1")
    weights = load.weights()
    inside = weights * (1 - outside) + load.history(depth)
    taken = inside / (constants.efficiency * card.bandwidth) + constants.layers(load)
    return _speed(
        1 / (taken + weights * outside / system), (-WIDEST, 0.25), "offload: estimated, not fitted to measurements"
    )


def prefill(load: Work, card: Card, tokens: float, cached: float = 0) -> Speed:
    """Tokens a second of a prompt of `tokens`, `cached` of them computed before. Raises SpeedError without TFLOPS."""
    if card.tflops is None:
        raise SpeedError(
            f"how much a {card.kind} card of this kind computes is not known: give its 16-bit TFLOPS, or calibrate"
        )
    efficiency, band, basis = prefill_constants(card.kind, mixture=load.experts > 0)
    depth = cached + (tokens - cached) / 2
    operations = 2 * load.active + 4 * load.attention * depth
    return _speed(efficiency * card.tflops * 1e12 / operations, band, basis)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Many answers at once on one machine: seconds of a step = bytes x `byte` + answers x `each` + `step`."""

    load: Work
    byte: float
    each: float
    step: float
    largest: int
    """Answers at once that were measured."""
    band: tuple[float, float] = (-WIDEST, WIDEST)
    basis: str = ""

    def seconds(self, answers: float, depth: float, *, shared: bool = False) -> float:
        """Of a step with so many answers. Raises SpeedError beyond twice what was measured."""
        if answers > REACH * self.largest:
            raise SpeedError(
                f"{answers:g} answers at once are more than twice the {self.largest} that were measured: "
                "measure more at once before planning with them"
            )
        return self.load.reads(depth, answers, shared=shared) * self.byte + answers * self.each + self.step

    def rate(self, answers: float, depth: float, *, shared: bool = False) -> Speed:
        """Tokens a second of all answers together."""
        return _speed(answers / self.seconds(answers, depth, shared=shared), self.band, self.basis)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One measured point of one model on one machine."""

    answers: int
    depth: float
    rate: float
    """Tokens a second of all answers together."""
    shared: bool = False


def batch(load: Work, points: Sequence[Point], band: tuple[float, float] | None = None) -> Batch:
    """The curve through measured points of one machine and model. Raises SpeedError below two numbers of answers."""
    if len({point.answers for point in points}) < 2:
        raise SpeedError("a curve over answers at once needs measurements at two numbers of them at least")
    parts = [
        (load.reads(point.depth, point.answers, shared=point.shared), float(point.answers), 1.0) for point in points
    ]
    byte, each, step = nonnegative(parts, [point.answers / point.rate for point in points])
    return Batch(
        load=load,
        byte=byte,
        each=each,
        step=step,
        largest=max(point.answers for point in points),
        band=band or batch_band(),
        basis=f"{len(points)} measured points of this machine",
    )


def unmeasured_batch(load: Work, card: Card, constants: Constants | None = None) -> Batch:
    """The curve of a machine that nobody measured: decode's constants, and what an answer costs on other machines.

    The band is wide; the curve reaches as far as measurements of other machines of this kind do.
    """
    known = constants or fitted(card.kind)
    largest = max((row.batch for row in measurements("batch") if row.card.kind == card.kind), default=8)
    return Batch(
        load=load,
        byte=1 / (known.efficiency * card.bandwidth),
        each=answer_cost() * load.active / card.bandwidth,
        step=known.layers(load),
        largest=largest,
        band=unmeasured_band(),
        basis=f"{known.basis}; no measured batches of this machine",
    )


# --- constants, fitted to the published measurements -----------------------------------------------------------------


def measurements(table: str) -> Sequence[Measured]:
    """The rows of `data/<table>.csv` (decode, prefill or batch)."""
    return _measurements(table)


@cache
def _measurements(table: str) -> Sequence[Measured]:
    models = {row["model"]: _model(row) for row in rows("measured_models")}
    return tuple(_measured(row, models[row["model"]]) for row in rows(table))


def _model(row: Mapping[str, str]) -> Work:
    experts = float(row["expert_bytes"])
    return Work(
        dense=float(row["bytes"]) - float(row["embedding"]) - experts,
        experts=experts,
        share=int(row["used"]) / int(row["count"]) if experts else 0.0,
        layers=int(row["layers"]),
        active=float(row["active_parameters"]),
        cache=float(row["kv"]),
        windowed=float(row["windowed_kv"]),
        window=int(row["window"]),
        attention=float(row["attention"]),
    )


def _measured(row: Mapping[str, str], load: Work) -> Measured:
    tflops = row.get("tflops")
    return Measured(
        source=row["source"],
        device=row["device"],
        model=row["model"],
        test=row.get("test", ""),
        card=Card(
            kind=row["kind"],
            bandwidth=float(row.get("bandwidth_gbs") or 0) * 1e9,
            tflops=float(tflops) if tflops else None,
        ),
        work=load,
        depth=float(row["depth"]) + float(row.get("tokens") or 0) / 2,
        batch=int(row.get("batch") or 1),
        shared=row.get("cache") == "one",
        rate=float(row["tokens_per_second"]),
        date=row["date"],
        build=row["build"],
    )


def fit(chosen: Iterable[Measured]) -> Constants:
    """Efficiency, seconds a layer and seconds more for one with experts that fit these decode rows best."""
    listed = list(chosen)
    inverse, layer, mixture = nonnegative(
        [(row.work.reads(row.depth) / row.card.bandwidth, *_layers(row)) for row in listed],
        [1 / row.rate for row in listed],
    )
    if inverse >= 1:
        return Constants(efficiency=1 / inverse, layer=layer, mixture=mixture)
    # Nothing reads faster than its memory delivers: the rest of the time goes to the layers.
    over = [
        (row.rate * row.work.layers, 1 - row.rate * row.work.reads(row.depth) / row.card.bandwidth) for row in listed
    ]
    rest = sum(layers * left for layers, left in over) / sum(layers**2 for layers, _ in over)
    return Constants(efficiency=1.0, layer=max(rest, 0.0))


def _layers(row: Measured) -> tuple[float, float]:
    """Of a row's model: all layers, and those with experts."""
    return float(row.work.layers), float(row.work.layers if row.work.experts else 0)


def recent(table: str, of: str | None = None) -> Sequence[Measured]:
    """Rows of builds that tell of today's, of one kind of card or all."""
    return [row for row in measurements(table) if not row.old and (of is None or row.card.kind == of)]


@cache
def fitted(of: str) -> Constants:
    """What a kind of card reaches. Raises SpeedError for a kind that nobody measured."""
    listed = recent("decode", of)
    seen = [row for row in listed if not row.held_out]
    if not seen:
        raise SpeedError(f"no measurements of a card of the kind {of!r}; `make calibrate` would bring some")
    plain = fit(seen)
    off = [(row, row.rate * seconds(row.work, row.card, plain, row.depth) - 1) for row in listed]  # measured/predicted
    errors = [error for row, error in off if row.held_out]
    around = band(errors)
    # Hardly any mixture is held out, and they are further off: those of the fit count too, but never narrow the band.
    mixed = band([error for row, error in off if row.work.experts])
    return replace(
        plain,
        band=around,
        mixture_band=(min(around[0], mixed[0]), max(around[1], mixed[1])),
        basis=f"{len(seen)} published measurements of {of} cards, {len(errors)} others for the band",
    )


@cache
def prefill_constants(of: str, *, mixture: bool) -> tuple[float, tuple[float, float], str]:
    """Share of a card's TFLOPS that prompts reach, its band and its basis.

    A kind without fitted prompts lies somewhere between the kinds that have some; a mixture of experts on it loses
    something between what mixtures lose on those.
    """
    if seen := _prompts(of, mixture=mixture):
        share = _mean_share(seen)
        alike = [row for row in recent("prefill", of) if row.held_out and bool(row.work.experts) is mixture]
        errors = [_share(row) / share - 1 for row in alike]
        return share, band(errors), f"{len(seen)} published prompts of {of} cards"
    kinds = sorted({row.card.kind for row in recent("prefill") if not row.held_out})
    dense = {kind: _mean_share(rows) for kind in kinds if (rows := _prompts(kind, mixture=False))}
    if not mixture:
        share, around = _between(list(dense.values()))
        return share, around, f"no published prompts of {of} cards: between those of {', '.join(dense)}"
    lost = {kind: _mean_share(rows) / dense[kind] for kind in dense if (rows := _prompts(kind, mixture=True))}
    share, around = prefill_constants(of, mixture=False)[:2]
    less, within = _between(list(lost.values()))
    basis = f"no published prompts of mixtures on {of} cards: they lose what they lose on {', '.join(lost)}"
    return share * less, _together(around, within), basis


def _prompts(of: str, *, mixture: bool) -> list[Measured]:
    return [row for row in recent("prefill", of) if not row.held_out and bool(row.work.experts) is mixture]


def _mean_share(listed: Sequence[Measured]) -> float:
    return len(listed) / sum(1 / _share(row) for row in listed)


def _between(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """The geometric mean, and how far the least and the most lie from it."""
    middle = math.exp(sum(map(math.log, values)) / len(values))
    return middle, (min(values) / middle - 1, max(values) / middle - 1)


def _together(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """The band of a product whose factors know nothing of each other: squares of logarithms add up."""
    low, high = (math.hypot(*(math.log1p(end(band_of, 0.0)) for band_of in ends)) for end, ends in (
        (min, (one[0], other[0])), (max, (one[1], other[1])),
    ))  # fmt: skip
    return math.exp(-low) - 1, math.exp(high) - 1


def _share(row: Measured) -> float:
    operations = 2 * row.work.active + 4 * row.work.attention * row.depth
    return row.rate * operations / ((row.card.tflops or math.inf) * 1e12)


def curves(chosen: Iterable[Measured]) -> Mapping[tuple[str, str], list[Measured]]:
    """The batch tables: rows of one group and model, whatever their depth."""
    found: dict[tuple[str, str], list[Measured]] = {}
    for row in chosen:
        found.setdefault((row.group, row.model), []).append(row)
    return found


def points(listed: Iterable[Measured]) -> list[Point]:
    """The rows of one table as points."""
    return [Point(answers=row.batch, depth=row.depth, rate=row.rate, shared=row.shared) for row in listed]


def reached(listed: Sequence[Measured], largest: int) -> list[tuple[Measured, float]]:
    """Rows up to twice `largest`, each with the tokens a second that a curve through the rows up to `largest` says."""
    seen = [row for row in listed if row.batch <= largest]
    if len({row.batch for row in seen}) < 3:
        return []
    curve = batch(seen[0].work, points(seen), band=(0, 0))
    beyond = [row for row in listed if largest < row.batch <= REACH * curve.largest]
    return [(row, curve.rate(row.batch, row.depth, shared=row.shared).value) for row in beyond]


def extrapolated() -> list[tuple[Measured, float]]:
    """Every row of the batch tables as seen from half as many answers and fewer."""
    return [
        pair for listed in curves(recent("batch")).values() for top in (4, 8, 16, 32) for pair in reached(listed, top)
    ]


@cache
def batch_band() -> tuple[float, float]:
    """How far measured batches lay from curves through smaller ones."""
    return band([row.rate / value - 1 for row, value in extrapolated()])


@cache
def unmeasured_band() -> tuple[float, float]:
    """How far measured batches lay from curves of machines that nobody measured."""
    return band([row.rate / value - 1 for row, value in unseen()])


@cache
def answer_cost() -> float:
    """What one more answer in a step costs beside reading: bytes for each active parameter (fitted over all kinds)."""
    parts, rest = [], []
    for row in recent("batch"):
        if not row.held_out and row.batch > 1:
            taken = row.batch / row.rate
            parts.append(row.batch * row.work.active / row.card.bandwidth / taken)
            rest.append(1 - _step(row, 0.0) / taken)
    return max(sum(map(float.__mul__, parts, rest)) / sum(part**2 for part in parts), 0.0)


def _step(row: Measured, cost: float) -> float:
    known = fitted(row.card.kind)
    read = row.work.reads(row.depth, row.batch, shared=row.shared) / (known.efficiency * row.card.bandwidth)
    return read + known.layers(row.work) + row.batch * cost * row.work.active / row.card.bandwidth


def unseen() -> list[tuple[Measured, float]]:
    """Held-out rows of the batch tables, each with what is said without any measured batch of that machine."""
    return [(row, row.batch / _step(row, answer_cost())) for row in recent("batch") if row.held_out and row.batch > 1]


def band(errors: Sequence[float]) -> tuple[float, float]:
    """The 5th and the 95th of a hundred of these relative errors; wide when there are too few of them."""
    if len(errors) < LEAST_HELD_OUT:
        return -WIDEST, WIDEST
    ordered = sorted(errors)
    return _quantile(ordered, 0.05), _quantile(ordered, 0.95)


def _quantile(ordered: Sequence[float], part: float) -> float:
    place = part * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _speed(value: float, around: tuple[float, float], basis: str) -> Speed:
    return Speed(value=value, low=value * (1 + min(around[0], 0)), high=value * (1 + max(around[1], 0)), basis=basis)
