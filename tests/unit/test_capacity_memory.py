"""The planner's formulas against what llama.cpp's logs say it allocated: every published row, one by one."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from typing import Final

import pytest

from stack.capacity.facts import rows
from stack.capacity.memory import MIB, Run, cache, cells, compute, need, state, weights
from stack.capacity.shape import Cache, Experts, Recurrent, Shape

KV_ROWS: Final = rows("kv_rows")
COMPUTE_ROWS: Final = rows("compute_rows")


def shape(*caches: Cache, **facts: object) -> Shape:
    known: dict[str, object] = {
        "name": "published", "architecture": "any", "size": 0, "parameters": 0, "layers": len(caches), "width": 0,
        "heads": 0, "feed_forward": 0, "vocabulary": 0, "context": 0, "embedding": 0, "tied": False,
    }  # fmt: skip
    return Shape(caches=caches, **{**known, **facts})  # type: ignore[arg-type]


def layers(count: int, heads: int, width: int, window: int | None = None) -> list[Cache]:
    return [Cache(heads=heads, key=width, value=width, window=window)] * count


def number(row: Mapping[str, str], key: str) -> int:
    return int(row[key] or 0)


def logged(row: Mapping[str, str]) -> tuple[Shape, Run]:
    run = Run(
        context=number(row, "context"), slots=number(row, "slots"), cache=row["cache"], batch=number(row, "batch")
    )
    if row["kind"] == "state":
        facts = {key: number(row, key) for key in ("layers", "convolution", "inner", "state", "groups")}
        return shape(recurrent=Recurrent(**facts)), run
    one = Cache(
        heads=number(row, "heads"),
        key=number(row, "key"),
        value=number(row, "value"),
        window=number(row, "window") or None,
    )
    return shape(*[one] * number(row, "layers")), run


@pytest.mark.parametrize("row", KV_ROWS, ids=lambda row: f"{row['model']} {row['kind']} {row['logged_mib']}")
def test_cache_and_state_are_what_the_log_says(row: Mapping[str, str]) -> None:
    model, run = logged(row)
    found = (state(model, run) if row["kind"] == "state" else cache(model, run)) / MIB
    # Logs have two digits.
    assert abs(found - float(row["logged_mib"])) <= 0.006, row["source"]


def measured(row: Mapping[str, str]) -> tuple[Shape, Run]:
    widest = Cache(heads=number(row, "kv_heads"), key=number(row, "key"), value=number(row, "value"))
    caches = [widest]
    if row["window"]:
        caches.append(Cache(heads=8, key=256, value=256, window=number(row, "window")))
    experts = Experts(
        count=64,
        used=number(row, "experts"),
        width=number(row, "expert_width"),
        shared=number(row, "shared"),
        size=0,
    )
    recurrent = Recurrent(
        layers=1,
        convolution=4,
        inner=number(row, "inner"),
        state=number(row, "state"),
        groups=number(row, "groups"),
    )
    model = shape(
        *caches,
        layers=number(row, "layers"),
        width=number(row, "width"),
        heads=number(row, "heads"),
        feed_forward=number(row, "feed_forward"),
        vocabulary=number(row, "vocabulary"),
        per_layer_embedding=number(row, "per_layer"),
        experts=experts if row["experts"] else None,
        recurrent=recurrent if row["inner"] else None,
    )
    slots = number(row, "slots")
    return model, Run(
        context=number(row, "cells") // slots,
        slots=slots,
        cache=row["cache"],
        batch=number(row, "batch"),
        devices=number(row, "devices"),
        unified=True,
    )


def error(row: Mapping[str, str]) -> float:
    """Relative error of the predicted work buffer."""
    return compute(*measured(row)) / MIB / float(row["measured_mib"]) - 1


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
