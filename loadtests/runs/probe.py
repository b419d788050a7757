"""The probes of a search on a fleet: short ones that end when they are clear, longer ones that are repeated.

Time is what a search has, so its budget is shared out here: a thirtieth for each probe of the search, and what is left
for the repetitions, all of the same length.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from loadtests.analysis import gates, slo
from loadtests.analysis.gates import Side
from loadtests.analysis.metrics import SECOND, Objectives
from loadtests.analysis.search import Budget, OutOfTime, Plan, ProbeResult
from loadtests.analysis.stats import Verdict
from loadtests.generator.loads import FleetError, Held, Load
from loadtests.records import Record
from loadtests.runs.hold import Runner, Tally, grace

SHARE: Final = 1 / 30
WARM_UP: Final = 0.2
"""Of a probe's time."""
ANSWERS: Final = 3
"""A probe lasts at least as long as so many answers, one after the other."""
GROWS: Final = 10
"""And so many times as long as the longest objective: where a tenth too much comes, the queue has then grown to it. In
shorter probes any load looks fine."""
PROBES: Final = 20
"""A search takes about so many."""
LOOKS: Final = (0.2, 0.4, 0.7)
"""After these shares of its time a probe is looked at, and at its end."""
MORE: Final = 1.2
"""How many requests the time allows is told from those at the first look, with so much room: arrivals vary."""

STOPPED: Final = "the search was stopped"


@dataclass(slots=True, kw_only=True)
class Tried:
    """A probe with its records."""

    result: ProbeResult
    held: Held
    window: tuple[int, int]
    final: bool


@dataclass(slots=True, kw_only=True)
class Prober:
    """Runs loads on a fleet within a budget of time; keeps what it saw."""

    fleet: Runner
    load: Callable[[float], Load]
    """What to run for a number of users, or a rate."""
    objectives: Objectives
    plan: Plan
    seconds: float
    """The budget."""
    answer_s: float = 0.0
    """How long an answer takes when nobody else asks."""
    stopped: Callable[[], bool] = lambda: False
    told: Callable[[float, Tally, float], None] = lambda _, __, ___: None
    """Progress: the load, what finished, seconds since its beginning."""
    said: Callable[[str], None] = lambda _: None
    clock: Callable[[], int] = time.monotonic_ns
    tried: list[Tried] = field(default_factory=list)
    trouble: str = ""
    """Why no more loads can be made."""
    began_ns: int | None = None

    def __call__(self, load: float, seed: int, budget: Budget) -> ProbeResult:
        """One probe.

        Raises:
            OutOfTime: there is no time for it any more, somebody stopped the run, or no more loads can be made.
            FleetError: not even the first load could be made.
        """
        seconds = self._time(final=budget.test is None)
        watch = _Watch(load, budget, Tally(self.objectives), seconds, self)
        try:
            held = self.fleet.hold(self.load(load), seed, seconds=seconds, until=watch, grace=grace(self.answer_s))
        except FleetError as error:
            if not self.tried:
                raise
            self.trouble = str(error)
            raise OutOfTime(self.trouble) from error
        window = held.began_ns + round(WARM_UP * seconds * SECOND), held.ended_ns + 1
        n, misses = slo.misses([one for one in held.records if one.intended_ns >= window[0]], self.objectives)
        verdict = watch.budget.verdict(misses, n, watch.before)
        invalid = self._invalid(load, held, window)
        took = (held.ended_ns - held.began_ns) / SECOND
        result = ProbeResult(load, seed, n, misses, verdict, took, invalid)
        self.tried.append(Tried(result=result, held=held, window=window, final=budget.test is None))
        if self.stopped():
            raise OutOfTime(STOPPED)
        return result

    def _invalid(self, load: float, held: Held, window: tuple[int, int]) -> str:
        """Why a probe says nothing; empty when it does."""
        if self.stopped():
            return STOPPED
        checks = gates.check(held.records, self.objectives, client=held.client, window=window)
        slow = [gate for gate in checks if gate.side is Side.CLIENT and gate.passed is False]
        if not slow:
            return ""
        why = "the client was the bottleneck: " + "; ".join(f"{gate.name} {gate.value}" for gate in slow)
        self.said(f"{load:g}: not counted, {why}")
        return why

    @property
    def least(self) -> float:
        """The shortest probe that says something (seconds)."""
        return max(ANSWERS * self.answer_s, GROWS * max(slo.limits(self.objectives).values(), default=0.0))

    def _time(self, *, final: bool) -> float:
        """How long the next probe may take."""
        now = self.clock()
        if self.began_ns is None:
            self.began_ns = now
        left = self.seconds - (now - self.began_ns) / SECOND
        seconds = SHARE * self.seconds
        if final:
            levels = 2 if self.plan.whole else 3
            done = sum(one.final for one in self.tried)
            planned = (levels + 1) * self.plan.repeats  # one load more, as the interval often wants it
            seconds = left / max(planned - done, 1 + -done % self.plan.repeats)
        least = self.least
        if left < max(seconds, least) * 0.99 or self.stopped():
            raise OutOfTime(STOPPED if self.stopped() else f"the {self.seconds:g} s were over")
        return max(seconds, least)


@dataclass(slots=True)
class _Watch:
    """Ends a probe whose verdict is clear.

    The finished requests flatter, as the slow ones still run. So what is seen here only ends the load; the verdict is
    told from all its requests, once the last one is over.
    """

    load: float
    budget: Budget
    tally: Tally
    seconds: float
    prober: Prober
    before: int = 0
    """How many there were at the last look that told nothing."""
    looks: tuple[float, ...] = LOOKS
    most: int = field(init=False)
    """Requests that the plan wants."""

    def __post_init__(self) -> None:
        self.most = self.budget.requests

    def __call__(self, records: Sequence[Record], seconds: float) -> bool:
        if not self.tally.since:
            self.tally.since = self.prober.clock() + round((WARM_UP * self.seconds - seconds) * SECOND)
        self.tally.add(records)
        self.prober.told(self.load, self.tally, seconds)
        if self.prober.stopped():
            return True
        n, part = self.tally.counted, (seconds / self.seconds - WARM_UP) / (1 - WARM_UP)
        if n >= self.most:
            return True
        if self.budget.test is None or n <= self.before or not self.looks or part < self.looks[0]:
            return False
        if len(self.looks) == len(LOOKS):
            # What the time allows may be less than what the plan wants: the error is spent over what there will be.
            likely = min(self.most, math.ceil(MORE * n / part))
            self.budget = Budget(likely, replace(self.budget.test, budget=likely))
        self.looks = self.looks[1:]
        if self.budget.verdict(self.tally.misses, n, self.before) is not Verdict.OPEN:
            return True
        self.before = n
        return False
