"""The arithmetic of the load tests, against exact values and against what is known of simulated data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from loadtests.analysis import stats
from loadtests.analysis.stats import Sequential, TooFew, Verdict


def draws(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def walk(rng: np.random.Generator, n: int, memory: float) -> Any:
    """Neighbours are alike, as in a queue."""
    noise = rng.normal(size=n)
    out = np.empty(n)
    out[0] = noise[0] / math.sqrt(1 - memory**2)
    for i in range(1, n):
        out[i] = memory * out[i - 1] + noise[i]
    return out


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert stats.percentile(range(1, 21), 0.95) == 19
    assert stats.percentile(range(1, 101), 0.95) == 95
    assert stats.percentile([3, 1, 2], 0.5) == 2
    assert stats.percentile([7], 0.99) == 7
    with pytest.raises(TooFew):
        stats.percentile([], 0.5)


def test_bounds_of_a_share_are_those_of_the_tables() -> None:
    # Clopper and Pearson, 10 of 100, 95% on both sides.
    assert stats.share_low(10, 100, 0.025) == pytest.approx(0.04900469, abs=1e-7)
    assert stats.share_high(10, 100, 0.025) == pytest.approx(0.17622260, abs=1e-7)
    assert stats.share_low(0, 10, 0.05) == 0
    assert stats.share_high(0, 59, 0.05) == pytest.approx(1 - 0.05 ** (1 / 59))


def test_quantiles_of_student_are_those_of_the_tables() -> None:
    for freedom, wanted in ((1, 12.7062), (4, 2.7764), (12, 2.1788), (1e6, 1.95996)):
        assert stats.student(0.975, freedom) == pytest.approx(wanted, abs=1e-4)
    assert stats.student(0.025, 4) == pytest.approx(-2.7764, abs=1e-4)


def test_intervals_of_a_percentile_hold_the_true_one() -> None:
    rng, hits = draws(1), 0
    true = -math.log(0.05)
    for _ in range(500):
        hits += true in stats.percentile_interval(rng.exponential(size=200), 0.95)
    assert 0.94 <= hits / 500 <= 0.99  # order statistics are whole, so a little wide


def test_an_interval_without_an_end_is_refused() -> None:
    assert stats.minimum_n(0.95) == 72
    with pytest.raises(TooFew, match=r"71 values are worth 71 independent ones; .* p95 .* takes 72"):
        stats.percentile_interval(range(71), 0.95)
    assert stats.percentile_interval(range(72), 0.95).high == 71
    with pytest.raises(TooFew):
        stats.percentile_interval(range(1000), 0.95, effective=50)


def test_values_that_depend_on_each_other_are_worth_less() -> None:
    alone = stats.effective_size(draws(2).normal(size=4000))
    alike = stats.effective_size(walk(draws(2), 4000, 0.9))  # in truth 4000 x 0.1 / 1.9 = 210
    assert alone > 2000
    assert 100 < alike < 420


def test_sessions_whose_values_are_alike_are_worth_their_number() -> None:
    rng = draws(3)
    sessions = rng.permutation(np.repeat(np.arange(40), 25))
    values = rng.normal(size=40)[sessions] + 0.01 * rng.normal(size=1000)
    assert stats.effective_size(values) > 200  # shuffled: time alone shows nothing
    assert 20 < stats.effective_size(values, list(sessions)) < 80


def test_a_warm_up_is_cut_and_the_rest_is_steady() -> None:
    values = draws(5).normal(100, 5, size=1000)
    values[:150] += np.linspace(200, 0, 150)
    found = stats.steady(values)
    assert found.start is not None, found.why
    assert 90 <= found.start <= 250


@pytest.mark.parametrize("seed", range(5))
def test_a_queue_that_grows_has_no_steady_state(seed: int) -> None:
    growing = draws(seed).normal(100, 5, size=600) + np.arange(600) * 0.1
    found = stats.steady(growing)
    assert found.start is None
    assert "grow" in found.why or "settle" in found.why


@pytest.mark.parametrize("size", [60, 120, 400])
def test_steady_values_are_seldom_refused(size: int) -> None:
    refused = sum(stats.steady(draws(seed).exponential(size=size)).start is None for seed in range(400))
    assert refused <= 10
    assert stats.steady(range(49)).start is None


def test_a_few_late_answers_in_a_steady_run_are_no_warm_up() -> None:
    refused = 0
    for seed in range(400):
        rng = draws(seed)
        values = rng.normal(40, 0.5, size=120)
        for at in rng.integers(120, size=rng.poisson(3)):
            values[at : at + 4] += rng.exponential(20)
        refused += stats.steady(values).start is None
    assert refused <= 10, "MSER alone: 33"


@pytest.mark.parametrize("until", [0.45, 0.6])
def test_a_warm_up_that_takes_half_of_the_run_is_seen(until: float) -> None:
    refused = 0
    for seed in range(200):
        values = draws(seed).normal(100, 5, size=60)
        values[: int(60 * until)] += 10
        refused += stats.steady(values).start is None
    assert refused > 60


def test_littles_law_holds_and_notices_what_was_dropped() -> None:
    rng = draws(6)
    starts = np.cumsum(rng.exponential(1 / 20, size=20_000))
    ends = starts + rng.exponential(2.0, size=starts.size)
    window = (20.0, 900.0)
    assert stats.in_flight(starts, ends, window) == pytest.approx(40, rel=0.05)
    assert stats.little(starts, ends, window) < 0.02
    # Answers that were under way in the window's second half were never written down.
    kept = ~((starts > 450) & (starts < 900) & (ends - starts > 2.5))
    cut = np.where(kept, ends, starts + 2.5)
    assert stats.in_flight(starts, cut, window) < 36
    with pytest.raises(TooFew):
        stats.little(starts, ends, (-2.0, -1.0))


def exponential(x: Any) -> Any:
    return 1 - np.exp(-x)


def test_kolmogorov_and_smirnov() -> None:
    chances = [stats.kolmogorov(draws(seed).exponential(size=300), exponential)[1] for seed in range(300)]
    assert 0.02 <= sum(chance < 0.05 for chance in chances) / 300 <= 0.08
    assert stats.kolmogorov(draws(0).gamma(1.6, 1 / 1.6, size=300), exponential)[1] < 0.001
    with pytest.raises(TooFew):
        stats.kolmogorov([1.0] * 7, exponential)


def looked(test: Sequential, missed: Any) -> tuple[Verdict, int]:
    before = 0
    for n in (test.budget // 8, test.budget // 4, test.budget // 2, test.budget):
        if (verdict := test.look(float(missed[:n].sum()), n, before)) is not Verdict.OPEN:
            return verdict, n
        before = n
    return Verdict.OPEN, before


def test_repeated_looks_keep_the_error_and_easy_probes_are_short() -> None:
    test = Sequential(0.05, 2000)
    rng = draws(7)
    at_the_edge = [looked(test, rng.random(2000) < 0.05)[0] for _ in range(600)]
    # Each side may be wrong in 5%.
    assert at_the_edge.count(Verdict.PASS) / 600 <= 0.05
    assert at_the_edge.count(Verdict.FAIL) / 600 <= 0.05
    assert at_the_edge.count(Verdict.OPEN) < 600
    assert looked(test, rng.random(2000) < 0.30) == (Verdict.FAIL, 250)
    assert looked(test, rng.random(2000) < 0.005)[0] is Verdict.PASS
    assert looked(test, rng.random(2000) < 0.005)[1] < 2000


def test_dependent_requests_take_longer_to_convince() -> None:
    test = Sequential(0.05, 1000)
    assert test.look(20, 1000) is Verdict.PASS
    assert test.look(20, 1000, effective=100) is Verdict.OPEN
    assert test.look(100, 1000) is Verdict.FAIL
    assert test.look(0, 0) is Verdict.OPEN


def test_the_short_form_of_a_look_is_that_of_the_bounds() -> None:
    test = Sequential(0.05, 1000)
    for n in (50, 200, 1000):
        alpha = test.spent(n)
        for misses in range(0, n, max(n // 40, 1)):
            wanted = Verdict.OPEN
            if stats.share_high(misses, n, alpha) <= 0.05:
                wanted = Verdict.PASS
            elif stats.share_low(misses, n, alpha) > 0.05:
                wanted = Verdict.FAIL
            assert test.look(misses, n) is wanted
