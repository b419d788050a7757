"""The gateway's tax: what it adds to a request, from pairs of the same request sent directly and through it. Pure.

Both of a pair are sent one right after the other, in random order, under the same load, so what drifts or is busy
meanwhile meets both alike; what is left is the difference. Times count from sending on a warm connection; connecting
and TLS stand apart. Seconds everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from loadtests.analysis import intervals, metrics, stats
from loadtests.analysis.stats import Interval, TooFew
from loadtests.records import Outcome, Record
from loadtests.results.schema import Added, Handshake, Metric, Streams, Tax, rounded

LAG: Final = 0.002
"""Above it the client's own loop was late too often for differences of a millisecond (seconds, p99)."""
EXACT: Final = 40
"""Up to so many differences the signed ranks are counted exactly; beyond, their normal law is good."""
FILE: Final = "LOAD_TAX_FILE"
"""The environment variable that says where a run finds what was measured before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The same request, once each way."""

    direct: Record
    through: Record
    stream: int = 0
    """Which of the streams that ran at the same time it is of."""


# --- one metric ------------------------------------------------------------------------------------------------------


def itl(record: Record) -> float | None:
    """The mean inter-token latency of an answer."""
    return metrics.tpot(record)


def itl_p95(record: Record) -> float | None:
    """The 95th percentile of an answer's gaps: what hands tokens on in bundles leaves the mean, but not this."""
    return metrics.percentile(metrics.gaps(record), 0.95)


METRICS: Final[Mapping[Metric, Callable[[Record], float | None]]] = {
    "ttft": metrics.wire_ttft, "itl": itl, "itl_p95": itl_p95, "e2e": metrics.wire_e2e,
}  # fmt: skip


