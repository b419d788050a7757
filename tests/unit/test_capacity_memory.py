"""The planner's formulas against what llama.cpp's logs say it allocated: every published row, one by one."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean

import pytest

from stack.capacity.memory import MIB, Run, cache, cells, compute, need, state, weights
from stack.capacity.shape import Cache
from tests.support.published import COMPUTE_ROWS, KV_ROWS, error, layers, logged, shape


@pytest.mark.parametrize("row", KV_ROWS, ids=lambda row: f"{row['model']} {row['kind']} {row['logged_mib']}")
def test_cache_and_state_are_what_the_log_says(row: Mapping[str, str]) -> None:
    model, run = logged(row)
    found = (state(model, run) if row["kind"] == "state" else cache(model, run)) / MIB
    # Logs have two digits.
    assert abs(found - float(row["logged_mib"])) <= 0.006, row["source"]


@pytest.mark.parametrize(
    "row", COMPUTE_ROWS, ids=lambda row: f"{row['model']} {row['batch']} {row['slots']} {row['cells']} {row['cache']}"
)
def test_no_work_buffer_is_off_by_more_than_a_fifth(row: Mapping[str, str]) -> None:
    assert abs(error(row)) <= 0.20


def test_work_buffers_are_right_to_a_tenth_on_average() -> None:
    half = [abs(error(row)) for row in COMPUTE_ROWS if row["cache"] == "f16"]
    assert len(half) >= 20
    assert mean(half) <= 0.10


def test_every_row_says_where_it_is_from() -> None:
    assert len(KV_ROWS) >= 30
    assert [row for row in [*KV_ROWS, *COMPUTE_ROWS] if not (row["source"] and row["build"] and row["date"])] == []


def test_compressed_keys_have_no_values() -> None:
    deepseek = shape(*[Cache(heads=1, key=576, value=0)] * 61)
    assert cache(deepseek, Run(context=256)) / 256 == 70_272


def test_each_slot_has_a_window_of_its_own() -> None:
    model = shape(*layers(1, 1, 64, 1024))
    assert cache(model, Run(context=8192, slots=3)) == 3 * cache(model, Run(context=8192))
    assert cache(model, Run(context=512)) < cache(model, Run(context=8192)) == cache(model, Run(context=65536))


def test_a_window_wider_than_the_context_costs_no_more_than_none() -> None:
    assert cells(Run(context=4096, slots=2), 262_144) == cells(Run(context=4096, slots=2), None) == 8192


def test_values_are_quantised_with_flash_attention_only() -> None:
    model = shape(*layers(4, 8, 128))
    half = cache(model, Run(context=4096))
    assert cache(model, Run(context=4096, cache="q8_0")) == half * 34 // 64
    assert cache(model, Run(context=4096, cache="q8_0", flash_attention=False)) == half // 2 + half * 34 // 128


def test_without_flash_attention_every_head_has_its_scores() -> None:
    model, run = shape(*layers(32, 8, 128), heads=32, width=4096, feed_forward=14336), Run(context=8192)
    extra = compute(model, Run(context=8192, flash_attention=False)) - compute(model, run)
    assert extra == 4 * 512 * 8192 * 32


def test_the_token_embedding_stays_in_system_memory_unless_it_is_the_output() -> None:
    assert weights(shape(size=1000, embedding=100)) == 900
    assert weights(shape(size=1000, embedding=100, tied=True)) == 1000


def test_a_projector_takes_its_weights_and_room_to_work() -> None:
    plain, seeing = need(shape(), Run(context=256)), need(shape(projector=600 * MIB), Run(context=256))
    assert seeing.total - plain.total == 1624 * MIB
