"""One load, held and judged: the warm-up is cut, and it ends as soon as more time would not tell more.

What runs the load is a fleet (`Runner`); everything here only reads records.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np

from loadtests.analysis import gates, intervals, metrics, slo, stats
from loadtests.analysis.gates import Gate, Server
from loadtests.analysis.metrics import Objectives
from loadtests.generator.loads import Held, Load
from loadtests.records import Outcome, Record, in_order
from loadtests.results import figures
from loadtests.results.schema import Level
from loadtests.results.verdict import Said, judge

NARROW: Final = 0.10
"""A p95 is known well enough when its interval is this share of it to either side."""
LEAST: Final = 0.25
"""A load is held at least for this share of its time, however clear it seems."""
GRACE: Final = 10.0
"""At the end what still runs is waited for so long (seconds), or for two answers."""
ENOUGH: Final = 100
"""So many answers usually show a steady state, and an interval of p95 where they do not wait for each other."""
PAUSE: Final = 1.25
"""Looks become rarer: each costs the client's loop a moment."""

Until = Callable[[Sequence[Record], float], bool]


class Runner(Protocol):
    """What runs a load: the fleet."""

    def hold(self, load: Load, seed: int, *, seconds: float, until: Until | None = None, grace: float = 10) -> Held:
        """Holds a load, asking `until` about twice a second whether to stop, and returns what came of it."""

    @property
    def in_flight(self) -> int:
        """How many requests are under way."""


def grace(answer_s: float) -> float:
    """How long to wait at the end of a load: an answer that is cut says less than a whole one (seconds)."""
    return max(GRACE, 2 * answer_s)


@dataclass(slots=True)
class Tally:
    """What the finished requests say so far, kept up to date at little cost: a client that computes sends late."""

    objectives: Objectives
    since: int = 0
    """Requests that were meant to start before it are not counted (`time.monotonic_ns`)."""
    intended: array[int] = field(default_factory=lambda: array("q"))
    sessions: array[int] = field(default_factory=lambda: array("q"))
    first: array[float] = field(default_factory=lambda: array("d"))
    """TTFT, or the time to the whole answer where there is no token; seconds."""
    each: array[float] = field(default_factory=lambda: array("d"))
    """TPOT, 0 where there is none."""
    outcomes: dict[Outcome, int] = field(default_factory=dict)
    misses: dict[str, int] = field(default_factory=dict)
    counted: int = 0
    tokens: float = 0.0
    first_name: str = "TTFT"
    trouble: str = ""
    """What the latest failure said."""
    texts: bool = False
    """Some answer had text: from then on what asked for none is not in `first`, as in the gate "steady state"."""
    seen: int = 0

    def add(self, records: Sequence[Record]) -> None:
        """Takes those that are new: `records` has the ones before at its beginning."""
        for one in records[self.seen :]:
            if one.intended_ns < self.since:
                continue
            self.outcomes[one.outcome] = self.outcomes.get(one.outcome, 0) + 1
            counted, missed = slo.misses([one], self.objectives)
            self.counted += counted
            for name, count in missed.items():
                self.misses[name] = self.misses.get(name, 0) + count
            self.tokens += metrics.tokens(one)
            self.trouble = one.error[:80] or self.trouble
            if one.outcome is Outcome.OK and counted:
                first = metrics.ttft(one)
                if self.texts and metrics.textless(one):
                    continue
                self.texts = self.texts or first is not None
                self.intended.append(one.intended_ns)
                self.sessions.append(one.session)
                self.first_name = "time" if first is None else "TTFT"
                self.first.append(metrics.e2e(one) if first is None else first)
                self.each.append(metrics.tpot(one) or 0.0)
        self.seen = len(records)

    def narrow(self, width: float = NARROW) -> bool:
        """There is a steady part, and its p95 is known well enough, of whatever has an objective."""
        order = np.argsort(np.asarray(self.intended))
        first, each = np.asarray(self.first)[order], np.asarray(self.each)[order]
        start = stats.steady(first).start
        if start is None:
            return False
        wanted = [first, each] if self.objectives.tpot is not None else [first]
        sessions = np.asarray(self.sessions)[order][start:].tolist()
        return all(_known(values[start:], sessions, first[start:], width) for values in wanted)