@cache
def _ranks(n: int) -> tuple[float, ...]:
    """P(W <= k) of Wilcoxon's signed-rank sum W of n differences, for each k from 0."""
    ways = np.zeros(n * (n + 1) // 2 + 1)
    ways[0] = 1.0
    for rank in range(1, n + 1):
        ways[rank:] = ways[rank:] + ways[:-rank]
    return tuple(np.cumsum(ways) / 2.0**n)


def shift(differences: ArrayLike, worth: float | None = None, confidence: float = 0.95) -> Interval:
    """By how much one of each pair is longer: the Hodges-Lehmann estimate, the median of all means of two differences.

    The interval is Tukey's, from the order of those means (Hollander, Wolfe and Chicken, Nonparametric Statistical
    Methods, 3.2 and 3.3). It takes differences that scatter alike to both sides, as those of pairs in random order do.
    Where the differences are `worth` fewer independent ones, it is so much wider (the root of the ratio).

    Raises:
        TooFew: no interval has this confidence; the message says how many it takes.
    """
    d = np.asarray(differences, dtype=np.float64)
    n = d.size
    tail = (1 - confidence) / 2
    least = math.ceil(-math.log2(tail))
    if n < least:
        raise TooFew(f"{n} pairs; an interval with {confidence:.0%} confidence takes at least {least}")
    one, other = np.triu_indices(n)
    means = np.sort((d[one] + d[other]) / 2)
    if n <= EXACT:
        cut = int(np.searchsorted(_ranks(n), tail, side="right")) - 1  # the largest k with P(W <= k) <= tail
    else:
        spread = math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        cut = math.floor(n * (n + 1) / 4 - NormalDist().inv_cdf(1 - tail) * spread - 0.5)
    value = float(np.median(means))
    wider = math.sqrt(max(1.0, n / worth)) if worth else 1.0
    low, high = float(means[max(cut, 0)]), float(means[-1 - max(cut, 0)])
    return Interval(value, value - wider * (value - low), value + wider * (high - value), confidence)


def usable(pairs: Sequence[Pair]) -> list[Pair]:
    """Those of which both came whole, in the order of time."""
    whole = [one for one in pairs if one.direct.outcome is Outcome.OK and one.through.outcome is Outcome.OK]
    return sorted(whole, key=lambda one: min(one.direct.sent_ns, one.through.sent_ns))


def even(pair: Pair) -> bool:
    """Both answers have the same number of tokens."""
    return metrics.tokens(pair.direct) == metrics.tokens(pair.through)


def added(name: Metric, pairs: Sequence[Pair]) -> Added | None:
    """What is added to a metric; None where too few pairs tell it."""
    metric = METRICS[name]
    told = []
    for pair in pairs:
        direct, through = metric(pair.direct), metric(pair.through)
        if direct is not None and through is not None:
            told.append((direct, through, pair.stream))
    direct_s, through_s = [one[0] for one in told], [one[1] for one in told]
    differences = [through - direct for direct, through, _ in told]
    streams = [one[2] for one in told]
    try:
        worth = stats.effective_size(differences, streams if len(set(streams)) > 5 else None)
        worth = min(worth, len(differences) / intervals.memory(differences))
        found = shift(differences, worth)
    except TooFew:
        return None
    return Added(
        metric=name, pairs=len(told), worth=rounded(worth), direct=rounded(float(np.median(direct_s))),
        through=rounded(float(np.median(through_s))), added=rounded(found.value), low=rounded(found.low),
        high=rounded(found.high),
    )  # fmt: skip


# --- a measurement ---------------------------------------------------------------------------------------------------


def level(streams: int, pairs: Sequence[Pair], cpu: float | None = None) -> Streams:
    """What the gateway adds at so many streams; `cpu`: seconds of processor time that it used over all these pairs."""
    whole = usable(pairs)
    alike = [one for one in whole if even(one)]
    found = [one for name in METRICS if (one := added(name, alike if name == "e2e" else whole)) is not None]
    return Streams(
        streams=streams, pairs=len(whole), failed=len(pairs) - len(whole), uneven=sum(not even(one) for one in whole),
        added=found, cpu=None if cpu is None or not pairs else rounded(cpu / len(pairs)),
    )  # fmt: skip


def handshake(direct: Sequence[Record], through: Sequence[Record]) -> Handshake | None:
    """From requests that each made a connection of their own; None where none came about."""
    plain = [one.connect_ns for one in direct if one.connect_ns is not None]
    guarded = [one.connect_ns for one in through if one.connect_ns is not None]
    sealed = [one.tls_ns for one in through if one.tls_ns is not None]
    if not plain or not guarded:
        return None

    def median(values: Sequence[int]) -> float:
        return rounded(float(np.median(values)) / metrics.SECOND)

    return Handshake(
        connections=len(guarded), direct=median(plain), through=median(guarded),
        tls=median(sealed) if sealed else None,
    )  # fmt: skip


def from_environment(environment: Mapping[str, str]) -> Tax | None:
    """What was measured for a run before it; None where it was not asked for. Raises ValueError with what is wrong."""
    if not (place := environment.get(FILE)):
        if environment.get("LOAD_TAX") == "1":
            raise ValueError("TAX=1 is a word of `make load`, which measures the gateway's tax before the run")
        return None
    try:
        return Tax.model_validate_json(Path(place).read_text())
    except (OSError, ValueError) as wrong:
        raise ValueError(f"{FILE}: {place} is no tax as `make load TAX=1` writes it: {wrong}") from None


def caution(levels: Sequence[Streams], lag: float) -> str:
    """Why the figures may be wrong; `lag`: the client's loop, 99th percentile (seconds)."""
    said = []
    if lag > LAG:
        said.append(f"the client's own loop was {1000 * lag:.1f} ms late (p99, at most {1000 * LAG:g} ms): it was busy")
    for one in levels:
        if not one.added:
            said.append(f"at {one.streams} streams {one.pairs} pairs came whole, too few to say anything")
        elif one.failed > 0.05 * (one.pairs + one.failed):
            said.append(f"at {one.streams} streams {one.failed} of {one.pairs + one.failed} pairs failed")
        elif one.uneven > 0.5 * one.pairs:
            said.append(f"at {one.streams} streams answers differ in length, so little is known of whole answers")
    return "; ".join(said)
