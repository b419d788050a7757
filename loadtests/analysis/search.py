"""The highest load that keeps the objectives: found by doubling, isotonic bisection, and repeated final probes.

Pure: it asks a probe function, which runs the load for real or in virtual time. A load is a number of users or a rate
in requests a second. An objective is "at most this share may miss", so errors and timeouts can be counted as misses,
and the average over repeated probes is not biased as a percentile of few requests would be.

The interval allows for dependent requests because it comes from whole probes repeated with seeds of their own: they are
drawn again and again, each time through the isotonic fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtests.analysis.stats import Interval, Sequential, Verdict, percentile, student

Floats = NDArray[np.float64]
_ROUNDS: Final = 600
_EXTENSIONS: Final = 4
_LEAST: Final = 3
"""Fewer repetitions tell no interval."""
DIFFER: Final = 0.8
"""Up to here (standard deviation over mean of the shares at one load) the intervals have been proven."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How long a probe may run, and when it may stop."""

    requests: int
    """At most so many in its steady part."""
    test: Sequential | None
    """Ends the probe as soon as the verdict is clear; None: it runs to its end, so that its share is unbiased."""

    def verdict(
        self, misses: Mapping[str, int], n: int, before: int = 0, effective: Mapping[str, float] | None = None
    ) -> Verdict:
        """The verdict of a look at a running probe: FAIL by one objective, PASS by all.

        Args:
            misses: by objective.
            n: requests so far.
            before: requests at the look before.
            effective: how many independent requests these are worth, by objective.
        """
        if self.test is None:
            return Verdict.OPEN
        worth = effective or {}
        seen = {self.test.look(count, n, before, worth.get(name)) for name, count in misses.items()}
        if Verdict.FAIL in seen:
            return Verdict.FAIL
        # Too much load looks fine while its queue still grows, so a pass takes half the budget; a failure does not.
        return Verdict.PASS if seen == {Verdict.PASS} and 2 * n >= self.requests else Verdict.OPEN


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a probe has seen."""

    load: float
    seed: int
    n: int
    """Requests in its steady part: completed, failed and timed out ones."""
    misses: Mapping[str, int]
    """How many of them missed, by objective. Errors miss every objective."""
    verdict: Verdict = Verdict.OPEN
    seconds: float = 0.0
    invalid: str = ""
    """Why this probe says nothing (a gate failed, the client was the bottleneck); empty when it does."""

    @property
    def share(self) -> float:
        """The share that missed the objective that was missed most."""
        return max(self.misses.values(), default=0) / self.n if self.n else 1.0


Probe = Callable[[float, int, Budget], ProbeResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to search."""

    start: float
    """The first load that is tried."""
    highest: float
    """Never more than this."""
    lowest: float
    """When even this fails, no load holds."""
    whole: bool = False
    """Loads are whole numbers, as users are."""
    allowed: float = 0.05
    """The share that may miss: 0.05 for p95."""
    requests: int = 2000
    """For a probe of the search, at most; it ends when it is clear."""
    final_requests: int = 2000
    """For each repetition at the end."""
    tolerance: float = 0.05
    """The search ends when its bracket is this narrow, as a share of the load."""
    repeats: int = 5
    """How often each final load is probed. At least 3."""
    probes: int = 30
    """For the search, at most."""
    retries: int = 2
    """How often a probe that says nothing is tried again, as after a moment in which the client was kept waiting."""
    confidence: float = 0.95
    seed: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.lowest <= self.start <= self.highest:
            raise ValueError(
                f"lowest {self.lowest:g}, start {self.start:g}, highest {self.highest:g}: they must be above zero and "
                "in this order"
            )
        if self.repeats < _LEAST:
            raise ValueError(f"{self.repeats} repeats tell no interval; allowed: 3 and more")


class OutOfTime(Exception):
    """A probe may raise it: the time for the whole search is over. The search then says what it knows."""


class Ending(StrEnum):
    """What a search came to."""

    FOUND = "found"
    NONE = "none"
    """Not even the lowest load holds: its probe has clearly failed."""
    ALL = "all"
    """The highest load that was allowed still holds: its probe has clearly passed."""
    UNCLEAR = "unclear"
    """The probes say too little, or contradict each other too much, for a number."""
    INVALID = "invalid"
    """A probe could not be believed; nothing is said."""


