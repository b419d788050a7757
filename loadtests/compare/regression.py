"""Two runs of one load held against each other: worse beyond noise, and beyond what matters, is a regression. Pure.

Latencies are compared by ranks (Brunner and Munzel's form of Mann and Whitney's test): how often a request of now is
slower than one of then. The variance is that of values that resemble each other, as requests of one queue and of one
session do (`stats.effective_size`, `intervals.memory`); where a run is short beside the memory of its queue nothing is
said. Throughput is compared by slices of time (Welch's t). The four comparisons share one error of 1%.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

from loadtests.analysis import intervals, stats
from loadtests.analysis.stats import Floats, Interval
from loadtests.report.svg import number, seconds

ERROR: Final = 0.01
"""Of all comparisons of a run together: how often a run is called worse when nothing has changed."""
MATTERS: Final = 0.05
"""A smaller change is none that anybody would notice."""
LEAST: Final = 50
"""Of so many values on each side, at least, something can be told."""
LATENCIES: Final = {"ttft": "time to first token", "tpot": "time per output token", "e2e": "time to the whole answer"}
SWINGS: Final = 20
"""Of a run that is worth fewer independent values, by the memory of its queue, the variance is not known. In simulation
an alarm of one comparison is then false in at most 0.7% of the pairs of runs, in 0.3% where the load is light."""
THROUGHPUT: Final = "tokens/s"
COMPARISONS: Final = len(LATENCIES) + 1


class CannotCompare(ValueError):
    """There is nothing to compare with, or nothing that may be compared; the message says why and what to do."""


class Sample(BaseModel):
    """The answered requests of the measured part, in the order of time; seconds. None: has no such time."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    sessions: list[int]
    ttft: list[float | None]
    tpot: list[float | None]
    e2e: list[float | None]
    rates: list[float]
    """Output tokens a second in slices of equal length."""

    @model_validator(mode="after")
    def _whole(self) -> Sample:
        if len({len(one) for one in (self.sessions, self.ttft, self.tpot, self.e2e)}) > 1:
            raise ValueError("sessions, ttft, tpot and e2e are of the same requests, and not equally many")
        return self

    def latency(self, name: str) -> tuple[Floats, list[int]]:
        """The values of a metric, and the session of each."""
        pairs = [
            (v, s) for v, s in zip(getattr(self, name), self.sessions, strict=True) if v is not None
        ]  # fmt: skip
        return np.array([value for value, _ in pairs], dtype=np.float64), [session for _, session in pairs]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One metric of two runs. Latencies are seconds (medians), throughput is tokens a second (mean)."""

    name: str
    new: Interval
    old: Interval
    change: float
    """New over old, less one: above 0 is more. Of latencies the median of all pairs (Hodges and Lehmann)."""
    p: float
    """The chance of looking so much worse when nothing has changed."""
    higher_is_worse: bool = True
    unknown: str = ""
    """Why nothing can be said, whatever p is; empty when something can."""

    @property
    def worse(self) -> bool:
        """Beyond noise and beyond what matters."""
        return (
            not self.unknown
            and self.p < ERROR / COMPARISONS
            and (self.change if self.higher_is_worse else -self.change) > MATTERS
        )

    def __str__(self) -> str:
        """For people."""
        show = seconds if self.higher_is_worse else number
        new, old = (
            f"{show(one.value)} ({show(one.low)} to {show(one.high)})" for one in (self.new, self.old)
        )  # fmt: skip
        told = f"{self.change:+.1%}: {new}, was {old}; "
        return told + (f"not compared: {self.unknown}" if self.unknown else f"p = {self.p:.2g}")


def compare(new: Sample, old: Sample) -> tuple[Comparison, ...]:
    """Every metric that both have. Raises CannotCompare where there is none."""
    found = []
    for name, words in LATENCIES.items():
        (now, sessions), (then, before) = new.latency(name), old.latency(name)
        if min(now.size, then.size) >= LEAST:
            found.append(
                Comparison(
                    name=words, new=_median(now, sessions), old=_median(then, before), change=_ratio(now, then) - 1,
                    p=slower(now, sessions, then, before), unknown=short(now, then),
                )
            )  # fmt: skip
    (rate, less), (was, least) = _mean(new.rates), _mean(old.rates)
    if was.value > 0:
        change, p = rate.value / was.value - 1, _welch(was.value - rate.value, less, least)
        found.append(Comparison(name=THROUGHPUT, new=rate, old=was, change=change, p=p, higher_is_worse=False))
    if not found:
        raise CannotCompare("the two runs have no figure in common")
    return tuple(found)


def slower(new: Floats, sessions: Sequence[int], old: Floats, before: Sequence[int]) -> float:
    """The chance (one side) of new values ranking so high above old ones when nothing has changed."""
    ranks, others = _above(new, old), _above(old, new)
    share = float(ranks.mean())  # how often a new value is above an old one
    parts = [_error(ranks, sessions), _error(others, before)]
    return _tail(share - 0.5, [error for error, _ in parts], [freedom for _, freedom in parts])


def short(new: Floats, old: Floats) -> str:
    """Which of the runs is too short beside the memory of its queue, and by how far; empty where none is."""
    for which, values in (("this run", new), ("the baseline", old)):
        known = values.size / intervals.memory(values)
        if known < SWINGS:
            return (
                f"{which} is too short beside the memory of its queue ({values.size:,} answers are worth {known:.0f} "
                f"independent ones, it takes {SWINGS}): hold it at least {math.ceil(10 * SWINGS / known) / 10:g} times "
                "as long, or take a lower load"
            )
    return ""


def _error(values: Floats, sessions: Sequence[int]) -> tuple[float, int]:
    """The squared error of a mean and its degrees of freedom, where values of one time and of one session are alike.

    Neighbours in time and requests of one session both count, and what is in both only once (Cameron, Gelbach, Miller).
    """
    n, alone = values.size, float(values.var(ddof=1)) / values.size
    groups = np.unique(np.asarray(sessions), return_inverse=True)[1]
    count = int(groups.max()) + 1
    memory = intervals.memory(values)
    over_time = alone * max(n / stats.effective_size(values), memory)
    sums = np.bincount(groups, weights=values - values.mean(), minlength=count)
    by_session = float((sums**2).sum()) / n**2 * count / (count - 1) if count > 1 else alone
    # The variance scatters with the memory, whose logarithm has a standard deviation of about 3.5 / sqrt(n / memory).
    freedom = min(_batches(n) - 1, count - 1 if count > 1 else n, max(round(n / memory / 6), 1))
    return max(over_time + by_session - alone, over_time, by_session), freedom


def _ratio(new: Floats, old: Floats) -> float:
    """The median of all pairs' ratios (Hodges and Lehmann); of large samples, of the pairs of 300 quantiles."""
    logs = []
    for values in (new, old):
        shares = (np.arange(min(values.size, 300)) + 0.5) / min(values.size, 300)
        logs.append(np.log(np.quantile(np.maximum(values, 1e-9), shares)))
    return float(np.exp(np.median(logs[0][:, None] - logs[1][None, :])))


