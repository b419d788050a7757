"""Schedules of open loops have the law that was asked for, whatever the number of workers."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from loadtests.analysis import stats
from loadtests.workload import arrivals
from loadtests.workload.arrivals import Arrivals, Kind

ALPHA = 0.001
SEEDS = range(20)


def together(law: Arrivals, seconds: float, seed: int, workers: int) -> Any:
    """What arrives at the server."""
    parts = [arrivals.schedule(law, seconds, seed, worker, workers) for worker in range(workers)]
    return np.sort(np.concatenate(parts))


def gamma_below(shape: float, x: Any) -> Any:
    """The regularised lower incomplete gamma function, by its series (Abramowitz and Stegun 6.5.29)."""
    x = np.asarray(x, dtype=np.float64)
    term = np.full_like(x, 1 / shape)
    total = term.copy()
    for step in range(1, 400):
        term = term * x / (shape + step)
        total += term
    return np.where(x > 0, total * np.exp(-x + shape * np.log(np.maximum(x, 1e-300)) - math.lgamma(shape)), 0.0)


def test_the_incomplete_gamma_function_is_that_of_the_tables() -> None:
    assert gamma_below(1, [0.5, 2]) == pytest.approx(1 - np.exp([-0.5, -2]))
    assert float(gamma_below(0.5, 1.0)) == pytest.approx(math.erf(1))
    assert float(gamma_below(4, 3.0)) == pytest.approx(0.352768, abs=1e-6)


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_gaps_of_poisson_arrivals_are_exponential(workers: int) -> None:
    for seed in SEEDS:
        gaps = np.diff(together(Arrivals("poisson", 20.0), 100, seed, workers))
        assert stats.kolmogorov(gaps, lambda x: 1 - np.exp(-20 * x))[1] > ALPHA, seed


@pytest.mark.parametrize("workers", [1, 3, 8])
@pytest.mark.parametrize("cv", [0.5, 2.0, 3.0])
def test_gaps_of_gamma_arrivals_are_gamma(workers: int, cv: float) -> None:
    shape = 1 / cv**2
    for seed in SEEDS:
        gaps = np.diff(together(Arrivals("gamma", 20.0, cv), 60, seed, workers))
        assert stats.kolmogorov(gaps, lambda x: gamma_below(shape, 20 * shape * x))[1] > ALPHA, seed


def test_the_tests_notice_another_law() -> None:
    gaps = np.diff(together(Arrivals("gamma", 20.0, 1.2), 100, 1, 1))
    assert stats.kolmogorov(gaps, lambda x: 1 - np.exp(-20 * x))[1] < ALPHA
    # Four bursty processes side by side are no bursty process: why the workers share one.
    parts = [arrivals.schedule(Arrivals("gamma", 5.0, 3.0), 100, seed) for seed in range(4)]
    gaps = np.diff(np.sort(np.concatenate(parts)))
    assert stats.kolmogorov(gaps, lambda x: gamma_below(1 / 9, 20 / 9 * x))[1] < ALPHA


@pytest.mark.parametrize(("law", "cv"), [("constant", 0), ("poisson", 1), ("gamma:0.5", 0.5), ("gamma:3", 3)])
def test_counts_are_as_the_rate_says_from_the_first_moment_on(law: str, cv: float) -> None:
    """The equilibrium process: without it a bursty load begins with a burst too many."""
    parsed = arrivals.parse(law)
    runs = 3000
    due = [arrivals.schedule(Arrivals(parsed.kind, 10.0, parsed.cv), 10, seed) for seed in range(runs)]
    for low in (0, 5):
        counts = [int(((one >= low) & (one < low + 1)).sum()) for one in due]
        # The variance of a mean of counts is about cv² x count, and no less than that of a random phase.
        assert np.mean(counts) == pytest.approx(10, abs=4 * math.sqrt(max(cv**2 * 10, 0.25) / runs))


def test_constant_arrivals_are_evenly_spaced_over_all_workers_and_begin_at_a_random_phase() -> None:
    law = Arrivals("constant", 8.0)
    due = together(law, 10, 1, 3)
    assert len(due) == 80
    assert np.diff(due) == pytest.approx(0.125)
    assert arrivals.schedule(law, 10, 1, 0, 2)[:3] == pytest.approx(due[[0, 2, 4]])
    assert len({float(together(law, 1, seed, 1)[0]) for seed in SEEDS}) == len(SEEDS)


@pytest.mark.parametrize("law", ["constant", "poisson", "gamma:2"])
def test_the_same_seed_gives_the_same_moments_whatever_the_workers(law: str) -> None:
    wanted = arrivals.parse(law)
    alone = together(wanted, 50, 7, 1)
    assert len(alone) > 20
    assert all(a < b for a, b in pairwise(alone))
    for workers in (2, 5):
        assert together(wanted, 50, 7, workers).tolist() == alone.tolist()
    assert together(wanted, 50, 8, 1).tolist() != alone.tolist()


def test_a_schedule_ends_in_time_and_may_be_empty() -> None:
    assert arrivals.schedule(Arrivals("poisson", 100.0), 3, 1).max() < 3
    assert arrivals.schedule(Arrivals("poisson", 0.001), 0.5, 1).size == 0
    assert arrivals.schedule(Arrivals("constant", 5.0), 0, 1).size == 0


def test_words_are_read_as_they_are_written() -> None:
    assert arrivals.parse(" Poisson ") == Arrivals(Kind.POISSON)
    assert arrivals.parse("gamma:2") == Arrivals(Kind.GAMMA, cv=2.0)
    assert [str(arrivals.parse(one)) for one in ("constant", "gamma:0.5")] == ["constant", "gamma:0.5"]


@pytest.mark.parametrize(
    "text", ["", "gama:2", "gamma", "gamma:", "gamma:x", "gamma:0", "gamma:nan", "gamma:21", "poisson:2", "constant:1"]
)
def test_other_words_are_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match=r"allowed are constant .*, poisson .*, gamma:CV") as raised:
        arrivals.parse(text)
    assert f"ARRIVALS={text}" in str(raised.value)


def test_what_cannot_be_is_refused() -> None:
    law = Arrivals("poisson", 10.0)
    for wrong, words in (
        (lambda: Arrivals("poisson", 0.0), "above 0"),
        (lambda: Arrivals("poisson", math.inf), "above 0"),
        (lambda: Arrivals("uniform"), "not known"),
        (lambda: arrivals.schedule(law, 10, 1, 2, 2), "no worker 2 of 2"),
        (lambda: arrivals.schedule(law, -1, 1), "0 or more"),
        (lambda: arrivals.schedule(Arrivals("poisson", 1e5), 1e5, 1), "lower the rate"),
    ):
        with pytest.raises(ValueError, match=words):
            wrong()
