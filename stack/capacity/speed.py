"""How quick a model answers on a card: one answer at a time, prompts, many answers at once. Pure.

The formulas are in `roofline.py`, their constants for each kind of card in `fits.py`. Prompts are bound by computing.
"""

from __future__ import annotations

from collections.abc import Sequence

from stack.capacity.fits import answer_cost, batch_band, fitted, prefill_constants, unmeasured_band
from stack.capacity.published import measurements
from stack.capacity.roofline import WIDEST, Batch, Card, Constants, Point, Speed, SpeedError, Work, seconds, through


def decode(load: Work, card: Card, depth: float, constants: Constants | None = None) -> Speed:
    """Tokens a second of one answer alone. Without constants of the machine, those of its kind of card."""
    known = constants or fitted(card.kind)
    return Speed.within(1 / seconds(load, card, known, depth), known.around(load), known.basis)


def offloaded(load: Work, card: Card, depth: float, *, outside: float, system: float, constants: Constants) -> Speed:
    """Tokens a second when `outside` of the weights' bytes (0 to 1) are read by processors instead.

    `system` is what system memory delivers, bytes a second (measured; else about 0.7 of what is printed on it).
    """
    if not 0 <= outside <= 1:
        raise SpeedError(f"the part outside the card is {outside}; it is a share from 0 to 1")
    weights = load.weights()
    inside = weights * (1 - outside) + load.history(depth)
    taken = inside / (constants.efficiency * card.bandwidth) + constants.layers(load)
    return Speed.within(
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
    return Speed.within(efficiency * card.tflops * 1e12 / operations, band, basis)


def batch(load: Work, points: Sequence[Point]) -> Batch:
    """The curve through measured points of one machine and model. Raises SpeedError below two numbers of answers."""
    return through(load, points, batch_band())


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
