"""Statistics for measurements that depend on each other, as the requests of a load test do.

Pure functions on numbers. What cannot be said from the numbers at hand is refused with `TooFew`, never guessed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
_NORMAL: Final = NormalDist()


class TooFew(ValueError):
    """There are too few measurements for what was asked; the message says how many it takes."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and where the true one lies with this confidence (0 to 1), in the value's own unit."""

    value: float
    low: float
    high: float
    confidence: float = 0.95

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def overlaps(self, other: Interval) -> bool:
        """True when a value may be in both."""
        return self.low <= other.high and other.low <= self.high


# --- distributions ---------------------------------------------------------------------------------------------------


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by Lentz's continued fraction; a and b need not be whole."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )  # fmt: skip
    tiny = 1e-300
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d or tiny)
    fraction = d
    for m in range(1, 500):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / ((1 + term * d) or tiny)
            c = (1 + term / c) or tiny
            fraction *= c * d
        if abs(c * d - 1) < 1e-13:
            break
    return front * fraction / a


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a growing function is zero, by halving."""
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (low, middle) if function(middle) > 0 else (middle, high)
    return (low + high) / 2


def share_low(hits: float, of: float, alpha: float) -> float:
    """The true share is at least this, but for a chance of `alpha` (Clopper and Pearson, one side)."""
    return 0.0 if hits <= 0 else _root(lambda p: incomplete_beta(hits, of - hits + 1, p) - alpha, 0, 1)


def share_high(hits: float, of: float, alpha: float) -> float:
    """The true share is at most this, but for a chance of `alpha`."""
    return 1.0 if hits >= of else _root(lambda p: incomplete_beta(hits + 1, of - hits, p) - (1 - alpha), 0, 1)


@cache
def student(quantile: float, freedom: float) -> float:
    """The quantile of Student's t distribution."""
    if quantile < 0.5:
        return -student(1 - quantile, freedom)
    tail = _root(lambda x: incomplete_beta(freedom / 2, 0.5, x) - 2 * (1 - quantile), 0, 1)
    return math.sqrt(freedom * (1 - tail) / max(tail, 1e-300))


# --- percentiles -----------------------------------------------------------------------------------------------------


def percentile(values: ArrayLike, q: float) -> float:
    """The smallest measured value that at least the share `q` (0 to 1) does not exceed: always one that was measured.

    Raises:
        TooFew: there is no value.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if not ordered.size:
        raise TooFew("a percentile needs at least one value")
    # The small step back: 0.95 x 20 is 19.000000000000004 in floating point.
    return float(ordered[max(math.ceil(q * ordered.size - 1e-9), 1) - 1])


def minimum_n(q: float, confidence: float = 0.95) -> int:
    """The fewest independent values from which a two-sided interval of this percentile can be told."""
    tail = (1 - confidence) / 2
    return math.ceil(math.log(tail) / math.log(max(q, 1 - q)))


def percentile_interval(
    values: ArrayLike,
    q: float,
    confidence: float = 0.95,
    effective: float | None = None,
    above: float | None = None,
) -> Interval:
    """A percentile and its interval from order statistics: no shape is assumed.

    Args:
        values: in any unit; the interval has the same.
        q: 0 to 1.
        confidence: of both sides together.
        effective: how many independent values these are worth (`effective_size`); all of them when not given.
        above: how many for the upper side; as many when not given.

    Raises:
        TooFew: the interval would have no end; the message says what it takes.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    worth = min(float(ordered.size), effective if effective is not None else math.inf)
    if worth < (least := minimum_n(q, confidence)):
        raise TooFew(
            f"{ordered.size} values are worth {worth:.0f} independent ones; an interval of p{100 * q:g} with "
            f"{100 * confidence:g}% confidence takes {least}"
        )
    tail = (1 - confidence) / 2
    upper = worth if above is None else min(above, worth)
    low, high = share_low(q * worth, worth, tail), share_high(q * upper, upper, tail)
    last = ordered.size - 1
    return Interval(
        percentile(ordered, q),
        float(ordered[max(math.floor(low * ordered.size) - 1, 0)]),
        float(ordered[min(math.ceil(high * ordered.size), last)]),
        confidence,
    )


# --- what dependent values are worth ---------------------------------------------------------------------------------


