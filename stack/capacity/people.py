"""How many people one model on one machine serves within a service-level objective, and what stops there. Pure.

People think, ask, and read. A question waits for a slot, its prompt is computed (one prompt at a time), then its answer
comes token by token, beside the other slots' answers (`serving`). Slots and people are the exact closed chain of
`queueing`; prompts that come together are a queue before one server. Tests hold both against a simulation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import NormalDist
from typing import Final

from stack.capacity.queueing import MOST, Queue, QueueError, closed
from stack.capacity.roofline import Speed
from stack.capacity.serving import CASES, Case, Serving, Speeds
from stack.capacity.usage import PeopleError, Slo, Usage

MOST_PEOPLE: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """What so many active people meet. Seconds, unless said otherwise."""

    people: int
    ttft: float
    """At the SLO's share of requests, like `tpot`."""
    tpot: float
    wait: float
    """Of `ttft`, for a slot."""
    behind: float
    """Of `ttft`, for prompts of others and one's own."""
    tokens: float
    """Tokens a second that all get."""
    requests: float
    """Requests a second that end."""
    response: float
    """From a question to the end of its answer, on average."""
    crowd: int
    """Requests at work, one's own included, that this share of requests does not find exceeded (a count)."""
    working: float
    """Slots at work, on average (a count)."""
    busy: float
    """Share of the time that anything is at work, 0 to 1."""


class Binds(StrEnum):
    """What stops first."""

    MEMORY = "memory"
    SLOTS = "slots"
    PREFILL = "prefill"
    DECODE = "decode"
    ROUTER = "router"
    GATEWAY = "gateway"
    NETWORK = "network"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A count of people: with the speeds' low ends, with what is expected, with their high ends."""

    low: int
    value: int
    high: int

    def of(self, case: Case) -> int:
        """One of the three."""
        return int(getattr(self, case))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How many people are served."""

    active: Range
    """In a conversation at the same time."""
    named: Range
    """With an account, when `active_share` of them are active at the peak."""
    planned: int
    """Active people to plan with: `value` where batches were measured, else `low`."""
    met: Met
    """What so many meet (one person, when not even one is served well)."""
    binds: Binds
    why: str
    """A sentence: what stops the next person from being served as well."""
    usage: Usage
    slo: Slo
    serving: Serving


def people(usage: Usage, slo: Slo, serving: Serving) -> Answer:
    """The most people whose requests stay within `slo`, and why no more. Raises PeopleError when nobody can tell."""
    refuse(usage, serving.context)
    counts = {case: most(usage, slo, serving, case) for case in CASES}
    active = Range(**counts)
    planned = active.of(serving.plan)
    named = Range(**{case: math.floor(count / usage.active_share + 1e-9) for case, count in counts.items()})
    binds, why = _binding(usage, slo, serving, planned)
    return Answer(
        active=active,
        named=named,
        planned=planned,
        met=meet(max(planned, 1), usage, slo, serving, serving.plan),
        binds=binds,
        why=why,
        usage=usage,
        slo=slo,
        serving=serving,
    )


def refuse(usage: Usage, context: int) -> None:
    """Raises PeopleError for questions that do not fit into a slot of so many tokens together with their answers."""
    if usage.input_tokens + usage.output_tokens > context:
        raise PeopleError(
            f"{usage.input_tokens:.0f} tokens of a question and {usage.output_tokens:.0f} of its answer are more than "
            f"the {context} of a slot: make contextLength larger, or plan with shorter ones"
        )


def most(usage: Usage, slo: Slo, serving: Serving, case: Case) -> int:
    """The largest number of active people for whom `slo` holds; 0 when not even for one."""

    def holds(count: int) -> bool:
        return within(meet(count, usage, slo, serving, case), slo)

    low, high = 0, 1
    while high <= MOST_PEOPLE and holds(high):
        low, high = high, high * 2
    high = min(high, MOST_PEOPLE + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def within(met: Met, slo: Slo) -> bool:
    """Whether both limits hold."""
    return met.ttft <= slo.ttft and met.tpot <= slo.tpot


def meet(count: int, usage: Usage, slo: Slo, serving: Serving, case: Case = "value") -> Met:
    """What so many active people meet. Raises PeopleError for a number that cannot be planned for.

    TTFT is the wait for a slot, the prompts before one's own, one's own, and a step. The three know nothing of each
    other: their means add up, and so do the squares of what each exceeds its mean by for the late ones.
    """
    if not 1 <= count <= MOST:
        raise PeopleError(f"{count} people: between 1 and {MOST} can be planned for")
    speeds = Speeds(serving, usage, case)
    try:
        queue = closed(count, usage.think_s, speeds.ends, serving.slots)
        crowd = _crowd(queue, slo.part)
    except (QueueError, ValueError, OverflowError) as wrong:
        raise PeopleError(f"{count} people cannot be planned for: {wrong}") from wrong
    others = queue.throughput * (count - 1) / count / serving.engines
    before = _prompts_before(others, speeds.prompt, -(-crowd // serving.engines), slo.part, usage.variation)
    own = speeds.prompt, speeds.prompt * usage.longest(slo.part)
    wait, *prompts = _sum((queue.wait, queue.wait_quantile(slo.part)), before, own)
    return Met(
        people=count,
        ttft=wait + math.fsum(prompts) + speeds.step(crowd),
        tpot=_gap(speeds, queue, crowd, usage, slo.part),
        wait=wait,
        behind=math.fsum(prompts),
        tokens=queue.throughput * usage.output_tokens,
        requests=queue.throughput,
        response=queue.response,
        crowd=crowd,
        working=queue.working,
        busy=_busy(count, usage.think_s, queue, speeds),
    )


def _busy(count: int, think: float, queue: Queue, speeds: Speeds) -> float:
    """Share of the time with anything at work: in a closed chain nobody in the room is everybody thinking."""
    if not think:
        return 1.0
    # Arrivals find others as a chain with one person less does; nobody there has this probability for all of them.
    weight, total = 1.0, 1.0
    for present in range(1, count + 1):
        weight *= (count - present + 1) / think / speeds.ends(min(present, queue.slots))
        total += weight
        if total > 1e15:
            return 1.0
    return 1 - 1 / total


def _crowd(queue: Queue, part: float) -> int:
    """Requests at work, one's own included, that this share of requests does not find exceeded."""
    total = 0.0
    for others, probability in enumerate(queue.found):
        total += probability
        if total >= part or others + 1 >= queue.slots:
            return others + 1
    return min(len(queue.found), queue.slots)


