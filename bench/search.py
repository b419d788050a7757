"""Does the search find a knee that is known? Real searches, over real connections, on the fake engine.

The engine has so many slots and answers take exactly so long, in turn; arrivals are Poisson. So the rate at which 5% of
the requests wait longer than the objective is known from simulation alone, and each search has to come within 5% of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import gevent
import numpy as np

from loadtests.analysis import gates, search, slo
from loadtests.analysis.metrics import Objectives
from loadtests.analysis.search import Budget, Found, Plan, ProbeResult
from loadtests.analysis.stats import Verdict
from loadtests.client.stream import Client, Request
from loadtests.records import Record
from tests.support.engine import engine

WITHIN: Final = 0.05
SECOND: Final = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Knee:
    """A server whose knee is known. Times in seconds.

    This one's is at three quarters of its capacity, where people plan: nearer to it probes would have to be longer, as
    the report of a run says too.
    """

    slots: int = 16
    first: float = 0.05
    """To the first token, once a slot is free."""
    gap: float = 0.05
    tokens: int = 4
    objective: float = 0.1
    """For the time to first token."""

    @property
    def service(self) -> float:
        """How long an answer holds its slot."""
        return self.first + (self.tokens - 1) * self.gap

    def missed(self, rate: float, seed: int, n: int, warm_up: int = 500) -> float:
        """The share of n simulated requests that miss the objective.

        With answers of one length the slots are taken in rotation, so each is a queue of its own.
        """
        rows = -(-(n + warm_up) // self.slots)
        gaps = np.random.default_rng(seed).exponential(1 / rate, rows * self.slots)
        arrivals = np.cumsum(gaps).reshape(rows, self.slots)
        work = np.arange(rows)[:, None] * self.service
        waits = (np.maximum.accumulate(arrivals - work, axis=0) + work - arrivals).ravel()[warm_up:]
        return float((waits + self.first > self.objective).mean())

    def true(self, allowed: float = 0.05, n: int = 2_000_000) -> float:
        """The rate at which exactly this share misses."""
        low, high = 0.1 * self.slots / self.service, self.slots / self.service
        for _ in range(14):
            middle = (low + high) / 2
            low, high = (middle, high) if self.missed(middle, 99, n) <= allowed else (low, middle)
        return (low + high) / 2


@dataclass(slots=True)
class Prober:
    """Runs a load for real: Poisson arrivals on an absolute schedule."""

    client: Client
    objectives: Objectives
    warm_up: int
    late: float = 0.01
    """The most that sends may be late (seconds, p99) before a probe says nothing."""

    def __call__(self, load: float, seed: int, budget: Budget) -> ProbeResult:
        """One probe; ends early when its verdict is clear."""
        draws = np.random.default_rng(seed)
        total = self.warm_up + budget.requests
        due = np.cumsum(draws.exponential(1 / load, total)) + 0.05
        body = json.dumps({
            "model": "small", "stream": True, "messages": [{"role": "user", "content": "how much"}],
            "stream_options": {"include_usage": True},
        }).encode()  # fmt: skip
        records: list[Record] = []
        begin = time.monotonic_ns()

        def ask(at: int) -> None:
            request = Request(path="/v1/chat/completions", body=body, model="small", session=at)
            records.append(self.client.ask(request, begin + int(due[at] * SECOND)).record)

        running, verdict, before = [], Verdict.OPEN, 0
        looks = {self.warm_up + budget.requests * part // 8 for part in (1, 2, 5, 8)}
        for at in range(total):
            gevent.sleep(max(0.0, due[at] - (time.monotonic_ns() - begin) / SECOND))
            running.append(gevent.spawn(ask, at))
            if at + 1 in looks and budget.test is not None and at + 1 < total:
                n, misses = self.count(finished(records))
                if n > before and (verdict := budget.verdict(misses, n, before)) is not Verdict.OPEN:
                    break
                before = n
        gevent.joinall(running)
        n, misses = self.count(records)
        if budget.test is not None and verdict is Verdict.OPEN:
            verdict = budget.verdict(misses, n, before)
        late = gates.late(records, self.objectives)
        waits = sorted(one.sent_ns - one.intended_ns - (one.connect_ns or 0) for one in records)
        slow = waits[int(0.99 * (len(waits) - 1))] > self.late * SECOND
        seconds = (time.monotonic_ns() - begin) / SECOND
        return ProbeResult(
            load, seed, n, misses, verdict, seconds, f"the client sends late: {late.value}" if slow else ""
        )  # fmt: skip

    def count(self, records: Sequence[Record]) -> tuple[int, dict[str, int]]:
        """(requests, misses) behind the warm-up."""
        return slo.misses([one for one in records if one.session >= self.warm_up], self.objectives)


def finished(records: Sequence[Record]) -> list[Record]:
    """The first requests up to one that still runs: what is done beyond it are the fast ones, which would flatter."""
    ordered = sorted(records, key=lambda one: one.session)
    return [one for place, one in enumerate(ordered) if one.session == place]


@contextmanager
def server(knee: Knee, warm_up: int) -> Iterator[Prober]:
    """A fresh fake engine with this knee, and what probes it."""
    scenario = {
        "slots": knee.slots, "queue": 100_000, "ttft_ms": 1000 * knee.first, "itl_ms": 1000 * knee.gap,
        "tokens": knee.tokens,
    }  # fmt: skip
    with engine(("small",), "-keep", "0", **scenario) as one, Client(f"http://{one.address}") as client:
        client.preconnect(2 * knee.slots)
        yield Prober(client, Objectives(ttft=knee.objective), warm_up)


def find(knee: Knee, plan: Plan, warm_up: int = 300) -> Found:
    """A real search, with its progress on standard error."""
    with server(knee, warm_up) as prober:
        return search.search(plan, prober, lambda line: print(line, file=sys.stderr))


def main() -> int:
    """Five searches by default, about eight minutes each; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--requests", type=int, default=1000)
    given = parser.parse_args()
    knee = Knee()
    true = knee.true()
    capacity = knee.slots / knee.service
    runs = []
    for seed in range(given.seed, given.seed + given.runs):
        began = time.monotonic()
        plan = Plan(
            start=capacity / 4, highest=4 * capacity, lowest=0.1, requests=given.requests,
            final_requests=given.requests, seed=seed,
        )  # fmt: skip
        found = find(knee, plan)
        value = None if found.load is None else found.load.value
        runs.append({
            "seed": seed, "ending": found.ending.value, "found": value, "why": found.why,
            "interval": None if found.load is None else [found.load.low, found.load.high],
            "off": None if value is None else value / true - 1, "seconds": round(time.monotonic() - began, 1),
        })  # fmt: skip
        print(f"run {seed}: {found.why}; true {true:.4g}", flush=True)
    held = all(isinstance(run["off"], float) and abs(run["off"]) <= WITHIN for run in runs)
    print(json.dumps({"true": true, "within": WITHIN, "held": held, "runs": runs}))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
