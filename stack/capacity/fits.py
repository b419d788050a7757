"""The constants of speed: fitted to one half of the sources of the published measurements. Pure.

A hash picks the half; the other one says how wrong the answers are, as bands (docs/planner.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Final

from stack.capacity.least_squares import nonnegative
from stack.capacity.published import Measured, curves, points, recent
from stack.capacity.roofline import REACH, WIDEST, Constants, SpeedError, seconds, through

LEAST_HELD_OUT: Final = 4


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


def reached(listed: Sequence[Measured], largest: int) -> list[tuple[Measured, float]]:
    """Rows up to twice `largest`, each with the tokens a second that a curve through the rows up to `largest` says."""
    seen = [row for row in listed if row.batch <= largest]
    if len({row.batch for row in seen}) < 3:
        return []
    curve = through(seen[0].work, points(seen), band=(0, 0))
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