def _known(values: stats.Floats, sessions: list[int], queue: stats.Floats, width: float) -> bool:
    try:
        interval = intervals.of_percentile(values, 0.95, sessions, queue)
    except stats.TooFew:
        return False
    return interval.high - interval.low <= 2 * width * interval.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One load, held."""

    label: str
    load: float
    records: tuple[Record, ...]
    window: tuple[int, int]
    """Behind the warm-up, nanoseconds."""
    level: Level
    gates: tuple[Gate, ...]
    said: Said
    """The verdict on this load, and why."""
    missed_share: float
    """Of the objective that was missed most."""


def settled(records: Sequence[Record], whole: tuple[int, int] | None = None) -> tuple[int, int]:
    """The measured part: from where the warm-up is over and as many leave as come, to the end of the load.

    Where no steady state is found the whole is measured: the gate says so.

    Args:
        records: every request of the load.
        whole: when it began and when it ended, nanoseconds; without, its first and its last intended start.
    """
    ordered = in_order(records)
    if not ordered:
        return whole or figures.span(ordered)
    low, high = ordered[0].intended_ns, ordered[-1].intended_ns + 1
    if whole is not None:  # few requests, long apart: their rate is told by the time there was for them
        low, high = min(low, whole[0]), max(high, whole[1])
    every = [one for one in ordered if one.outcome is Outcome.OK]
    done = [one for one in every if not metrics.textless(one)] or every
    times = [metrics.e2e(one) if (first := metrics.ttft(one)) is None else first for one in done]
    start = stats.steady(times).start
    if start is None:
        return low, high
    fill = round(stats.percentile([one.done_ns - one.intended_ns for one in done], 0.95))
    return max(done[start].intended_ns, low + min(fill, (high - low) // 2)), high


def measured(
    label: str,
    load: float,
    held: Held,
    objectives: Objectives,
    server: Server | None = None,
    *,
    allowed: float = 0.05,
    window: tuple[int, int] | None = None,
) -> Measured:
    """What came of a load that was held; `window`: the measured part, where it is not what is behind the warm-up."""
    part = window or settled(held.records, (held.began_ns, held.ended_ns))
    checks = gates.check(
        held.records, objectives, allowed=allowed, client=held.client, server=server, window=part
    )  # fmt: skip
    inside = [one for one in held.records if part[0] <= one.intended_ns < part[1]]
    counted, missed = slo.misses(inside, objectives)
    return Measured(
        label=label, load=load, records=held.records, window=part,
        level=figures.level(label, load, held.records, objectives, part), gates=checks,
        said=judge(held.records, objectives, checks, allowed=allowed, window=part),
        missed_share=max(missed.values(), default=0) / counted if counted else 1.0,
    )  # fmt: skip


@dataclass(slots=True)
class Patience:
    """Says when a load was held for long enough: its p95 is known, or it was interrupted."""

    tally: Tally
    seconds: float
    stopped: Callable[[], bool]
    told: Callable[[Tally, float], None]
    early: bool = True
    _next: float = 0.0

    def __call__(self, records: Sequence[Record], seconds: float) -> bool:
        """Takes what is new; True ends the load."""
        self.tally.add(records)
        self.told(self.tally, seconds)
        if self.stopped():
            return True
        if not self.early or seconds < max(self._next, LEAST * self.seconds):
            return False
        self._next = max(seconds * PAUSE, seconds + 1)
        return self.tally.narrow()


def longer(one: Measured, seconds: float) -> str:
    """How long to hold this load for a verdict, where there were answers but too few of them; empty otherwise."""
    answers = sum(record.outcome is Outcome.OK for record in one.records)
    if one.said[0] != "none" or not 0 < answers < ENOUGH:
        return ""
    minutes = math.ceil(seconds / 60 * 1.2 * ENOUGH / answers)
    return f"{one.label}: {answers} answers are too few for a verdict; FOR={minutes}m would give enough"


def label(load: float, unit: str) -> str:
    """A load in words: "1 user", "2.5 requests/s"."""
    said = f"{load:,.0f}" if load >= 1000 else f"{load:.4g}"
    return "1 user" if unit == "users" and math.isclose(load, 1) else f"{said} {unit}"
