"""Queues whose 95th percentiles are known exactly, simulated many runs at once; `python -m tests.support.queues` prints
how often the intervals of such runs hold the truth, as docs/load-report.md has it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Final

import numpy as np

from loadtests.analysis import intervals
from loadtests.analysis.stats import Floats, TooFew

FIRST: Final = 0.2
"""From a slot to the first token: what is added to the wait."""


@dataclass(frozen=True)
class Runs:
    """Many runs of one queue, a row each, in the order of arrival; a mean service is 1."""

    first: Floats
    """The times to first token."""
    whole: Floats
    """The times to the whole answer."""
    first_p95: float
    whole_p95: float


@dataclass(frozen=True)
class Told:
    """How often an interval was told, and how often that held the truth."""

    runs: int
    told: int
    held: int
    width: float
    """The median, as a share of p95."""


def poisson(load: float, slots: int, requests: int, runs: int, seed: int) -> Runs:
    """Poisson arrivals at slots with exponential service, stationary from the first request (M/M/c)."""
    draws = np.random.default_rng(seed)
    service = draws.exponential(size=(runs, requests))
    gaps = draws.exponential(1 / (load * slots), size=(runs, requests))
    busy = _erlang(load, slots)
    if slots == 1:  # Lindley's recursion, all at once
        start = np.where(draws.random(runs) < load, draws.exponential(1 / (1 - load), runs), 0.0)
        steps = np.concatenate([start[:, None], service[:, :-1] - gaps[:, 1:]], axis=1)
        level = np.cumsum(steps, axis=1)
        wait = level - np.minimum(np.minimum.accumulate(level, axis=1), 0)
    else:
        wait = _waits(draws, service, gaps, slots, round(20 / (1 - load) ** 2))
    drain = slots * (1 - load)

    def over(t: float) -> float:
        """The wait and the service together are longer than this."""
        if math.isclose(drain, 1):
            return math.exp(-t) * (1 + busy * t)
        both = (drain * math.exp(-t) - math.exp(-drain * t)) / (drain - 1)
        return (1 - busy) * math.exp(-t) + busy * both

    waited = max(0.0, math.log(busy / 0.05) / drain)
    return Runs(FIRST + wait, wait + service, FIRST + waited, _where(lambda t: over(t) - 0.05))


def _erlang(load: float, slots: int) -> float:
    """The chance to find every slot taken (Erlang's C)."""
    offered = load * slots
    full = offered**slots / math.factorial(slots) / (1 - load)
    return full / (sum(offered**k / math.factorial(k) for k in range(slots)) + full)


def _waits(draws: np.random.Generator, service: Floats, gaps: Floats, slots: int, before: int) -> Floats:
    runs, requests = service.shape
    free, now, every = np.zeros((runs, slots)), np.zeros(runs), np.arange(runs)
    waits = np.empty((runs, requests))
    for k in range(-before, requests):
        known = k >= 0
        now += gaps[:, k] if known else draws.exponential(gaps.mean(), runs)
        slot = free.argmin(axis=1)
        wait = np.maximum(free[every, slot] - now, 0)
        free[every, slot] = now + wait + (service[:, k] if known else draws.exponential(size=runs))
        if known:
            waits[:, k] = wait
    return waits


def people(users: int, slots: int, think: float, requests: int, runs: int, seed: int) -> Runs:
    """People who ask, wait for the answer, and think for an exponential time (M/M/c//N)."""
    draws = np.random.default_rng(seed)
    free, ready, every = np.zeros((runs, slots)), draws.exponential(think, size=(runs, users)), np.arange(runs)
    wait, service = np.empty((runs, requests)), np.empty((runs, requests))
    for k in range(-20 * users, requests):
        who, slot = ready.argmin(axis=1), free.argmin(axis=1)
        due, took = ready[every, who], draws.exponential(size=runs)
        waits = np.maximum(free[every, slot] - due, 0)
        free[every, slot] = due + waits + took
        ready[every, who] = due + waits + took + draws.exponential(think, runs)
        if k >= 0:
            wait[:, k], service[:, k] = waits, took
    # Who arrives finds as many there as one person fewer would leave in the long run (arrival theorem).
    logs = [
        (users - 1 - k) * math.log(think)
        - math.lgamma(users - k)
        - sum(math.log(min(j, slots)) for j in range(1, k + 1))
        for k in range(users)
    ]
    shares = np.exp(np.array(logs) - max(logs))
    shares /= shares.sum()

    def waited(t: float) -> float:
        found, term, total = 0.0, math.exp(-slots * t), 0.0
        for k in range(slots, users):
            total += term
            term *= slots * t / (k - slots + 1)
            found += shares[k] * total
        return found

    at = np.linspace(0, 60, 6001)
    tail = np.array([waited(float(t)) for t in at])
    middle, mass = (at[1:] + at[:-1]) / 2, -np.diff(tail)

    def over(t: float) -> float:
        return (1 - tail[0]) * math.exp(-t) + float((mass * np.exp(-np.clip(t - middle, 0, None))).sum())

    p95 = _where(lambda t: waited(t) - 0.05) if tail[0] > 0.05 else 0.0
    return Runs(FIRST + wait, wait + service, FIRST + p95, _where(lambda t: over(t) - 0.05))


def _where(falling: Callable[[float], float]) -> float:
    low, high = 0.0, 1000.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return low


def told(values: Floats, first: Floats, truth: float) -> Told:
    """What the intervals of p95 of these runs say."""
    widths, held = [], 0
    for row, waits in zip(values, first, strict=True):
        try:
            one = intervals.of_percentile(row, 0.95, queue=waits)
        except TooFew:
            continue
        widths.append((one.high - one.low) / one.value)
        held += truth in one
    return Told(len(values), len(widths), held, float(np.median(widths)) if widths else math.nan)


def _poisson(load: float, slots: int, runs: int, requests: int) -> Runs:
    return poisson(load, slots, requests, runs, requests + slots)


def _people(users: int, slots: int, think: float, runs: int, requests: int) -> Runs:
    return people(users, slots, think, requests, runs, requests + users)


def table(runs: int = 400) -> Iterator[str]:
    """The rows of docs/load-report.md: told, held, and held of all those told."""
    cases: list[tuple[str, Callable[[int], Runs]]] = [
        (f"{slots} slot{'s' * (slots > 1)}, load {load:g}", partial(_poisson, load, slots, runs))
        for slots, load in product((1, 8), (0.3, 0.5, 0.7, 0.85, 0.95))
    ]
    cases += [
        (f"{users} people, {slots} slots", partial(_people, users, slots, think, runs))
        for users, slots, think in ((12, 4, 4.0), (24, 4, 4.0), (60, 4, 12.0))
    ]
    for name, made in cases:
        cells = []
        for requests in (500, 1500, 6000):
            one = made(requests)
            for values, truth in ((one.first, one.first_p95), (one.whole, one.whole_p95)):
                if truth <= FIRST:
                    cells.append("n/a")  # p95 has no wait: its value is that of every other request
                    continue
                seen = told(values, one.first, truth)
                share = f"{seen.held / seen.told:.0%}" if seen.told >= 0.02 * seen.runs else "n/a"
                cells.append(f"{seen.told / seen.runs:.0%}: {share}")
        yield f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    for line in table():
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
