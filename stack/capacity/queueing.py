"""People, slots and queues: how long a request waits, how many are served. Pure.

A model server is a station that works on up to `slots` requests at once, quicker the more there are, and lets others
wait in order. Closed: so many people, each thinking for a while between an answer and the next question. Open: requests
come at a rate of their own. Both are birth-death chains, solved exactly (the closed one gives the same answer as mean
value analysis with load-dependent rates, without its subtractions).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, count, repeat
from operator import mul, sub
from typing import Final

Rate = Callable[[int], float]
"""Requests a second that end while so many are worked on."""

MOST: Final = 100_000  # people, or requests in the room: beyond, sums take too long to be of use
SPREAD: Final = 8.0  # standard deviations of a Poisson count; beyond them is less than 1e-13
ENOUGH: Final = 1e-12  # probability beyond which a longer queue is not looked at


class QueueError(ValueError):
    """There is no answer for this; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """What requests meet, in the long run."""

    throughput: float
    """Requests a second."""
    working: float
    """Requests worked on, on average."""
    waiting: float
    """Requests waiting, on average."""
    response: float
    """Seconds from question to the end of its answer, on average."""
    wait: float
    """Seconds of it before work begins, on average."""
    waits: float
    """Share of requests that wait at all."""
    found: tuple[float, ...]
    """Probability that a request finds 0, 1, 2, … others in the room."""
    slots: int
    fastest: float
    """Requests a second that end while all slots work."""

    def wait_quantile(self, part: float) -> float:
        """Seconds that this share of requests (0 to 1) does not wait longer than."""
        if not 0 < part < 1:
            raise QueueError(f"{part} is no share of requests; give one between 0 and 1")
        if self.waits <= 1 - part:
            return 0.0
        low, high = 0.0, (len(self.found) - self.slots + 1) / self.fastest
        while self._longer(high) > 1 - part:
            high *= 2
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (middle, high) if self._longer(middle) > 1 - part else (low, middle)
        return high

    def _longer(self, wait: float) -> float:
        """Share of requests that wait longer: one that finds k too many waits for k + 1 ends, each exponential.

        So many ends come within the wait as Poisson says; fewer than `first` never do, more than `last` neither.
        """
        x = self.fastest * wait
        spread = SPREAD * math.sqrt(x) + SPREAD
        first, last = max(0, math.floor(x - spread)), math.ceil(x + spread)
        total, below = 0.0, 0.0
        term = math.exp(first * math.log(x) - x - math.lgamma(first + 1)) if first else math.exp(-x)
        for beyond, probability in enumerate(self.found[self.slots + first : self.slots + last], first):
            below += term  # probability that at most `beyond` ends came within the wait
            total += probability * below
            term *= x / (beyond + 1)
        return total + math.fsum(self.found[self.slots + last :])


def closed(people: int, think: float, rate: Rate, slots: int) -> Queue:
    """So many people, each asking again `think` seconds (on average) after an answer.

    Raises QueueError for numbers that cannot be.
    """
    if not 1 <= people <= MOST:
        raise QueueError(f"{people} people: between 1 and {MOST} can be planned for")
    if think < 0 or slots < 1:
        raise QueueError("a think time cannot be negative, and there is at least one slot")
    rates = _rates(rate, slots)
    room = _chain(people, think, rates) if think else [*[-math.inf] * people, 0.0]
    others = _normal(_chain(people - 1, think, rates) if think else [*[-math.inf] * (people - 1), 0.0])
    here = _normal(room)
    throughput = math.fsum(map(mul, here[1:], rates)) + rates[-1] * math.fsum(here[slots + 1 :])
    return _queue(here, others, throughput, slots, rates)


def opened(arrivals: float, rate: Rate, slots: int, *, variation: float = 1.0) -> Queue:
    """Requests that come at random, so many a second. Raises QueueError when the server cannot keep up.

    `variation` is the variance of an answer's work over its mean squared (1: exponential). The average wait follows it
    (the M/G/c approximation of Lee and Longton); the distribution is that of exponential work.
    """
    if arrivals <= 0 or slots < 1 or variation < 0:
        raise QueueError("arrivals have to be more than 0 a second, slots at least 1, a variation not negative")
    rates = _rates(rate, slots)
    if arrivals >= rates[-1]:
        raise QueueError(
            f"{arrivals:.3g} requests a second come and at most {rates[-1]:.3g} end: the queue grows without bound"
        )
    weights, count, top = [0.0], 0, 0.0
    while True:
        count += 1
        weights.append(weights[-1] + math.log(arrivals) - math.log(_at(rates, count)))
        top = max(top, weights[-1])
        if count > slots and weights[-1] < top + math.log(ENOUGH):
            break
        if count > MOST:
            raise QueueError("the server is so close to its limit that the queue has no useful length")
    here = _normal(weights)
    exact = _queue(here, here, arrivals, slots, rates)
    wait = exact.wait * (1 + variation) / 2
    return Queue(
        throughput=arrivals,
        working=exact.working,
        waiting=arrivals * wait,
        response=exact.working / arrivals + wait,
        wait=wait,
        waits=exact.waits,
        found=exact.found,
        slots=slots,
        fastest=rates[-1],
    )


def _rates(rate: Rate, slots: int) -> list[float]:
    rates = [rate(count) for count in range(1, slots + 1)]
    if not all(one > 0 and math.isfinite(one) for one in rates):
        raise QueueError("a server has to end requests at a rate above 0, whatever the number in work")
    return rates


def _at(rates: Sequence[float], count: int) -> float:
    return rates[min(count, len(rates)) - 1]


def _chain(people: int, think: float, rates: Sequence[float]) -> list[float]:
    """Logarithms of the weights of 0 … people requests in the room."""
    ending = chain(map(math.log, rates), repeat(math.log(rates[-1])))
    coming = (math.log(idle / think) for idle in range(people, 0, -1))
    return list(accumulate(map(sub, coming, ending), initial=0.0))


def _normal(logarithms: Sequence[float]) -> list[float]:
    top = max(logarithms)
    weights = [math.exp(value - top) for value in logarithms]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def _queue(
    here: Sequence[float], found: Sequence[float], throughput: float, slots: int, rates: Sequence[float]
) -> Queue:
    working = math.fsum(map(mul, here, range(slots))) + slots * math.fsum(here[slots:])
    waiting = math.fsum(map(mul, here[slots:], count()))
    return Queue(
        throughput=throughput,
        working=working,
        waiting=waiting,
        response=(working + waiting) / throughput,
        wait=waiting / throughput,
        waits=math.fsum(found[slots:]),
        found=tuple(found),
        slots=slots,
        fastest=rates[-1],
    )
