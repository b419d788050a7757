"""The interval of a percentile of one run, whose requests met the same queue: told only where the run is long enough.

Near its capacity a queue forgets slowly. A run that is short beside that memory has seen one or two of its swings, and
nothing in it tells how far others would go; its interval is refused, with the reason. All pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from loadtests.analysis import stats
from loadtests.analysis.stats import Floats, Interval, TooFew

DOUBT: Final = 12.0
"""The memory may be longer than a run shows by exp(DOUBT / root of its worth), with about 97.5% confidence.

In simulated queues the logarithm of what runs show has a standard deviation of 3 to 4 over that root, and lies as much
too low in those that pass for long enough.
"""


class TooShort(TooFew):
    """There are enough values, but the run is too short beside the memory of its queue; the message says by how far."""


def memory(values: ArrayLike) -> float:
    """How many neighbours tell together what one independent value would: the autocorrelation time, 1 for no memory.

    By the spectrum at zero of an autoregression (Yule and Walker, order by Akaike's criterion up to 10 log10 n), as
    Heidelberger and Welch (1981) did for simulated queues and R's `coda` does for its effective size. It scatters much
    less than what batch means tell, so few runs only look as if they had forgotten.

    Args:
        values: in the order of time.
    """
    x = np.asarray(values, dtype=np.float64)
    n = x.size
    most = int(10 * math.log10(n)) if n > 1 else 0
    if most + 1 >= n or np.ptp(x) == 0:
        return 1.0
    x = x - x.mean()
    lags = np.array([x[: n - k] @ x[k:] for k in range(most + 1)]) / (x @ x)
    weights: Floats = np.zeros(0)
    rest, best, found = 1.0, 0.0, 1.0
    for order in range(1, most + 1):  # Levinson and Durbin: one order more at a time
        step = (lags[order] - weights @ lags[order - 1 : 0 : -1]) / rest
        weights = np.append(weights - step * weights[::-1], step)
        rest *= 1 - step * step
        if rest <= 1e-12:
            break
        if (criterion := n * math.log(rest) + 2 * order) < best:
            best, found = criterion, rest * n / (n - order - 1) / (1 - float(weights.sum())) ** 2
    return max(found, 1.0)


def worth(values: ArrayLike, q: float, sessions: Sequence[int] | None = None, queue: ArrayLike | None = None) -> float:
    """How many independent values the percentile `q` rests on: the least of all estimates, between 1 and their number.

    By batch means of those beyond the percentile, by the spread between sessions, by the memory of the values, and by
    that of the queue as far as they follow it: where a time depends little on the wait before it, chance hides in a
    short run what would still move it in a long one.

    Args:
        values: in the order of time.
        q: 0 to 1.
        sessions: which session each value is of.
        queue: the times to first token of the same requests, in which waiting is seen best.
    """
    x = np.asarray(values, dtype=np.float64)
    beyond = (x > stats.percentile(x, q)).astype(np.float64)
    slowest = memory(x)
    if queue is not None and x.size > 2 and np.ptp(x) > 0 and np.ptp(waits := np.asarray(queue, dtype=np.float64)) > 0:
        follows = max(float(np.corrcoef(x, waits)[0, 1]), 0.0)
        slowest = max(slowest, 1 + follows * (memory(waits) - 1))
    return min(stats.effective_size(beyond, sessions), max(x.size / slowest, 1.0))


def of_percentile(
    values: ArrayLike,
    q: float,
    sessions: Sequence[int] | None = None,
    queue: ArrayLike | None = None,
    confidence: float = 0.95,
) -> Interval:
    """A percentile with its interval, from order statistics of as many values as these are worth.

    A run in which the queue happened to be short shows too low a percentile and too short a memory, both at once. So
    the upper side takes the values, as far as they depend on each other, for worth as little as they may be.

    Args:
        values: in the order of time, in any unit; the interval has the same.
        q: 0 to 1.
        sessions: which session each value is of.
        queue: the times to first token of the same requests.
        confidence: of both sides together.

    Raises:
        TooFew: so many values never tell an interval; the message says how many do.
        TooShort: they would, were they independent.
    """
    x = np.asarray(values, dtype=np.float64)
    known, least = worth(x, q, sessions, queue) if x.size else 0.0, stats.minimum_n(q, confidence)
    if x.size >= least > known:
        raise TooShort(
            f"too short beside the memory of its queue: {x.size:,} values are worth {known:.0f} independent ones, and "
            f"it takes {least}; hold it at least {math.ceil(10 * least / known) / 10:g} times as long, or search"
        )
    dependent = 1 - known / max(x.size, 1)
    above = known * math.exp(-DOUBT * dependent / math.sqrt(max(known, 1.0)))
    return stats.percentile_interval(x, q, confidence, known, above)
