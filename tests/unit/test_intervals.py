"""Intervals of one run's percentile: those that are told hold the truth, and a run that is too short tells none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from loadtests.analysis import intervals, stats
from loadtests.analysis.intervals import TooShort
from loadtests.analysis.stats import Floats, TooFew
from tests.support import queues
from tests.support.queues import Runs


def following(seed: int, n: int, after: float) -> Floats:
    """Each value keeps this share of the one before."""
    noise = np.random.default_rng(seed).normal(size=n)
    values = noise / math.sqrt(1 - after**2)
    for k in range(1, n):
        values[k] = after * values[k - 1] + noise[k]
    return values


def test_the_memory_is_that_of_the_formula() -> None:
    for after in (0.0, 0.5, 0.9):
        told = [intervals.memory(following(seed, 4000, after)) for seed in range(20)]
        assert float(np.median(told)) == pytest.approx((1 + after) / (1 - after), rel=0.15)
    assert intervals.memory([3.0] * 200) == 1
    assert intervals.memory([-1.0, 1.0] * 100) == 1
    assert intervals.memory([]) == 1


# Of those told at least 90% hold the truth, of 120 runs.
@pytest.mark.parametrize(
    ("load", "slots", "requests", "least"),
    [(0.5, 1, 1500, 0.95), (0.7, 1, 1500, 0.4), (0.7, 1, 6000, 0.95), (0.85, 1, 6000, 0.3), (0.7, 8, 1500, 0.8),
     (0.85, 8, 1500, 0.15)],
)  # fmt: skip
def test_intervals_hold_the_truth_however_the_requests_wait_for_each_other(
    load: float, slots: int, requests: int, least: float
) -> None:
    runs = queues.poisson(load, slots, requests, 120, 5)
    seen = queues.told(runs.whole, runs.first, runs.whole_p95)
    assert seen.told >= least * seen.runs
    assert seen.held >= 0.9 * seen.told


def test_intervals_hold_the_truth_where_people_think_between_their_questions() -> None:
    runs = queues.people(24, 4, 4.0, 1500, 60, 5)
    seen = queues.told(runs.whole, runs.first, runs.whole_p95)
    assert seen.told >= 0.4 * seen.runs
    assert seen.held >= 0.95 * seen.told


@pytest.mark.parametrize(
    ("load", "slots", "requests"), [(0.85, 1, 500), (0.85, 1, 1500), (0.95, 1, 500), (0.95, 1, 6000), (0.95, 8, 500)]
)
def test_a_run_that_is_short_beside_the_memory_of_its_queue_tells_none(load: float, slots: int, requests: int) -> None:
    """A run may look quieter than it is: that must be rare."""
    runs = queues.poisson(load, slots, requests, 150, 6)
    for values, truth in ((runs.first, runs.first_p95), (runs.whole, runs.whole_p95)):
        assert queues.told(values, runs.first, truth).told <= 0.03 * 150


@pytest.mark.parametrize(("slots", "requests"), [(1, 500), (8, 300)])
def test_at_a_light_load_the_interval_is_told_and_little_wider_than_of_as_many_independent_values(
    slots: int, requests: int
) -> None:
    runs = queues.poisson(0.3, slots, requests, 120, 7)
    seen = queues.told(runs.whole, runs.first, runs.whole_p95)
    assert seen.told >= 0.95 * seen.runs
    assert seen.held >= 0.93 * seen.told
    alone = queues.told(*_independent(requests))
    assert alone.told == alone.runs
    best = [stats.percentile_interval(one, 0.95) for one in _independent(requests)[0]]
    assert alone.width <= 1.15 * float(np.median([(one.high - one.low) / one.value for one in best]))


def _independent(requests: int) -> tuple[Floats, Floats, float]:
    values = np.random.default_rng(8).exponential(size=(40, requests))
    return values, values, math.log(20)


def test_what_hardly_waits_is_told_from_fewer_requests_than_the_wait() -> None:
    """The answer of a model takes as long as it takes; near its capacity only the first token tells of the queue."""
    runs: Runs = queues.poisson(0.7, 8, 1500, 60, 9)
    for first, whole in zip(runs.first, runs.whole, strict=True):
        assert intervals.worth(whole, 0.95, queue=first) >= intervals.worth(first, 0.95, queue=first)
    told = queues.told(runs.whole, runs.first, runs.whole_p95).told
    assert told > queues.told(runs.first, runs.first, runs.first_p95).told


def test_a_hidden_wait_makes_a_run_worth_less() -> None:
    runs = queues.poisson(0.85, 8, 1500, 60, 10)
    alone = sum(intervals.worth(one, 0.95) for one in runs.whole)
    both = sum(intervals.worth(one, 0.95, queue=first) for first, one in zip(runs.first, runs.whole, strict=True))
    assert both < 0.7 * alone


def test_it_is_said_why_there_is_none_and_what_would_help() -> None:
    with pytest.raises(TooFew, match=r"71 values are worth .*takes 72") as few:
        intervals.of_percentile(range(71), 0.95)
    assert not isinstance(few.value, TooShort)
    with pytest.raises(TooFew, match="0 values"):
        intervals.of_percentile([], 0.95)
    busy = queues.poisson(0.9, 1, 1500, 1, 11).whole[0]
    with pytest.raises(
        TooShort, match=r"^too short beside the memory of its queue: 1,500 values are worth \d+ "
    ) as one:
        intervals.of_percentile(busy, 0.95)
    assert "it takes 72; hold it at least " in str(one.value)
    assert str(one.value).endswith(" times as long, or search")


def test_what_one_person_asks_is_worth_their_number() -> None:
    people = np.repeat(np.random.default_rng(12).permutation(40), 50)
    values = np.random.default_rng(13).normal(size=40)[people] + 0.01 * np.random.default_rng(14).normal(size=2000)
    mixed = np.random.default_rng(15).permutation(2000)
    assert intervals.worth(values[mixed], 0.95) > 500
    assert intervals.worth(values[mixed], 0.95, sessions=list(people[mixed])) < 100