@dataclass(frozen=True, slots=True)
class Found:
    """The answer of a search."""

    ending: Ending
    load: Interval | None
    """The highest load that keeps all objectives; None unless found."""
    why: str
    probes: tuple[ProbeResult, ...] = ()
    """Those of the search, in their order."""
    finals: tuple[ProbeResult, ...] = ()
    """The repeated ones that the interval comes from."""
    binds: str = ""
    """The objective that is missed first."""
    caution: str = ""
    """Why the interval may be too narrow; empty when it has been proven for probes such as these."""


@dataclass(slots=True)
class _Search:
    plan: Plan
    probe: Probe
    done: list[ProbeResult] = field(default_factory=list)
    finals: list[ProbeResult] = field(default_factory=list)

    def ask(self, load: float, budget: Budget) -> ProbeResult:
        for attempt in range(1 + self.plan.retries):
            seed = self.plan.seed * 1_000_003 + len(self.done) + 1009 * len(self.finals) + 101 * attempt
            result = self.probe(load, seed, budget)
            if not result.invalid and result.n == 0:
                result = replace(result, invalid="no request completed; a longer search (BUDGET) has longer probes")
            if not result.invalid:
                break
        return result

    def look(self, load: float) -> ProbeResult:
        test = Sequential(self.plan.allowed, self.plan.requests, self.plan.confidence)
        result = self.ask(load, Budget(self.plan.requests, test))
        self.done.append(result)
        return result

    def bracket(self) -> tuple[float | None, float | None]:
        """The highest load that holds and the lowest that does not, by the isotonic fit of all probes so far."""
        loads = sorted({one.load for one in self.done})
        shares, weights = [], []
        for load in loads:
            here = [one for one in self.done if one.load == load]
            # A clear verdict counts as it was given: its probe was cut short, so its share alone says less.
            sure = next((one.verdict for one in here if one.verdict is not Verdict.OPEN), Verdict.OPEN)
            share = sum(one.share * one.n for one in here) / sum(one.n for one in here)
            if sure is Verdict.PASS:
                share = min(share, self.plan.allowed)
            shares.append(share)
            weights.append(float(sum(one.n for one in here)))
        fit = isotonic(np.array([shares]), np.array([weights]))[0]
        good = [load for load, share in zip(loads, fit, strict=True) if share <= self.plan.allowed]
        bad = [load for load, share in zip(loads, fit, strict=True) if share > self.plan.allowed]
        return (max(good) if good else None), (min(bad) if bad else None)

    def narrow(self, low: float, high: float) -> bool:
        return high <= low * (1 + self.plan.tolerance) or (self.plan.whole and high - low <= 1)

    def known(self) -> str:
        """What the probes so far say, in words."""
        low, high = self.bracket() if self.done else (None, None)
        holds = "no load was seen to hold" if low is None else f"the objectives hold at {low:g}"
        return holds + ("" if high is None else f", they do not at {high:g}")

    def rounded(self, load: float) -> float:
        load = min(max(load, self.plan.lowest), self.plan.highest)
        return float(round(load)) if self.plan.whole else float(f"{load:.6g}")


def search(plan: Plan, probe: Probe, told: Callable[[str], None] = lambda _: None) -> Found:
    """Finds the highest load that keeps the objectives.

    Args:
        plan: how.
        probe: runs a load with a seed within a budget.
        told: is given a line of progress for each probe.
    """
    run = _Search(plan, probe)
    try:
        return _searched(run, told)
    except OutOfTime as over:
        return Found(Ending.UNCLEAR, None, f"{over}: {run.known()}", tuple(run.done), tuple(run.finals))


def _searched(run: _Search, told: Callable[[str], None]) -> Found:
    plan = run.plan
    load = run.rounded(plan.start)
    for _ in range(plan.probes):
        result = run.look(load)
        told(f"{load:g}: {result.share:.1%} of {result.n} missed, {result.verdict}")
        if result.invalid:
            return Found(Ending.INVALID, None, f"the probe at {load:g} says nothing: {result.invalid}", tuple(run.done))
        low, high = run.bracket()
        if low is None:
            if load <= plan.lowest:
                return _never(run) if result.verdict is Verdict.FAIL else _open(run, "the lowest load")
            load = run.rounded(min(one.load for one in run.done) / 2)
        elif high is None:
            if low >= run.rounded(plan.highest):
                if result.verdict is not Verdict.PASS:
                    return _open(run, "the highest load that was allowed")
                why = f"the objectives still hold at {low:g}, the highest load that was allowed"
                return Found(Ending.ALL, None, why, tuple(run.done))
            load = run.rounded(2 * low)
        elif run.narrow(low, high):
            return _finish(run, low, high, told)
        else:
            load = run.rounded(math.sqrt(low * high))
            if load in {low, high}:
                return _finish(run, low, high, told)
    return Found(Ending.UNCLEAR, None, f"{plan.probes} probes did not narrow it down", tuple(run.done))


