"""Each metric by hand-made records whose right answer can be read off."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from loadtests.analysis import metrics
from loadtests.analysis.metrics import Objectives
from loadtests.records import Outcome, Record

MS = 1_000_000
S = 1_000 * MS


def record(pieces_ms: Sequence[float] = (), chars: Sequence[int] | None = None, **changes: Any) -> Record:
    """Meant to start at 0, sent after 10 ms, done with the last piece."""
    stamps = array("q", [int(at * MS) for at in pieces_ms])
    return Record(**{
        "scenario": "chat", "model": "m", "session": 0, "turn": 0, "worker": 0, "intended_ns": 0, "sent_ns": 10 * MS,
        "first_ns": stamps[0] if stamps else None, "visible_ns": stamps[0] if stamps else None,
        "last_ns": stamps[-1] if stamps else None, "done_ns": stamps[-1] if stamps else 50 * MS,
        "pieces_ns": stamps, "pieces_chars": array("q", chars or [5] * len(stamps)), "outcome": Outcome.OK,
    } | changes)  # fmt: skip


def test_times_count_from_the_intention_and_from_the_wire() -> None:
    one = record([110, 210], visible_ns=210 * MS, done_ns=230 * MS)
    assert metrics.ttft(one) == pytest.approx(0.110)
    assert metrics.wire_ttft(one) == pytest.approx(0.100)
    assert metrics.ttfo(one) == pytest.approx(0.210)
    assert (metrics.e2e(one), metrics.wire_e2e(one)) == pytest.approx((0.230, 0.220))
    assert metrics.late(one) == pytest.approx(0.010)


def test_what_never_came_is_none_and_not_zero() -> None:
    none, one = record(), record([100])
    assert (metrics.ttft(none), metrics.ttfo(none), metrics.tpot(none), metrics.speed(none)) == (None,) * 4
    assert (metrics.tpot(one), metrics.gaps(one).size) == (None, 0)
    assert metrics.stalls(none) == 0
    assert metrics.percentile([], 0.5) is None


def test_one_token_a_piece() -> None:
    one = record([100, 110, 130, 160], output_tokens=4)
    assert list(metrics.gaps(one) * 1000) == pytest.approx([10, 20, 30])
    values, held = metrics.token_gaps(one)
    assert (list(values * 1000), list(held)) == (pytest.approx([10, 20, 30]), [1, 1, 1])
    assert metrics.tpot(one) == pytest.approx(0.020)
    assert metrics.speed(one) == pytest.approx(50)


def test_several_tokens_a_piece_are_spread_by_length() -> None:
    one = record([100, 120, 160], chars=[20, 20, 40], output_tokens=8)
    values, held = metrics.token_gaps(one)
    assert (list(held), list(values * 1000)) == (pytest.approx([2, 4]), pytest.approx([10, 10]))
    assert metrics.tpot(one) == pytest.approx(0.010), "60 ms for the six tokens behind the first piece"
    assert metrics.piece_tokens(one).sum() == pytest.approx(8)


def test_an_end_token_does_not_make_lengths_count() -> None:
    one = record([100, 110, 120], chars=[1, 9, 2], output_tokens=4)
    assert list(metrics.piece_tokens(one)) == pytest.approx([4 / 3] * 3)


def test_without_usage_a_piece_is_a_token() -> None:
    assert metrics.tokens(record([100, 110, 120])) == 3


def test_stalls() -> None:
    assert metrics.stalls(record([0, 20, 40, 60, 200, 220])) == 1
    assert metrics.stalls(record([0, 500, 1000, 2100])) == 1, "over a second, though not over five medians"
    assert metrics.stalls(record([0, 1, 2, 3, 20])) == 0, "nobody sees 17 ms"


def test_tokens_are_counted_by_arrival_within_the_window() -> None:
    records = [record(range(0, 1000, 100), output_tokens=10), record([950, 1050], chars=[30, 10], output_tokens=40)]
    assert metrics.tokens_within(records, 0, S) == pytest.approx(10 + 30)
    assert metrics.tokens_within(records, 500 * MS, S) == pytest.approx(5 + 30)
    assert metrics.throughput(records, 500 * MS, S) == pytest.approx(70)
    assert metrics.throughput(records, 900 * MS, 901 * MS) == pytest.approx(1000)
    with pytest.raises(ValueError, match="window"):
        metrics.throughput(records, 5, 5)


@pytest.mark.parametrize(
    ("objectives", "kept"),
    [
        (Objectives(), True),
        (Objectives(ttft=0.1), True),
        (Objectives(ttft=0.09), False),
        (Objectives(ttfo=0.09), False),
        (Objectives(tpot=0.02), True),
        (Objectives(tpot=0.019), False),
        (Objectives(e2e=0.1), False),
        (Objectives(ttft=1, ttfo=1, tpot=1, e2e=1), True),
    ],
)
def test_all_objectives_must_be_kept(objectives: Objectives, kept: bool) -> None:
    assert metrics.good(record([100, 120, 140]), objectives) is kept


def test_no_text_misses_an_objective_for_text() -> None:
    assert not metrics.good(record(), Objectives(ttft=9))
    assert metrics.good(record(), Objectives(e2e=9)), "embeddings"
    assert metrics.good(record([1]), Objectives(tpot=0.001)), "one piece has no time per token"


def test_what_asked_for_no_text_is_good_by_its_whole_time_and_no_attempt_without_one() -> None:
    quick, slow = record(asked_tokens=0), record(asked_tokens=0, done_ns=2 * S)
    both = Objectives(ttft=0.2, tpot=0.01, e2e=1)
    assert [metrics.good(one, both) for one in (quick, slow)] == [True, False]
    assert not metrics.good(quick, Objectives(ttft=0.2)), "nothing is wanted of it"


def test_percentiles_are_numpys() -> None:
    values = [3.0, 1.0, 2.0, 10.0]
    assert metrics.percentile(values, 0.95) == pytest.approx(float(np.percentile(values, 95)))
    some = np.array([1.0, 2.0, 3.0])
    assert metrics.weighted_percentile(some, np.array([1.0, 1.0, 8.0]), 0.5) == 3
    assert metrics.weighted_percentile(some, np.ones(3), 1 / 3) == 1
    assert metrics.weighted_percentile(some, np.zeros(3), 0.5) is None


def test_other_tools_columns() -> None:
    records = [record([110, 130, 150], output_tokens=3, done_ns=160 * MS), record(outcome=Outcome.ERROR)]
    vllm, aiperf, guidellm = metrics.compatible(records)
    assert (vllm.ttft, vllm.itl, vllm.tpot, vllm.e2e) == pytest.approx((0.1, 0.02, 0.02, 0.14))
    assert (aiperf.ttft, aiperf.itl, aiperf.tpot, aiperf.e2e) == pytest.approx((0.1, 0.02, 0.02, 0.14))
    assert (guidellm.itl, guidellm.tpot, guidellm.e2e) == pytest.approx((0.02, 0.14 / 3, 0.15))
    assert (vllm.throughput, aiperf.throughput) == pytest.approx((3 / 0.15, 3 / 0.14))
    assert metrics.compatible([])[0].ttft is None


def test_columns_differ_where_a_chunk_holds_several_tokens() -> None:
    vllm, aiperf, guidellm = metrics.compatible([record([110, 210], chars=[20, 20], output_tokens=8)])
    assert vllm.itl == pytest.approx(0.1)
    assert aiperf.itl == pytest.approx(0.1 / 4)
    assert guidellm.itl == pytest.approx(0.1 / 7)
    assert vllm.tpot == pytest.approx(0.1 / 7)
