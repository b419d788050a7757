"""How quick one model will be on one machine: alone, with its prompt, and with all slots at work. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from stack.capacity import roofline, speed
from stack.capacity.calibrate import Machine
from stack.capacity.roofline import Card, Speed, SpeedError
from stack.capacity.shape import Shape

PROMPT: Final = 2048  # tokens of the prompt whose time is told, at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """Predictions of one model's speed, tokens a second each."""

    depth: int
    """Tokens behind each answer."""
    slots: int
    alone: Speed
    together: Speed | None
    """All slots at work, their answers added up; None beyond what was measured."""
    prompt: int
    """Tokens of the prompt."""
    prefill: Speed | None
    """None where nobody says how much the card computes."""


def outlook(
    shape: Shape, card: Card, *, slots: int, context: int, cache: str = "f16", machine: Machine | None = None
) -> Outlook:
    """Of a model whose slots are half full. A calibrated machine's own constants go before those of its kind."""
    load, depth = roofline.work(shape, cache), context // 2
    known = machine.constants(shape.name) if machine else None
    curve = (machine and machine.batch(shape.name, load)) or speed.unmeasured_batch(load, card, known)
    prompt = min(PROMPT, context)
    return Outlook(
        depth=depth,
        slots=slots,
        alone=machine.decode(shape.name, load, depth) if machine else speed.decode(load, card, depth),
        together=_or_none(lambda: curve.rate(slots, depth)) if slots > 1 else None,
        prompt=prompt,
        prefill=_or_none(lambda: speed.prefill(load, card, prompt)),
    )


def _or_none(said: Callable[[], Speed]) -> Speed | None:
    try:
        return said()
    except SpeedError:
        return None