def _open(run: _Search, place: str) -> Found:
    """The plan ends without a clear verdict: a share of few requests, or one near what may miss, is none."""
    last, worst = run.done[-1], _worst(run)
    why = (
        f"{worst} was missed by {last.misses.get(worst, 0)} of {last.n} requests at {last.load:g}, {place}, which "
        "settles neither that it holds nor that it does not; a longer search (BUDGET) has longer probes, or hold that "
        "load by itself"
    )
    return Found(Ending.UNCLEAR, None, why, tuple(run.done), binds=worst)


def _worst(run: _Search) -> str:
    """The objective that the last probe missed most."""
    return max(run.done[-1].misses.items(), key=lambda item: item[1], default=("the objective", 0))[0]


def _never(run: _Search) -> Found:
    worst = _worst(run)
    return Found(
        Ending.NONE,
        None,
        f"{worst} is missed by {run.done[-1].share:.0%} of the requests even at {run.done[-1].load:g}, the lowest "
        "load: no load keeps it; allow more, or change what serves",
        tuple(run.done),
        binds=worst,
    )


def _finish(run: _Search, low: float, high: float, told: Callable[[str], None]) -> Found:
    """Repeats probes around the bracket, until the crossing is inside, and draws the interval from them."""
    plan = run.plan
    results: dict[float, list[ProbeResult]] = {}
    middle, step = math.sqrt(low * high), 1 + plan.tolerance
    around = [low, high] if plan.whole and high - low <= 1 else [middle / step, middle, middle * step]
    fresh = sorted({run.rounded(load) for load in around})
    order = np.random.default_rng(plan.seed)
    over = ""
    for _ in range(_EXTENSIONS + 1):
        try:
            # Each load once in a round, in any order: what changes with time (heat, caches) does not look like load.
            for load in (float(one) for _ in range(plan.repeats) for one in order.permutation(np.array(fresh))):
                result = run.ask(load, Budget(plan.final_requests, None))
                run.finals.append(result)
                told(f"again {load:g}: {result.share:.1%} of {result.n} missed")
                if result.invalid:
                    why = f"a repetition at {load:g} says nothing: {result.invalid}"
                    return Found(Ending.INVALID, None, why, tuple(run.done), tuple(run.finals))
                results.setdefault(load, []).append(result)
        except OutOfTime as error:
            over = f"{error}, before all repetitions were done"
            results = {load: ones for load, ones in results.items() if len(ones) >= _LEAST}
            if len(results) < 2:
                raise
        levels = sorted(results)
        crossing = interval(levels, [results[level] for level in levels], plan)
        wider = _wider(levels, crossing[1], plan)
        fresh = [load for load in (run.rounded(one) for one in wider) if load not in results]
        if over or not fresh:
            break
    binds, answer = crossing
    if not plan.lowest <= answer.value <= plan.highest or answer.low >= levels[-1] or answer.high <= levels[0]:
        why = "the repeated probes contradict the search; the system under test may have changed meanwhile"
        return Found(Ending.UNCLEAR, None, why, tuple(run.done), tuple(run.finals), binds)
    return Found(
        Ending.FOUND,
        answer,
        f"{answer.value:.4g} ({plan.confidence:.0%} interval {answer.low:.4g} to {answer.high:.4g}); {binds} binds",
        tuple(run.done),
        tuple(run.finals),
        binds,
        "; ".join(
            one for one in (over, _caution([one for ones in results.values() for one in ones], answer.value)) if one
        ),
    )


def _caution(finals: Sequence[ProbeResult], value: float) -> str:
    """A warning when probes of one load differ so much that five of them do not show how far they can."""
    near = sorted({one.load for one in finals}, key=lambda load: abs(math.log(load / value)))[:2]
    shares = [np.array([one.share for one in finals if one.load == load]) for load in near]
    differ = sum(float(np.std(one, ddof=1)) / max(float(one.mean()), 1e-3) for one in shares) / len(shares)
    if differ <= DIFFER:
        return ""
    return (
        f"probes of the same load differ by {differ:.0%} of their mean, so they are too short for this queue and the "
        "interval may be too narrow; give each probe more requests"
    )