def effective_size(values: ArrayLike, sessions: Sequence[int] | None = None) -> float:
    """How many independent values these are worth, between 1 and their number.

    The smaller of two estimates: batch means over time (neighbours are alike, as in one queue), and, with `sessions`,
    the spread between sessions (what one person asks is alike). For a percentile give 0 and 1 for "above it".

    Args:
        values: in the order of time.
        sessions: which session each value is of.
    """
    x = np.asarray(values, dtype=np.float64)
    n = x.size
    spread = float(x.var(ddof=1)) if n > 1 else 0.0
    if n < 4 or spread == 0:
        return float(max(n, 1))
    batches = max(2, min(round(math.sqrt(n)), 40))
    length = n // batches
    means = x[: batches * length].reshape(batches, length).mean(axis=1)
    worth = _worth(n, spread, float(means.var(ddof=1)) / batches)
    if sessions is not None and (groups := np.unique(np.asarray(sessions), return_inverse=True)[1]).max() > 0:
        # The variance of a mean of clusters of different size (ratio estimator).
        count = groups.max() + 1
        sums = np.bincount(groups, weights=x - x.mean(), minlength=count)
        worth = min(worth, _worth(n, spread, float((sums**2).sum()) * count / (count - 1) / n**2))
    return worth


def _worth(n: int, spread: float, of_mean: float) -> float:
    return float(n) if of_mean <= 0 else min(float(n), max(1.0, spread / of_mean))


# --- steady state ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Steady:
    """Where the steady part begins (index of the first value in it), or None and why there is none."""

    start: int | None
    why: str