def _gap(speeds: Speeds, queue: Queue, crowd: int, usage: Usage, part: float) -> float:
    """Seconds between an answer's tokens that this share of answers does not exceed.

    As many at work as usual; what a crowd adds, and what more prompts of neighbours than usual add (they come at
    random), know nothing of each other.
    """
    seen = math.fsum(share * min(others + 1, queue.slots) for others, share in enumerate(queue.found))
    usual = min(max(round(seen), 1), crowd)
    beside = -(-usual // speeds.engines) - 1
    more = NormalDist().inv_cdf(part) * math.sqrt(beside * (1 + usage.variation)) * speeds.prompt / usage.output_tokens
    return speeds.gap(usual) + math.hypot(speeds.gap(crowd) - speeds.gap(usual), more)


def _sum(*parts: tuple[float, float]) -> list[float]:
    """Of times that add up, each with mean and quantile: what each has in the quantile of their sum."""
    over = [max(late - mean, 0.0) for mean, late in parts]
    share = math.hypot(*over) / math.fsum(over) if any(over) else 0.0
    return [mean + share * more for (mean, _), more in zip(parts, over, strict=True)]


def _prompts_before(rate: float, seconds: float, working: int, part: float, variation: float) -> tuple[float, float]:
    """Seconds that the prompts before one's own take: on average, and at most for this share of requests.

    One server, requests at random: the mean by Pollaczek and Khinchine, the tail exponential with that mean of those
    who wait at all; never more than one prompt of each other slot.
    """
    busy = rate * seconds
    all_others = (working - 1) * seconds
    if busy >= 1:
        return all_others, all_others
    usual = busy * seconds * (1 + variation) / 2 / (1 - busy)
    long = usual / busy * math.log(busy / (1 - part)) if busy > 1 - part else 0.0
    return min(usual, all_others), min(long, all_others)


def _binding(usage: Usage, slo: Slo, serving: Serving, served: int) -> tuple[Binds, str]:
    """What keeps one more person from being served as well, and a sentence about it."""
    case = serving.plan
    if served >= MOST_PEOPLE:
        return Binds.NOTHING, f"{MOST_PEOPLE} people are the most that is looked at, and they are served."
    met = meet(served + 1, usage, slo, serving, case)
    start = f"With {met.people} active people" if served else "Even one person alone"
    share = f"{1 - slo.part:.0%}".replace("%", " %")
    late = f"{start}: {share} of first tokens come after {met.ttft:.3g} s and more, {slo.ttft:g} s are promised"
    slow = f"{start}: tokens come {_ms(met.tpot)} apart, {_ms(slo.tpot)} are promised"
    free = replace(serving, ceilings={})
    narrowest = min(serving.ceilings, key=lambda name: serving.ceilings[name], default=None)
    if narrowest is not None and within(meet(served + 1, usage, slo, free, case), slo):
        limit = serving.ceilings[narrowest]
        text = slow if met.tpot > slo.tpot else late
        return _named(narrowest), f"{text}, because the {narrowest} passes on {limit:.0f} tokens/s at most."
    speeds = Speeds(serving, usage, case)
    working = -(-met.crowd // serving.engines)
    if met.tpot > slo.tpot:
        alone = speeds.alone(working)
        if alone < met.tpot / 2:
            return Binds.PREFILL, f"{slow}, because the prompts of others interrupt the answers."
        return Binds.DECODE, f"{slow}; the engine takes {_ms(alone)} for a step of {working} answers."
    if met.wait <= met.ttft / 2:
        return Binds.PREFILL, f"{late}, {met.behind:.2g} s of it for prompts, which are computed one after the other."
    if working * speeds.prompt > speeds.writing(working):
        return (
            Binds.PREFILL,
            f"{late}, {met.wait:.2g} s of it for a slot; slots are taken up by prompts, not by answers.",
        )
    if _more_slots_help(usage, slo, serving, served):
        if serving.room is False:
            return Binds.MEMORY, f"{late}, {met.wait:.2g} s of it for a slot, and memory has no room for another slot."
        return Binds.SLOTS, f"{late}, {met.wait:.2g} s of it for a slot; more slots would serve more."
    return (
        Binds.DECODE,
        f"{late}, {met.wait:.2g} s of it for a slot, and more slots would only make every answer slower.",
    )


def _more_slots_help(usage: Usage, slo: Slo, serving: Serving, served: int) -> bool:
    """Whether one more slot of each engine, its step as much longer as the last one's, brings half its share of people.

    With one slot nothing is known of two: all measured machines are quicker with two at once.
    """
    slots = len(serving.decode)
    if slots == 1:
        return True

    def longer(case: Case) -> float:
        last, before = (float(getattr(one, case)) for one in (serving.decode[-1], serving.decode[-2]))
        step = max(slots / last, (slots - 1) / before)
        return (slots + 1) / (step + max(slots / last - (slots - 1) / before, 0.0))

    more = Speed(
        value=longer("value"),
        low=min(longer("low"), longer("value")),
        high=max(longer("high"), longer("value")),
        basis=serving.decode[-1].basis,
    )
    wanted = math.ceil(served * (1 + 0.5 / slots)) if served else 1
    tried = replace(serving, decode=(*serving.decode, more))
    return within(meet(max(wanted, served + 1), usage, slo, tried, serving.plan), slo)


def _named(name: str) -> Binds:
    return Binds(name) if name in set(Binds) else Binds.NETWORK


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"