def _wider(levels: Sequence[float], answer: Interval, plan: Plan) -> tuple[float, ...]:
    """Loads to probe too, because the interval reaches beyond those that were."""
    down, up = levels[0] / (1 + plan.tolerance), levels[-1] * (1 + plan.tolerance)
    if plan.whole:
        down, up = min(down, levels[0] - 1), max(up, levels[-1] + 1)
    return ((down,) if answer.low < levels[0] else ()) + ((up,) if answer.high > levels[-1] else ())


def isotonic(values: Floats, weights: Floats) -> Floats:
    """The growing rows that are nearest to these rows (pool adjacent violators, by its min-max formula)."""
    rows, columns = values.shape
    weights = np.broadcast_to(weights, values.shape)
    total = np.concatenate([np.zeros((rows, 1)), np.cumsum(values * weights, axis=1)], axis=1)
    mass = np.concatenate([np.zeros((rows, 1)), np.cumsum(weights, axis=1)], axis=1)
    fit = np.full(values.shape, -np.inf)
    for low in range(columns):
        means = (total[:, low + 1 :] - total[:, low : low + 1]) / (mass[:, low + 1 :] - mass[:, low : low + 1])
        best = np.minimum.accumulate(means[:, ::-1], axis=1)[:, ::-1]
        fit[:, low:] = np.maximum(fit[:, low:], best)
    return fit


def interval(levels: Sequence[float], results: Sequence[Sequence[ProbeResult]], plan: Plan) -> tuple[str, Interval]:
    """(the objective that binds, the load at which it is just kept) from repeated probes at several loads.

    Args:
        levels: the loads, growing.
        results: the probes at each.
        plan: for the share that may miss, the confidence and the seed.
    """
    draws = np.random.default_rng(plan.seed + 7)
    repeats = [len(ones) for ones in results]
    # Probes vary alike at loads so near to each other, so their deviations are one pool. Deviations of few repetitions
    # are smaller than in truth: that much is added, and what Student knows of the variance's own error (a crossing
    # rests on the two levels beside it, so it has their freedom only).
    freedom = sum(repeats) - len(repeats)
    tails = student(0.975, 2 * (min(repeats) - 1)) / student(0.975, 1e6)
    wider = math.sqrt(sum(repeats) / freedom) * tails
    picks = [draws.integers(sum(repeats), size=(_ROUNDS, count)) for count in repeats]
    x = np.log(np.array(levels))
    target = math.log(plan.allowed / (1 - plan.allowed))
    values, drawn = {}, []
    for name in sorted(results[0][0].misses):
        middle, pool = [], []
        for ones in results:
            hits = np.array([one.misses[name] for one in ones], dtype=np.float64)
            counts = np.array([one.n for one in ones], dtype=np.float64)
            share = (hits.sum() + 0.5) / (counts.sum() + 1)
            middle.append(math.log(share / (1 - share)))
            pool.append((hits / counts - hits.sum() / counts.sum()) / (share * (1 - share)))
        deviations = wider * np.concatenate(pool)
        rows = [here + deviations[pick].mean(axis=1) for here, pick in zip(middle, picks, strict=True)]
        values[name] = float(_crossing(x, np.array([middle]), target)[0])
        drawn.append(_crossing(x, np.array(rows).T, target))
    binds = min(values, key=lambda name: values[name])
    seen = np.exp(np.sort(np.min(np.array(drawn), axis=0)))
    tail = (1 - plan.confidence) / 2
    answer = Interval(math.exp(values[binds]), percentile(seen, tail), percentile(seen, 1 - tail), plan.confidence)
    return binds, answer


def _crossing(x: Floats, rows: Floats, target: float) -> Floats:
    """Where each row, made to grow, passes the target; beyond the ends the line through the ends goes on."""
    fit = isotonic(rows, np.ones_like(rows))
    last = x.size - 1
    below = (fit <= target).sum(axis=1)
    left = np.clip(below - 1, 0, max(last - 1, 0))
    index = np.arange(rows.shape[0])
    x0, y0, y1 = x[left], fit[index, left], fit[index, left + 1]
    x1 = x[left + 1]
    outside = (below == 0) | (below == last + 1)
    overall = (fit[:, -1] - fit[:, 0]) / (x[-1] - x[0])
    slope = np.where(outside, overall, (y1 - y0) / (x1 - x0))
    anchor_x = np.where(below == last + 1, x[-1], x0)
    anchor_y = np.where(below == last + 1, fit[:, -1], y0)
    far = np.where(target > anchor_y, np.inf, -np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        way = np.where(slope > 1e-9, (target - anchor_y) / slope, far)
    return np.asarray(anchor_x + np.clip(way, x[0] - x[-1] - 0.1, x[-1] - x[0] + 0.1))