def steady(values: ArrayLike, alpha: float = 0.01) -> Steady:
    """Cuts the warm-up (MSER-5), then looks for a trend in the rest (Mann-Kendall); may answer that there is none.

    MSER alone cuts at the middle in 4 to 15 of 100 short or spiky runs that are steady, as one high batch is enough;
    so such a cut counts as a warm-up without an end where the whole run has a trend, which one batch does not make.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.size < 50:
        return Steady(None, f"a steady state takes 50 values to be told from chance; {x.size} came")
    means = x[: x.size // 5 * 5].reshape(-1, 5).mean(axis=1)
    # Around the median, so that values that are all alike leave exact zeros, not the noise of large squares.
    means -= np.median(means)
    rest = np.arange(means.size, 0, -1)
    sums, squares = np.cumsum(means[::-1])[::-1], np.cumsum(means[::-1] ** 2)[::-1]
    error = (squares - sums**2 / rest) / rest.astype(np.float64) ** 2
    half = means.size // 2
    cut = int(np.argmin(error[: half + 1]))
    if cut >= half and trend(_batches(x))[1] < alpha:
        return Steady(None, "the values still settle in the second half of the run; let it run longer")
    slope, chance = trend(_batches(x[5 * cut :]))
    if chance < alpha:
        way = "grow" if slope > 0 else "fall"
        return Steady(None, f"the values still {way} after the warm-up (Mann-Kendall p = {chance:.2g})")
    return Steady(5 * cut, f"steady from value {5 * cut} of {x.size} (Mann-Kendall p = {chance:.2g})")


def _batches(x: Floats) -> Floats:
    """Means of at most 30 batches of at least 5 values: neighbours are alike, and the test takes unlike ones."""
    size = x.size // min(30, x.size // 5)
    means: Floats = x[: x.size // size * size].reshape(-1, size).mean(axis=1)
    return means


def trend(values: ArrayLike) -> tuple[float, float]:
    """(tau, p) of Mann and Kendall: does a series grow (tau > 0) or fall, and how likely is that by chance."""
    x = np.asarray(values, dtype=np.float64)
    n = x.size
    if n < 4:
        return 0.0, 1.0
    score = float(np.sign(x[None, :] - x[:, None])[np.triu_indices(n, 1)].sum())
    ties = np.unique(x, return_counts=True)[1]
    variance = (n * (n - 1) * (2 * n + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    if variance <= 0:
        return 0.0, 1.0
    z = (score - np.sign(score)) / math.sqrt(variance)
    return score / (n * (n - 1) / 2), 2 * (1 - _NORMAL.cdf(abs(float(z))))


def in_flight(starts: ArrayLike, ends: ArrayLike, window: tuple[float, float]) -> float:
    """How many were under way at a time, on average over the window; all in one unit of time."""
    low, high = window
    clipped = np.clip(np.asarray(ends, dtype=np.float64), low, high) - np.clip(
        np.asarray(starts, dtype=np.float64), low, high
    )
    return float(clipped.sum()) / (high - low)


def little(starts: ArrayLike, ends: ArrayLike, window: tuple[float, float]) -> float:
    """How far the average number under way is from arrival rate x time in the system, as a share (0.02: 2%).

    Raises:
        TooFew: nothing began in the window.
    """
    low, high = window
    began, ended = np.asarray(starts, dtype=np.float64), np.asarray(ends, dtype=np.float64)
    inside = (began >= low) & (began < high)
    if not inside.any():
        raise TooFew("no request began in the window")
    wanted = float((ended[inside] - began[inside]).sum()) / (high - low)
    return abs(in_flight(began, ended, window) / wanted - 1) if wanted > 0 else 0.0


def edges(starts: ArrayLike, ends: ArrayLike, window: tuple[float, float]) -> float:
    """By how much Little's law may be off by chance, as a share: what lies over the edges of the window comes from few.

    Three times the standard deviation of (rest of those that began before) - (rest of those that end after), each such
    rest being a draw of its own.

    Raises:
        TooFew: nothing began in the window.
    """
    low, high = window
    began, ended = np.asarray(starts, dtype=np.float64), np.asarray(ends, dtype=np.float64)
    inside = (began >= low) & (began < high)
    wanted = float((ended[inside] - began[inside]).sum())
    if not wanted > 0:
        raise TooFew("no request began in the window")
    before = np.clip(ended[began < low], low, high) - low
    after = np.maximum(ended[inside] - high, 0)
    return 3 * math.sqrt(float((before**2).sum() + (after**2).sum())) / wanted


# --- comparisons -----------------------------------------------------------------------------------------------------


def kolmogorov(sample: ArrayLike, cdf: Callable[[Floats], Floats]) -> tuple[float, float]:
    """(D, p) of Kolmogorov and Smirnov: do these values come from this continuous distribution?

    Raises:
        TooFew: fewer than 8 values.
    """
    x = np.sort(np.asarray(sample, dtype=np.float64))
    n = x.size
    if n < 8:
        raise TooFew(f"{n} values; the test takes at least 8")
    f = cdf(x)
    distance = float(max((np.arange(1, n + 1) / n - f).max(), (f - np.arange(n) / n).max()))
    scaled = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * distance
    if scaled < 0.2:
        return distance, 1.0
    terms = ((-1) ** (k - 1) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, 101))
    return distance, min(1.0, max(0.0, 2 * sum(terms)))


# --- the sequential test ---------------------------------------------------------------------------------------------


class Verdict(StrEnum):
    """What a probe has shown so far."""

    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Sequential:
    """Has at most a share `allowed` of the requests missed? Looked at several times, wrong at most 1 - confidence.

    Each look spends a part of the error (in proportion to the square of the budget used, so early looks are strict);
    the chance of a wrong pass, and of a wrong fail, is at most 1 - confidence over all looks together.
    """

    allowed: float
    """The share that may miss: 0.05 for p95."""
    budget: int
    """How many requests the last look will have."""
    confidence: float = 0.95

    def spent(self, n: float) -> float:
        """How much of the error has been spent once `n` requests were looked at."""
        return (1 - self.confidence) * min(1.0, n / self.budget) ** 2

    def look(self, misses: float, n: float, before: float = 0, effective: float | None = None) -> Verdict:
        """The verdict on `misses` of `n`.

        Args:
            misses: how many have missed.
            n: how many there are.
            before: how many there were at the look before.
            effective: how many independent ones these are worth.
        """
        alpha = self.spent(n) - self.spent(before)
        if n <= 0 or alpha <= 0:
            return Verdict.OPEN
        worth = min(n, effective if effective is not None else n)
        hits = misses * worth / n
        # The same as share_high(…) <= allowed and share_low(…) > allowed, without looking for the bounds themselves.
        if hits < worth and incomplete_beta(hits + 1, worth - hits, self.allowed) >= 1 - alpha:
            return Verdict.PASS
        if hits > 0 and incomplete_beta(hits, worth - hits + 1, self.allowed) < alpha:
            return Verdict.FAIL
        return Verdict.OPEN
