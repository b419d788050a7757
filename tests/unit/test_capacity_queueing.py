"""Queues: what the chains say is what a simulation in virtual time sees."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import NormalDist

import pytest

from stack.capacity.queueing import QueueError, closed, opened


def batching(working: int) -> float:
    """A model server: a step takes 20 ms and 2 ms for each answer, an answer takes 100 steps."""
    return working / (100 * (0.020 + 0.002 * working))


def simulate(
    people: int, think: float, rate: Callable[[int], float], slots: int, ends: int
) -> tuple[float, list[float]]:
    """Requests a second, and each one's wait, of people who think for exponential times. Exponential work, shared."""
    chance = random.Random(7)
    now, working, waiting = 0.0, 0, deque[float]()
    thinking = [chance.expovariate(1 / think) for _ in range(people)]
    heapq.heapify(thinking)
    waits: list[float] = []
    done = 0
    while done < ends:
        end = now + chance.expovariate(rate(working)) if working else math.inf
        if thinking and thinking[0] <= end:
            # Exponential work has no memory: the end is drawn anew from here.
            now = heapq.heappop(thinking)
            if working < slots:
                working += 1
                waits.append(0.0)
            else:
                waiting.append(now)
            continue
        now = end
        done += 1
        heapq.heappush(thinking, now + chance.expovariate(1 / think))
        if waiting:
            waits.append(now - waiting.popleft())
        else:
            working -= 1
    return done / now, waits


@pytest.mark.parametrize(("people", "slots"), [(3, 4), (40, 4), (120, 8)])
def test_closed_is_what_a_simulation_sees(people: int, slots: int) -> None:
    said = closed(people, 30, batching, slots)
    rate, waits = simulate(people, 30, batching, slots, 60_000)
    assert said.throughput == pytest.approx(rate, rel=0.02)
    assert said.wait == pytest.approx(sum(waits) / len(waits), rel=0.08, abs=0.02)
    assert said.waits == pytest.approx(sum(wait > 0 for wait in waits) / len(waits), rel=0.05, abs=0.01)
    for part in (0.5, 0.95):
        assert said.wait_quantile(part) == pytest.approx(sorted(waits)[int(part * len(waits))], rel=0.08, abs=0.05)


@pytest.mark.parametrize("people", [1, 10, 100, 1000])
def test_little_s_law_holds(people: int) -> None:
    said = closed(people, 20, batching, 6)
    assert said.throughput * (said.response + 20) == pytest.approx(people)
    assert said.working + said.waiting == pytest.approx(said.throughput * said.response)
    assert sum(said.found) == pytest.approx(1)


def values(people: int, think: float, rates: Sequence[float]) -> float:
    """Throughput by mean value analysis with load-dependent rates, as the books write it."""
    shares, throughput = [1.0], 0.0
    for count in range(1, people + 1):
        response = sum((k + 1) / rates[min(k + 1, len(rates)) - 1] * shares[k] for k in range(count))
        throughput = count / (think + response)
        new = [throughput / rates[min(k + 1, len(rates)) - 1] * shares[k] for k in range(count)]
        shares = [1 - sum(new), *new]
    return throughput


def test_closed_is_mean_value_analysis() -> None:
    rates = [batching(count) for count in range(1, 5)]
    for people in range(1, 15):
        assert closed(people, 10, batching, 4).throughput == pytest.approx(values(people, 10, rates))


def test_a_queue_of_thousands_waits_as_long_as_its_ends_take() -> None:
    """Waits of more than 700 ends were said to be 700 ends long: 0.7 s here."""
    said = closed(5_000, 0.1, lambda _: 1_000.0, 10)
    others = said.waiting - 1
    assert said.wait == pytest.approx(others / 1_000, rel=1e-2)
    late = (others + NormalDist().inv_cdf(0.95) * math.sqrt(others)) / 1_000
    assert said.wait_quantile(0.95) == pytest.approx(late, rel=5e-3)


def test_one_person_never_waits() -> None:
    said = closed(1, 10, batching, 1)
    assert said.wait == 0
    assert said.waits == 0
    assert said.wait_quantile(0.99) == 0
    assert said.response == pytest.approx(1 / batching(1))


def test_without_thinking_everybody_is_in_the_room() -> None:
    said = closed(10, 0, batching, 4)
    assert (said.working, said.waiting) == pytest.approx((4, 6))
    assert said.throughput == pytest.approx(batching(4))


def test_more_people_wait_longer_and_more_slots_serve_more() -> None:
    waits = [closed(people, 30, batching, 4).wait for people in (5, 20, 80, 320)]
    assert all(less < more for less, more in pairwise(waits))
    served = [closed(200, 30, batching, slots).throughput for slots in (1, 2, 4, 8)]
    assert all(less < more for less, more in pairwise(served))


def test_open_with_one_slot_is_the_book() -> None:
    said = opened(0.8, lambda working: 1.0, 1)
    assert said.wait == pytest.approx(0.8 / 0.2)
    assert said.waits == pytest.approx(0.8)
    assert said.wait_quantile(0.95) == pytest.approx(math.log(0.8 / 0.05) / 0.2, rel=1e-3)
    assert opened(0.8, lambda working: 1.0, 1, variation=0).wait == pytest.approx(0.8 / 0.2 / 2)


def test_open_with_slots_is_erlang_s_formula() -> None:
    load, slots = 3.2, 4
    top = load**slots / math.factorial(slots) * slots / (slots - load)
    erlang = top / (sum(load**k / math.factorial(k) for k in range(slots)) + top)
    said = opened(load, float, slots)
    assert said.waits == pytest.approx(erlang)
    assert said.wait == pytest.approx(erlang / (slots - load))


def test_a_queue_that_grows_without_bound_is_said() -> None:
    with pytest.raises(QueueError, match="without bound"):
        opened(2, lambda working: 1.0, 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: closed(0, 1, batching, 1),
        lambda: closed(10**9, 1, batching, 1),
        lambda: closed(1, -1, batching, 1),
        lambda: closed(1, 1, batching, 0),
        lambda: closed(1, 1, lambda working: 0.0, 1),
        lambda: opened(0, batching, 1),
        lambda: opened(1 - 1e-9, lambda working: 1.0, 1),
        lambda: closed(1, 1, batching, 1).wait_quantile(1),
    ],
)
def test_numbers_that_cannot_be_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(QueueError):
        call()
