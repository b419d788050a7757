"""The planner's formulas against what llama.cpp's logs say it allocated."""

from __future__ import annotations

from typing import Final

import pytest

from stack.capacity.memory import MIB, Run, cache, state
from stack.capacity.shape import Cache, Recurrent, Shape


def shape(*caches: Cache, recurrent: Recurrent | None = None) -> Shape:
    return Shape(
        name="published", architecture="any", size=0, parameters=0, layers=len(caches), caches=caches, width=0, heads=0,
        feed_forward=0, vocabulary=0, context=0, embedding=0, tied=False, recurrent=recurrent,
    )  # fmt: skip


def layers(count: int, heads: int, width: int, window: int | None = None) -> list[Cache]:
    return [Cache(heads=heads, key=width, value=width, window=window)] * count


# Name, shape, run, MiB in the log, where the log is.
LOGS: Final = [
    ("gemma3:4b, global", shape(*layers(5, 4, 256)), Run(context=131072), 2560, "ollama/ollama#17037"),
    ("gemma3:4b, windowed", shape(*layers(29, 4, 256, 1024)), Run(context=131072), 174, "ollama/ollama#17037"),
    (
        "gemma4:12b, global", shape(*layers(8, 1, 512)), Run(context=262144, cache="q8_0"), 2176,
        "unslothai/unsloth#10489",
    ),
    (
        "gemma4:12b, windowed", shape(*layers(40, 8, 256, 1024)), Run(context=262144, cache="q8_0"), 255,
        "unslothai/unsloth#10489",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "model", "run", "logged", "source"), LOGS, ids=[log[0] for log in LOGS])
def test_the_cache_is_exact_to_the_mebibyte(name: str, model: Shape, run: Run, logged: int, source: str) -> None:
    assert cache(model, run) / MIB == logged, f"{name}: {source}"


def test_compressed_keys_have_no_values() -> None:
    deepseek = shape(*[Cache(heads=1, key=576, value=0)] * 61)
    assert cache(deepseek, Run(context=256)) / 256 == 70_272


def test_recurrent_state_is_counted_for_each_sequence() -> None:
    qwen = shape(recurrent=Recurrent(layers=48, convolution=4, inner=6144, state=128, groups=16))
    assert state(qwen, Run(context=4096, slots=4)) / MIB == 598.5


def test_each_slot_has_a_window_of_its_own() -> None:
    model = shape(*layers(1, 1, 64, 1024))
    assert cache(model, Run(context=8192, slots=3)) == 3 * cache(model, Run(context=8192))
    assert cache(model, Run(context=512)) < cache(model, Run(context=8192)) == cache(model, Run(context=65536))


def test_values_are_quantised_with_flash_attention_only() -> None:
    model = shape(*layers(4, 8, 128))
    half = cache(model, Run(context=4096))
    assert cache(model, Run(context=4096, cache="q8_0")) == half * 34 // 64
    assert cache(model, Run(context=4096, cache="q8_0", flash_attention=False)) == half // 2 + half * 34 // 128