def _above(these: Floats, those: Floats) -> Floats:
    """For each of these: the share of those below it; ties count half."""
    ordered = np.sort(those)
    left, right = np.searchsorted(ordered, these, "left"), np.searchsorted(ordered, these, "right")
    above: Floats = (left + right) / 2 / ordered.size
    return above


def _batches(n: int) -> int:
    """As many as `stats.effective_size` looks at."""
    return max(2, min(round(math.sqrt(n)), 40))


def _tail(by: float, errors: Sequence[float], freedoms: Sequence[int]) -> float:
    """The chance of a difference of at least `by` with these squared errors (Welch and Satterthwaite)."""
    if (error := sum(errors)) <= 0:
        return 0.0 if by > 0 else 1.0
    freedom = error**2 / sum(one**2 / max(free, 1) for one, free in zip(errors, freedoms, strict=True))
    t = by / math.sqrt(error)
    half = stats.incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t)) / 2
    return half if t > 0 else 1 - half


def _median(values: Floats, sessions: Sequence[int]) -> Interval:
    above = (values > np.median(values)).astype(np.float64)
    error, _ = _error(above, sessions)
    worth = max(float(above.var(ddof=1)) / error, 1.0) if error > 0 else float(values.size)
    try:
        return stats.percentile_interval(values, 0.5, effective=worth)
    except stats.TooFew:
        return Interval(stats.percentile(values, 0.5), float(values.min()), float(values.max()))


def _mean(rates: Sequence[float]) -> tuple[Interval, tuple[float, int]]:
    """The mean of slices with its interval; its squared error and degrees of freedom."""
    values = np.array(rates, dtype=np.float64)
    error = float(values.var(ddof=1)) / stats.effective_size(values)
    value, half = float(values.mean()), stats.student(0.975, _batches(values.size) - 1) * math.sqrt(error)
    return Interval(value, max(value - half, 0.0), value + half), (error, _batches(values.size) - 1)


def _welch(by: float, *sides: tuple[float, int]) -> float:
    return _tail(by, [error for error, _ in sides], [freedom for _, freedom in sides])
