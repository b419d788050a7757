"""The open loop: requests leave at the moments of a schedule, whatever became of those before.

The moments are absolute and known beforehand, so nothing that takes long moves what comes after it; a request that
leaves late is still counted from its moment, and none is left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Final

import gevent
import numpy as np
from gevent.event import Event
from gevent.pool import Group
from numpy.typing import NDArray

from loadtests.generator.loads import Closed, Load, Open, Replay
from loadtests.users.embed import BATCH
from loadtests.workload import arrivals
from loadtests.workload.profiles import Length, Profile

if TYPE_CHECKING:
    from loadtests.workload.replay import Arrival

SECOND: Final = 1_000_000_000
BREATH: Final = 32
"""After so many overdue requests in a row those that run get a turn."""
FEW: Final = 8


def moments(load: Open | Replay, seconds: float, seed: int, worker: int = 0, workers: int = 1) -> NDArray[np.float64]:
    """When this worker's requests are due: seconds from the start, growing.

    A replay is dealt out in turn. A ramp goes through the same arrivals as half of the time at full rate would: with a
    rate that grows as r t / T, r t^2 / 2T arrivals are due by t, so what is due at s there is due at sqrt(2 T s) here.
    """
    if isinstance(load, Replay):
        due = np.array([one.at_s for one in load.arrivals[worker::workers]], dtype=np.float64)
        return due[due < seconds]
    if load.ramp:
        half = arrivals.schedule(load.arrivals, seconds / 2, seed, worker, workers)
        return np.sqrt(2 * seconds * half)
    return arrivals.schedule(load.arrivals, seconds, seed, worker, workers)


class Conductor:
    """Walks a schedule and starts a greenlet for each request."""

    def __init__(self, ask: Callable[[int, int], None], early_ns: int = 0) -> None:
        """`ask`: makes one request; it is given its place in the schedule and its intended start in nanoseconds.

        `early_ns`: how long before that start it is called, to have everything ready.
        """
        self._ask = ask
        self._early_ns = early_ns
        self._running: dict[int, int] = {}
        self._next_ns: int | None = None
        self.requests = Group()
        """Those that run."""

    @property
    def oldest_ns(self) -> int | None:
        """What was meant to start before this moment has ended; None where nothing runs and nothing is to come."""
        # A schedule grows, and Python's dictionaries keep the order of insertion: the first is the oldest.
        return next(iter(self._running.values()), self._next_ns)

    def walk(self, due: Iterable[float], start_ns: int, ended: Event) -> None:
        """Starts each request when it is due, from `start_ns` (`time.monotonic_ns`) on, until all are or it ended."""
        overdue = 0
        for place, at in enumerate(due):
            intended = self._next_ns = start_ns + int(at * SECOND)
            if (wait := intended - self._early_ns - time.monotonic_ns()) > 0:
                overdue = 0
                if ended.wait(wait / SECOND):
                    break
            elif ended.is_set():
                break
            elif (overdue := overdue + 1) % BREATH == 0:
                gevent.sleep(0)
            self._running[place] = intended
            self.requests.spawn(self._one, place, intended)
        self._next_ns = None

    def _one(self, place: int, intended: int) -> None:
        try:
            self._ask(place, intended)
        finally:
            del self._running[place]


def connections(load: Load, workers: int) -> int:
    """How many a worker should have open at the start: a person's own, or about a second's worth of requests."""
    match load:
        case Closed(users=users):
            return -(-users // workers)
        case Open(arrivals=law):
            return max(FEW, round(law.rate / workers))
    return FEW


def logged(arrival: Arrival, profile: Profile) -> Profile:
    """The profile of one request of a log: alone, and as long as the log says."""
    embed = arrival.operation == "embeddings"
    one = replace(profile, turns=_fixed(1), scenario="embed" if embed else profile.scenario)
    if (tokens := arrival.input_tokens) is not None:
        one = replace(one, input=_fixed(max(1, tokens // BATCH) if embed else tokens), system=_fixed(0))
    if arrival.output_tokens is not None:
        one = replace(one, output=_fixed(arrival.output_tokens))
    return one


@cache
def _fixed(tokens: int) -> Length:
    return Length.parse(tokens)
