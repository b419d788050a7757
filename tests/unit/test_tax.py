"""The gateway's tax from pairs: known differences are found, intervals hold them as often as they say."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from loadtests.analysis import stats
from loadtests.analysis.stats import Floats, TooFew
from loadtests.compare import tax
from loadtests.compare.tax import Pair
from loadtests.records import Outcome, Record
from loadtests.results.schema import Added, Metric
from tests.support.records import MS, failed, record

Draw = Callable[[np.random.Generator, int], Floats]


def pairs(n: int = 60, *, ttft: float = 5.0, itl: float = 0.0, drift: float = 0.0, seed: int = 1) -> list[Pair]:
    """Pairs on an engine of 200 and 10 ms, with noise of its own; what the gateway adds in ms; drift a pair in ms."""
    draws = np.random.default_rng(seed)
    made = []
    for number in range(n):
        at, base = number * 1000.0, 200 + drift * number
        noise = draws.exponential(3, 2)
        direct = record(at, ttft=base + noise[0], itl=10)
        through = record(at + 500, ttft=base + noise[1] + ttft, itl=10 + itl)
        made.append(Pair(direct=direct, through=through, stream=number % 4))
    return made


def found(name: Metric, made: list[Pair]) -> Added:
    one = tax.added(name, made)
    assert one is not None
    return one


def test_what_was_added_is_found_in_the_metric_that_it_was_added_to() -> None:
    made = pairs(ttft=5, itl=0.5)
    first, gap, end = found("ttft", made), found("itl", made), found("e2e", made)
    assert first.low < 0.005 < first.high
    assert first.high - first.low < 0.003
    assert gap.added == pytest.approx(0.0005, rel=0.01)
    assert end.low < 0.005 + 19 * 0.0005 < end.high
    assert first.direct == pytest.approx(0.202, abs=0.001)
    assert gap.through == pytest.approx(0.0105)


def test_nothing_added_is_nothing() -> None:
    one = found("ttft", pairs(ttft=0))
    assert one.low < 0 < one.high
    assert abs(one.added) < 0.001


def test_what_drifts_under_both_does_not_count() -> None:
    one = found("ttft", pairs(drift=40))
    assert one.low < 0.005 < one.high
    assert one.high - one.low < 0.003, "the engine became 2.4 s slower meanwhile"


def test_tokens_handed_on_in_bundles_are_seen_though_their_mean_is_the_same() -> None:
    def bundled(number: int) -> Record:
        one: Record = record(number * 1000.0 + 500, ttft=200, itl=10, tokens=21)
        for k, moment in enumerate(one.pieces_ns):
            one.pieces_ns[k] = moment + (-k % 5) * 10 * MS  # five at a time, with the last of them
        return one

    made = [Pair(direct=record(n * 1000.0, ttft=200, itl=10, tokens=21), through=bundled(n)) for n in range(12)]
    assert found("itl", made).added == pytest.approx(0)
    assert found("itl_p95", made).added == pytest.approx(0.04)


def test_failures_are_left_out_and_counted() -> None:
    made = pairs(20)
    bad = [
        Pair(direct=record(30_000), through=failed(30_500)),
        Pair(direct=failed(31_000, Outcome.LIMIT), through=record(31_500)),
    ]
    one = tax.level(4, made + bad)
    assert (one.pairs, one.failed) == (20, 2)
    assert [added.pairs for added in one.added] == [20] * 4
    assert "2 of 22 pairs failed" in tax.caution([one], lag=0.0005)


def test_whole_answers_are_compared_where_they_have_the_same_length() -> None:
    short = Pair(direct=record(90_000, tokens=20), through=record(90_500, tokens=4))
    one = tax.level(1, [*pairs(20), short])
    counts = {added.metric: added.pairs for added in one.added}
    assert (counts["ttft"], counts["e2e"], one.uneven) == (21, 20, 1)


def test_too_few_pairs_say_nothing() -> None:
    one = tax.level(1, pairs(5))
    assert one.added == []
    assert "too few" in tax.caution([one], lag=0.0)
    with pytest.raises(TooFew, match="at least 6"):
        tax.shift([1.0] * 5)


def test_a_busy_client_is_told_of() -> None:
    levels = [tax.level(1, pairs(20))]
    assert tax.caution(levels, lag=0.0019) == ""
    assert "2.1 ms late" in tax.caution(levels, lag=0.0021)


def test_processor_time_is_for_each_request_that_went_through() -> None:
    assert tax.level(1, pairs(20), cpu=0.05).cpu == pytest.approx(0.0025)
    assert tax.level(1, pairs(20)).cpu is None


def test_new_connections_stand_apart() -> None:
    direct = [record(connect_ns=MS // 10)] * 3
    through = [record(connect_ns=MS // 5, tls_ns=3 * MS), record(connect_ns=MS // 5, tls_ns=5 * MS), record()]
    one = tax.handshake(direct, through)
    assert one is not None
    assert (one.connections, one.direct, one.through, one.tls) == (2, 0.0001, 0.0002, 0.004)
    assert tax.handshake(direct, [record()]) is None


def test_signed_ranks_are_counted_exactly() -> None:
    sums = sorted(sum(rank * sign for rank, sign in enumerate(signs, 1)) for signs in product((0, 1), repeat=8))
    ways = [sum(one <= k for one in sums) / 256 for k in range(37)]
    assert list(tax._ranks(8)) == pytest.approx(ways)


def test_the_interval_is_the_one_of_the_book() -> None:
    # Hollander, Wolfe and Chicken, table 3.1 and examples 3.3 and 3.4: depression scores of nine patients.
    differences = [-0.952, 0.147, -1.022, -0.430, -0.620, -0.590, -0.490, 0.080, -0.010]
    one = tax.shift(differences, confidence=0.96)
    assert [one.value, one.low, one.high] == pytest.approx([-0.46, -0.786, -0.010])


def laplace(draws: np.random.Generator, n: int) -> Floats:
    return 0.5 + draws.exponential(2, n) - draws.exponential(2, n)


def wild(draws: np.random.Generator, n: int) -> Floats:
    heavy: Floats = 0.5 + draws.standard_cauchy(n)
    return heavy


@pytest.mark.parametrize(("draw", "n"), [(laplace, 12), (laplace, 60), (wild, 60)], ids=lambda one: str(one)[:14])
def test_intervals_hold_the_true_difference_as_often_as_they_say(draw: Draw, n: int) -> None:
    held = sum(0.5 in tax.shift(draw(np.random.default_rng(seed), n)) for seed in range(1000)) / 1000
    assert 0.93 <= held <= 0.97


def test_differences_that_follow_each_other_have_wider_intervals() -> None:
    def held(careful: bool) -> float:
        count = 0
        for seed in range(400):
            noise, d = np.random.default_rng(seed).normal(0, 1, 60), np.zeros(60)
            for k in range(1, 60):
                d[k] = 0.4 * d[k - 1] + noise[k]
            count += 0 in tax.shift(d, stats.effective_size(d) if careful else None)
        return count / 400

    assert held(careful=False) < 0.86
    assert held(careful=True) > 0.90
