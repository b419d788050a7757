"""The probes of a search on a fleet: short ones that end when they are clear, longer ones that are repeated.

Time is what a search has, so its budget is shared out here: a thirtieth for each probe of the search, and what is left
for the repetitions, all of the same length.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from loadtests import gates, slo
from loadtests.gates import Side
from loadtests.hold import Runner, Tally, grace
from loadtests.loads import Held, Load
from loadtests.metrics import SECOND, Objectives
from loadtests.records import Record
from loadtests.search import Budget, OutOfTime, Plan, ProbeResult
from loadtests.stats import Verdict

SHARE: Final = 1 / 30
WARM_UP: Final = 0.2
"""Of a probe's time."""
ANSWERS: Final = 3
"""A probe lasts at least as long as so many answers, one after the other."""
LOOKS: Final = (0.125, 0.25, 0.625)
"""At these shares of its requests a probe is looked at, and at its end."""


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
    told: Callable[[Tally, float], None] = lambda _, __: None
    clock: Callable[[], int] = time.monotonic_ns
    tried: list[Tried] = field(default_factory=list)
    began_ns: int | None = None

    def __call__(self, load: float, seed: int, budget: Budget) -> ProbeResult:
        """One probe. Raises OutOfTime where there is no time for it any more, or somebody stopped the run."""
        seconds = self._time(final=budget.test is None)
        watch = _Watch(budget, Tally(self.objectives), seconds, self)
        held = self.fleet.hold(self.load(load), seed, seconds=seconds, until=watch, grace=grace(self.answer_s))
        if self.stopped():
            raise OutOfTime("the search was stopped")
        window = held.began_ns + round(WARM_UP * seconds * SECOND), held.ended_ns + 1
        n, misses = slo.misses([one for one in held.records if one.intended_ns >= window[0]], self.objectives)
        verdict = watch.budget.verdict(misses, n, watch.before)
        checks = gates.check(held.records, self.objectives, client=held.client, window=window)
        slow = [gate for gate in checks if gate.side is Side.CLIENT and gate.passed is False]
        invalid = "; ".join(f"{gate.name} {gate.value}" for gate in slow)
        took = (held.ended_ns - held.began_ns) / SECOND
        result = ProbeResult(
            load, seed, n, misses, verdict, took, invalid and f"the client was the bottleneck: {invalid}"
        )  # fmt: skip
        self.tried.append(Tried(result=result, held=held, window=window, final=budget.test is None))
        return result

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
        least = ANSWERS * self.answer_s
        if left < max(seconds, least) * 0.99 or self.stopped():
            raise OutOfTime("the search was stopped" if self.stopped() else f"the {self.seconds:g} s were over")
        return max(seconds, least)


@dataclass(slots=True)
class _Watch:
    """Ends a probe whose verdict is clear.

    The finished requests flatter, as the slow ones still run. So what is seen here only ends the load; the verdict is
    told from all its requests, once the last one is over.
    """

    budget: Budget
    tally: Tally
    seconds: float
    prober: Prober
    before: int = 0
    """How many there were at the last look that told nothing."""
    _looks: list[float] = field(default_factory=list)

    def __call__(self, records: Sequence[Record], seconds: float) -> bool:
        if not self.tally.since:
            self.tally.since = self.prober.clock() + round((WARM_UP * self.seconds - seconds) * SECOND)
        self.tally.add(records)
        self.prober.told(self.tally, seconds)
        if self.prober.stopped():
            return True
        n, part = self.tally.counted, (seconds / self.seconds - WARM_UP) / (1 - WARM_UP)
        if n >= self.budget.requests:
            return True
        if self.budget.test is None or part < LOOKS[0]:
            return False
        if not self._looks:
            # What the time allows may be less than what the plan wants: the error is spent over what there will be.
            most = max(1, min(self.budget.requests, round(n / part)))
            self.budget = Budget(most, replace(self.budget.test, budget=most))
            self._looks = [share * most for share in LOOKS]
        if n < self._looks[0]:
            return False
        self._looks = [look for look in self._looks if look > n] or [float("inf")]
        if self.budget.verdict(self.tally.misses, n, self.before) is not Verdict.OPEN:
            return True
        self.before = n
        return False
