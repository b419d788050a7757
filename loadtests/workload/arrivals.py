"""When the requests of an open loop are due: constant, Poisson, or Gamma (bursty). Pure.

There is one schedule for the whole load, made from the seed alone, and every worker takes each of its moments that is
its turn (worker 1 of 4 the 2nd, 6th, 10th …). So the arrivals at the server are the same, to the nanosecond, however
many workers there are, and the law is exact: the sum of four Gamma processes would be no Gamma process.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

MOST: Final = 20_000_000
"""Requests of one schedule: 160 MB of moments."""
MOST_CV: Final = 20.0
ALLOWED: Final = (
    "constant (evenly spaced), poisson (independent people), gamma:CV (bursts; CV is the gaps' standard deviation over "
    f"their mean, above 0, at most {MOST_CV:g}, for example gamma:2)"
)


class Kind(StrEnum):
    """How the gaps between two requests are distributed."""

    CONSTANT = "constant"
    POISSON = "poisson"
    GAMMA = "gamma"


@dataclass(frozen=True, slots=True)
class Arrivals:
    """A law of arrivals. Raises ValueError, in words, for one that cannot be."""

    kind: Kind | str
    rate: float = 1.0
    """Requests a second, over all workers."""
    cv: float = 1.0
    """Coefficient of variation of the gaps, for gamma: below 1 more regular than Poisson, 1 Poisson, above 1 bursty."""

    def __post_init__(self) -> None:
        if self.kind not in list(Kind):
            raise ValueError(f"arrivals {self.kind!r} are not known; allowed: {ALLOWED}")
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ValueError(f"a rate of {self.rate:g} requests a second: it must be above 0")
        if not 0 < self.cv <= MOST_CV:
            raise ValueError(f"a coefficient of variation of {self.cv:g}: it must be above 0 and at most {MOST_CV:g}")

    def __str__(self) -> str:
        """As `parse` reads it."""
        return f"{self.kind}:{self.cv:g}" if self.kind == Kind.GAMMA else str(self.kind)


def parse(text: str) -> Arrivals:
    """The law of these words (`poisson`, `gamma:2`), at 1 request a second. Raises ValueError with what is allowed."""
    kind, colon, cv = (part.strip() for part in text.strip().lower().partition(":"))
    if (kind == Kind.GAMMA) != bool(colon) or kind not in list(Kind):
        raise ValueError(f"ARRIVALS={text}: allowed are {ALLOWED}")
    try:
        return Arrivals(Kind(kind), cv=float(cv) if colon else 1.0)
    except ValueError as error:
        raise ValueError(f"ARRIVALS={text}: allowed are {ALLOWED}") from error


def schedule(arrivals: Arrivals, seconds: float, seed: int, worker: int = 0, workers: int = 1) -> NDArray[np.float64]:
    """When this worker's requests are due: seconds from the start, growing, all before `seconds`.

    Constant arrivals are a gap apart from the start on, at a phase that the seed chooses. Gamma and Poisson ones begin
    as if they had gone on for ever; see `_random`.

    Raises:
        ValueError: no such worker, or more requests than one schedule holds.
    """
    if not 0 <= worker < workers:
        raise ValueError(f"there is no worker {worker} of {workers}")
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"a schedule of {seconds:g} seconds: it must be 0 or more")
    if arrivals.rate * seconds > MOST:
        raise ValueError(
            f"{arrivals.rate:g} requests a second for {seconds:g} s are more than {MOST:,}: lower the rate or the time"
        )
    rng = np.random.default_rng(seed)
    if arrivals.kind == Kind.CONSTANT:
        due = (rng.random() + np.arange(math.ceil(arrivals.rate * seconds), dtype=np.float64)) / arrivals.rate
    else:
        due = _random(arrivals, seconds, rng)
    return due[due < seconds][worker::workers]


def _random(arrivals: Arrivals, seconds: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Gaps of a Gamma distribution with this mean and coefficient of variation (Poisson: that of 1), summed up.

    The first gap is what is left of one that began before the start: a gap chosen in proportion to its length (Gamma
    with its shape plus one), at a place within it. With a whole gap there, bursty arrivals would start a run too fast
    (Cox, Renewal Theory, 1962, chapter 5: the equilibrium renewal process).
    """
    shape = 1 / arrivals.cv**2 if arrivals.kind == Kind.GAMMA else 1.0
    scale = 1 / (arrivals.rate * shape)
    last = rng.gamma(shape + 1, scale) * rng.random()
    parts = [np.array([last])]
    while last < seconds:
        # One more chunk is needed where the gaps came out shorter than usual.
        wanted = int((seconds - last) * arrivals.rate * 1.05) + 64
        part = last + np.cumsum(rng.gamma(shape, scale, wanted))
        parts.append(part)
        last = float(part[-1])
    return np.concatenate(parts)
