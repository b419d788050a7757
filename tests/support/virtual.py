"""A fake fleet in virtual time: a server with so many slots, whose knee is known, and no waiting for anybody."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from loadtests.analysis.gates import Client
from loadtests.generator.loads import Closed, Held
from loadtests.records import Outcome, Record

QUIET: Final = Client(lag=0.0005, cpu=0.2, dropped=0, clock=0.0)
SECOND: Final = 1_000_000_000


@dataclass(frozen=True)
class Rate:
    """Poisson arrivals, so many a second; with `ramp` growing to it."""

    rate: float
    ramp: bool = False


@dataclass
class VirtualFleet:
    """Answers take `first` seconds to the first token and hold a slot for `service`; who finds none waits in turn."""

    slots: int = 8
    first: float = 0.2
    service: float = 1.0
    think: float = 3.0
    tokens: int = 20
    client: Client = QUIET
    refuse: Callable[[int], Outcome | None] = lambda number: None
    """How the request with this number ends, when not well."""
    warm_up: float = 0.0
    """So many seconds more for every first token, in the first tenth of each load."""
    now_ns: int = SECOND
    in_flight: int = 0
    """Requests that were under way when `until` was asked last."""
    asked: list[tuple[object, int, float]] = field(default_factory=list)
    """Every load, with its seed and how long it was really held."""

    def clock(self) -> int:
        """The moment, in nanoseconds."""
        return self.now_ns

    def hold(
        self,
        load: object,
        seed: int,
        *,
        seconds: float,
        until: Callable[[Sequence[Record], float], bool] | None = None,
        grace: float = 10,
    ) -> Held:
        """The records of a load, cut where `until` ends it."""
        began = self.now_ns
        made = sorted(self._requests(load, seed, seconds), key=lambda one: one.done_ns)
        end, shown = seconds, 0
        for step in range(1, int(2 * seconds)):
            self.now_ns = began + step * SECOND // 2
            while shown < len(made) and made[shown].done_ns <= self.now_ns:
                shown += 1
            self.in_flight = sum(one.sent_ns <= self.now_ns < one.done_ns for one in made)
            if until is not None and until(made[:shown], step / 2):
                end = step / 2
                break
        ended = began + round(end * SECOND)
        kept = sorted((one for one in made if one.intended_ns < ended), key=lambda one: one.intended_ns)
        self.now_ns = max([ended, *(one.done_ns for one in kept)])
        self.asked.append((load, seed, end))
        return Held(records=tuple(kept), began_ns=began, ended_ns=ended, client=self.client)

    def _requests(self, load: object, seed: int, seconds: float) -> Iterator[Record]:
        draws = np.random.default_rng(seed)
        free = [0.0] * self.slots
        if isinstance(load, Rate):
            count = round(load.rate * seconds * (0.5 if load.ramp else 1.0))
            moments = np.sort(draws.random(count))
            due = [(float(at) ** (0.5 if load.ramp else 1.0) * seconds, k) for k, at in enumerate(moments)]
        else:
            assert isinstance(load, Closed)
            due = [(float(draws.random()) * (seconds if load.ramp else self.think), k) for k in range(load.users)]
        heapq.heapify(due)
        number = 0
        while due:
            at, person = heapq.heappop(due)
            if at >= seconds:
                continue
            start = max(at, free[0])
            took = self.service * float(draws.uniform(0.9, 1.1))
            bad = self.refuse(number)
            heapq.heapreplace(free, start if bad else start + took)
            slow = self.warm_up if at < seconds / 10 else 0.0
            yield self._record(at, start + slow, took, person, bad)
            number += 1
            if not isinstance(load, Rate):
                heapq.heappush(due, (start + took + self.think * float(draws.uniform(0.5, 1.5)), person))

    def _record(self, at: float, start: float, took: float, person: int, bad: Outcome | None) -> Record:
        begin = self.now_ns
        count = 0 if bad else self.tokens
        moments = np.linspace(start + self.first, start + took, count) if count else np.zeros(0)
        pieces = array("q", (begin + round(float(one) * SECOND) for one in moments))
        return Record(
            scenario="chat", model="m", session=person, turn=0, worker=0, intended_ns=begin + round(at * SECOND),
            sent_ns=begin + round(at * SECOND), first_ns=pieces[0] if count else None,
            visible_ns=pieces[0] if count else None, last_ns=pieces[-1] if count else None,
            done_ns=pieces[-1] if count else begin + round(start * SECOND) + SECOND // 100,
            pieces_ns=pieces, pieces_chars=array("q", [5] * count), asked_tokens=self.tokens,
            input_tokens=12, output_tokens=self.tokens if count else None, outcome=bad or Outcome.OK,
            status={Outcome.LIMIT: 429, None: 200}.get(bad, 500),
        )  # fmt: skip
