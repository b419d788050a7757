"""What the next step brings: each change of a machine is computed again, with what would follow from it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from stack.capacity import roofline
from stack.capacity.box import Box, placed, serving
from stack.capacity.devices import Device, devices
from stack.capacity.facts import BITS, requantized
from stack.capacity.fit import FEWEST_BITS, MOST_SLOTS, Verdict
from stack.capacity.people import Answer, most, people
from stack.capacity.roofline import SpeedError
from stack.capacity.usage import PeopleError, Slo, Usage

LADDER: Final = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q3_K_M")  # quantizations that people step down
ALIKE: Final = 0.92  # files of one quantization differ by so much in bits for each weight, small models have more
NATIVE: Final = frozenset({"gpt-oss"})  # published in 4 bits only: nobody steps down from there


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change and what follows from it."""

    kind: str
    """slot, slots, quantization, cache, card, other-card, host."""
    what: str
    """In words, with the numbers of this machine."""
    box: Box
    answer: Answer | None
    """None where it cannot be: `refused` says why."""
    refused: str = ""

    def gain(self, before: Answer | None) -> int:
        """Active people more (or fewer) to plan with."""
        return (self.answer.planned if self.answer else 0) - (before.planned if before else 0)


def answer(box: Box, usage: Usage, slo: Slo) -> Answer:
    """Who is served by it. Raises PeopleError when it does not fit, or nobody can say how quick it is."""
    return people(usage, slo, serving(box, usage))


def steps(box: Box, usage: Usage, slo: Slo, *, other: Device | None = None) -> tuple[Step, ...]:
    """Every next step. `other` is the card to compare with; without one, the next quicker one with as much memory."""
    return tuple(_step(kind, what, tried, usage, slo) for kind, what, tried in _changes(box, usage, slo, other))


def widest(box: Box, usage: Usage, slo: Slo) -> Box:
    """The same with the number of slots (as many as now, or up to four times) that serves the most people."""
    slots = box.settings.slots
    best, served = box, (-1, -1)
    for count in sorted({slots, slots + 1, slots + slots // 2, 2 * slots, 3 * slots, 4 * slots}):
        tried = replace(box, settings=replace(box.settings, slots=count))
        if count > MOST_SLOTS or (now := _planned(tried, usage, slo)) <= served:
            continue
        best, served = tried, now
    return best


def _planned(box: Box, usage: Usage, slo: Slo) -> tuple[int, int]:
    """Active people to plan with, and those that are expected; less than none where nothing can be said."""
    try:
        serves = serving(box, usage)
        if usage.input_tokens + usage.output_tokens > serves.context:
            return -1, -1
        value = most(usage, slo, serves, "value")
        return value if serves.measured else most(usage, slo, serves, "low"), value
    except PeopleError:
        return -1, -1


def _step(kind: str, what: str, box: Box, usage: Usage, slo: Slo) -> Step:
    try:
        return Step(kind=kind, what=what, box=box, answer=answer(box, usage, slo))
    except PeopleError as wrong:
        return Step(kind=kind, what=what, box=box, answer=None, refused=str(wrong))


def _changes(box: Box, usage: Usage, slo: Slo, other: Device | None) -> Iterator[tuple[str, str, Box]]:
    slots = box.settings.slots
    more = replace(box, settings=replace(box.settings, slots=slots + 1))
    full = placed(more)[0].verdict is Verdict.NO

    def freed(tried: Box) -> Box:
        """Memory that a change frees becomes slots, where it is what keeps them away now."""
        return widest(tried, usage, slo) if full else tried

    yield "slot", f"one more slot ({slots + 1})", more
    if not full and (best := widest(box, usage, slo)).settings.slots > slots + 1:
        yield "slots", f"{best.settings.slots} slots", best
    if smaller := _smaller(box):
        shape = requantized(box.known.shape, smaller)
        named = replace(shape, name=f"{shape.name} in {smaller}")
        tried = freed(replace(box, known=replace(box.known, shape=named)))
        yield "quantization", f"the quantization {smaller}{_with(tried, slots)}", tried
    if box.settings.cache == "f16" and box.known.shape.caches:
        tried = freed(replace(box, settings=replace(box.settings, cache="q8_0", flash_attention=True)))
        yield "cache", f"a cache of 8 bits (kvCache: q8_0){_with(tried, slots)}", tried
    if not box.device.whole:
        yield "card", f"one more card ({box.cards + 1} x {box.device.id})", replace(box, cards=box.cards + 1)
    if card := other or quicker(box, usage, slo):
        tried = freed(_with_card(box, card))
        yield "other-card", f"{tried.name} in its place{_with(tried, slots)}", tried
    yield "host", f"one more host like it ({box.hosts + 1})", replace(box, hosts=box.hosts + 1)


def _with_card(box: Box, card: Device) -> Box:
    """Another card. What was measured is of this machine and tells nothing of that one."""
    return replace(box, device=card, machine=None, prompts=None)


def _with(box: Box, before: int) -> str:
    return f" with {box.settings.slots} slots" if box.settings.slots != before else ""


def _smaller(box: Box) -> str | None:
    """The next smaller quantization that people use."""
    shape = box.known.shape
    bits = shape.size * 8 / shape.parameters
    if shape.architecture in NATIVE:
        return None
    return next((name for name in LADDER if FEWEST_BITS <= BITS[name] < ALIKE * bits), None)


def quicker(box: Box, usage: Usage, slo: Slo) -> Device | None:
    """The card of the same kind with as much memory, the next higher bandwidth and known TFLOPS that serves more."""
    now = box.device
    try:
        kind, before = roofline.kind(now.id), _planned(box, usage, slo)
    except SpeedError:
        return None
    better = sorted(
        (
            one
            for one in devices().values()
            if one.memory >= now.memory
            and (one.bandwidth or 0) > (now.bandwidth or 0)
            and one.tflops is not None
            and roofline.kind(one.id) == kind
        ),
        key=lambda one: (one.bandwidth or 0, one.price is None, one.price or 0),
    )
    return next((one for one in better if _planned(_with_card(box, one), usage, slo)[0] > max(before[0], 0)), None)
