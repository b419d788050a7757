"""A machine to be planned: which model with which settings on which cards, and how it serves people. Pure.

Where the model has room on one card, each card runs an engine of its own and the gateway shares the requests out; else
the cards of a host share its layers, which brings room and no speed. Hosts are always engines of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType
from typing import Final

from stack.capacity import fits, published, roofline, speed
from stack.capacity.calibrate import Machine
from stack.capacity.devices import Device
from stack.capacity.facts import Known
from stack.capacity.fit import Host, Placed, Settings, Verdict, gib, place
from stack.capacity.roofline import Card, Constants, Speed, SpeedError, Work
from stack.capacity.serving import Serving
from stack.capacity.usage import PeopleError, Usage

WIDE: Final = 64  # tokens of a prompt that are computed at once at least, however many there are


class NoRoomError(PeopleError):
    """The model does not fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Everything that decides how a model serves."""

    known: Known
    device: Device
    settings: Settings
    cards: int = 1
    """Of each host, all alike."""
    hosts: int = 1
    reserved: int = 0
    """Bytes of each card that others use: embeddings, other models, a desktop."""
    machine: Machine | None = None
    """What this machine was measured to do."""
    prompts: Speed | None = None
    """What it was measured to compute prompts with, tokens a second; None plans with published ones."""
    ceilings: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Gateway, router, network: tokens a second."""

    def __post_init__(self) -> None:
        """Raises PeopleError for no card at all."""
        if self.cards < 1 or self.hosts < 1 or self.settings.slots < 1:
            raise PeopleError("a machine has at least one host, with one card and one slot")

    @property
    def name(self) -> str:
        """For people."""
        many = f"{self.cards} x {self.device.id}" if self.cards > 1 else self.device.id
        return f"{self.hosts} hosts with {many} each" if self.hosts > 1 else many


def placed(box: Box) -> tuple[Placed, int]:
    """How the model lies there, and how many engines that makes."""
    memory = box.device.memory - box.reserved
    one = place(Host(name=box.device.id, memory=(memory,)), box.known, box.settings)
    if box.cards == 1 or one.verdict is not Verdict.NO:
        return one, box.cards * box.hosts
    return place(Host(name=box.name, memory=(memory,) * box.cards), box.known, box.settings), box.hosts


def serving(box: Box, usage: Usage) -> Serving:
    """What people notice of it. Raises NoRoomError, or PeopleError when nobody can say how quick it is."""
    lies, engines = placed(box)
    if lies.verdict is Verdict.NO:
        raise NoRoomError(
            f"{lies.model} with {lies.run.slots} slots of {lies.run.context} tokens takes {gib(lies.need.total)}, "
            f"{box.name} has {gib(lies.budget)}"
        )
    larger, as_many = placed(replace(box, settings=replace(box.settings, slots=lies.run.slots + 1)))
    # Ollama gives some models one slot, whatever the memory.
    room = None if larger.run.slots == lies.run.slots else larger.verdict is not Verdict.NO and as_many == engines
    try:
        card = roofline.card(box.device, box.cards if engines == box.hosts else 1)
        load = roofline.work(box.known.shape, lies.run.cache)
        decode, measured = _decode(box, load, card, usage, lies.run.slots)
        return Serving(
            decode=decode,
            prefill=box.prompts or _prefill(load, card, usage),
            context=lies.run.context,
            engines=engines,
            measured=measured,
            room=room,
            ceilings=box.ceilings,
        )
    except SpeedError as wrong:
        raise PeopleError(f"{box.name}: {wrong}") from wrong


def _decode(box: Box, load: Work, card: Card, usage: Usage, slots: int) -> tuple[tuple[Speed, ...], bool]:
    """What 1 … `slots` answers get together, and whether such batches were measured on this machine."""
    name, depth, machine = box.known.shape.name, usage.depth, box.machine
    measured = machine.batch(name, load) if machine else None
    known: Constants | None = machine.constants(name) if machine else None
    curve = measured or speed.unmeasured_batch(load, card, known)
    alone = machine.decode(name, load, depth) if machine else speed.decode(load, card, depth)
    return (alone, *(curve.rate(count, depth) for count in range(2, slots + 1))), measured is not None


def _prefill(load: Work, card: Card, usage: Usage) -> Speed:
    """Of the part of a prompt that is not cached."""
    if card.tflops is not None:
        return speed.prefill(load, card, usage.input_tokens, usage.input_tokens * usage.cached)
    return floor(load, card, usage.input_tokens)


def floor(load: Work, card: Card, tokens: float) -> Speed:
    """Prompts of a card of which nobody says how much it computes: as many answers at once as a batch computes anyway.

    The band is what published prompts of cards of known bandwidth reached beside this. Raises SpeedError for a kind of
    card without published prompts.
    """
    if card.kind not in {row.card.kind for row in published.measurements("prefill")}:
        raise SpeedError("how much such a card computes is not known: give its 16-bit TFLOPS in devices.csv")
    value = _wide(load, card, tokens / 2)
    least, middle, top = beside()
    return Speed(
        value=value * middle,
        low=value * least,
        high=value * top,
        basis=f"TFLOPS not known: what a batch of {WIDE} does, beside published prompts",
    )


def _wide(load: Work, card: Card, depth: float) -> float:
    known = fits.fitted(card.kind)
    read = load.reads(depth, WIDE, shared=True) / (known.efficiency * card.bandwidth)
    return WIDE / (read + WIDE * fits.answer_cost() * load.active / card.bandwidth + known.layers(load))


@cache
def beside() -> tuple[float, float, float]:
    """Published prompts of dense models over `_wide`: least, middle, most."""
    bandwidths = {
        row.device: row.card.bandwidth for table in ("decode", "batch") for row in published.measurements(table)
    }
    over = sorted(
        row.rate / _wide(row.work, replace(row.card, bandwidth=bandwidths[row.device]), row.depth)
        for row in published.recent("prefill")
        if row.device in bandwidths and not row.work.experts
    )
    return over[0], over[len(over) // 2], over[-1]
