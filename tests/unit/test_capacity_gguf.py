"""The reader of GGUF headers: what it reads, and that nothing a file says makes it lie, hang or fall over."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.capacity import gguf
from stack.capacity.gguf import BLOCK, KEPT_ITEMS, MAGIC, GgufError, Header, Read, read_header
from stack.capacity.shape import Cache, ShapeError, from_header, from_show

LLAMA: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "llama.context_length": 8192,
    "llama.embedding_length": 64,
    "llama.feed_forward_length": 128,
    "llama.attention.head_count": 8,
    "llama.attention.head_count_kv": 2,
}
TENSORS = [("token_embd.weight", (64, 100), 12), ("output.weight", (64, 100), 14), ("blk.0.attn_q.weight", (64, 64), 1)]
KEPT = [(f"blk.{layer}.attn_{what}.weight", (64, 16), 1) for layer in (0, 1) for what in "kv"]
"""What makes the keys and values of LLAMA's layers: two heads of eight numbers."""


LIED = (
    "expert_count", "expert_used_count", "full_attention_interval", "ssm.state_size", "ssm.conv_kernel",
    "ssm.inner_size", "rope.dimension_count",
    *(f"attention.{key}" for key in ("sliding_window", "key_length", "value_length", "kv_lora_rank", "key_length_mla",
                                     "shared_kv_layers")),
)  # fmt: skip


def file(
    metadata: Mapping[str, Any], tensors: Sequence[tuple[str, Sequence[int], int]] = (), order: str = "<"
) -> bytes:
    """A GGUF header, as its specification says."""

    def text(value: str) -> bytes:
        return struct.pack(f"{order}Q", len(value.encode())) + value.encode()

    def kind(value: Any) -> int:
        return 7 if isinstance(value, bool) else 10 if isinstance(value, int) else 12 if isinstance(value, float) else 8

    def plain(value: Any) -> bytes:
        form = {7: "?", 10: "Q", 12: "d"}.get(kind(value))
        return struct.pack(order + form, value) if form else text(value)

    out = MAGIC + struct.pack(f"{order}IQQ", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        out += text(key)
        if isinstance(value, list):
            items = kind(value[0]) if value else 10
            out += struct.pack(f"{order}IIQ", 9, items, len(value)) + b"".join(map(plain, value))
        else:
            out += struct.pack(f"{order}I", kind(value)) + plain(value)
    for name, dimensions, form in tensors:
        out += text(name) + struct.pack(f"{order}I{len(dimensions)}QIQ", len(dimensions), *dimensions, form, 0)
    return out


def reading(data: bytes) -> Read:
    return lambda offset, length: data[offset : offset + length]


def header(data: bytes, size: int | None = None) -> Header:
    return read_header(reading(data), size)


@pytest.mark.parametrize("order", ["<", ">"])
def test_metadata_and_tensors_are_read_in_both_byte_orders(order: str) -> None:
    found = header(file(LLAMA | {"flag": True, "scale": 0.5, "list": [1, 2, 3]}, TENSORS, order))
    assert found.metadata["general.architecture"] == "llama"
    assert (found.metadata["flag"], found.metadata["scale"], found.metadata["list"]) == (True, 0.5, [1, 2, 3])
    assert [tensor.size for tensor in found.tensors] == [6400 // 256 * 144, 6400 // 256 * 210, 64 * 64 * 2]


def test_a_vocabulary_is_counted_and_not_kept() -> None:
    words = ["word"] * (KEPT_ITEMS + 1)
    found = header(file({"tokenizer.ggml.tokens": words, "after": 7}))
    assert "tokenizer.ggml.tokens" not in found.metadata
    assert (found.lengths["tokenizer.ggml.tokens"], found.metadata["after"]) == (KEPT_ITEMS + 1, 7)


def test_a_header_longer_than_one_block_is_read_in_blocks() -> None:
    data, asked = file({"tokenizer.ggml.tokens": ["x" * 100] * 30_000, "after": 7}), []

    def read(offset: int, length: int) -> bytes:
        asked.append(length)
        return data[offset : offset + length]

    assert len(data) > 3 * BLOCK
    assert read_header(read).metadata["after"] == 7
    assert len(asked) <= len(data) // BLOCK + 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file ends within its header"),
        (b"PK\x03\x04" + bytes(100), "not a GGUF file"),
        (MAGIC + struct.pack("<IQQ", 99, 0, 0), "version 99 cannot be read"),
        (MAGIC + struct.pack("<IQQ", 3, 1 << 60, 0), "tensors; more than"),
        (MAGIC + struct.pack("<IQQ", 3, 0, 1 << 60), "metadata entries; more than"),
        (MAGIC + struct.pack("<IQQQ", 3, 0, 1, 1 << 62), "bytes of a text; more than"),
        (MAGIC + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"a", 9, 4, 1 << 60), "items of 'a'; more than"),
        (MAGIC + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"a", 9, 9, 1), "unknown type 9"),
        (MAGIC + struct.pack("<IQQQ1sI", 3, 0, 1, 1, b"a", 77), "unknown type 77"),
        (file({}, [("t", (1 << 40, 1 << 40), 0)]), "larger than anything that exists"),
        (file({}, [("t", (1,) * 9, 0)]), "9 dimensions"),
        (MAGIC + struct.pack("<IQQ", 3, 0, 2) + 2 * (struct.pack("<Q1sIQ", 1, b"a", 10, 1)), "is there twice"),
    ],
)
def test_what_cannot_be_true_is_refused_in_a_sentence(data: bytes, words: str) -> None:
    with pytest.raises(GgufError, match=words):
        header(data)


def test_a_header_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "MOST_HEADER", 1 << 20)
    with pytest.raises(GgufError, match="its lengths cannot be true"):
        header(file({f"key {number}": "x" * 10_000 for number in range(200)}))


def test_a_file_that_ends_before_its_weights_is_refused() -> None:
    data = file(LLAMA, TENSORS)
    assert header(data, size=len(data) + 20_000).tensors
    with pytest.raises(GgufError, match="it is not complete"):
        header(data, size=len(data))


@pytest.mark.parametrize("tensors", [[], TENSORS[:1]], ids=["no tensors", "one of three"])
def test_a_file_with_more_in_it_than_its_header_tells_is_refused(tensors: list[Any]) -> None:
    """40 GiB of weights, none of which the header told of, "fitted, within 3 %"."""
    with pytest.raises(GgufError, match="not of this file, or tells of a part of it only"):
        header(file(LLAMA, tensors), size=40 << 30)


def test_padding_between_tensors_is_no_weight() -> None:
    weights = 1 << 30
    data = file(LLAMA, [("output.weight", (1 << 14, 1 << 15), 1)])
    assert header(data, size=len(data) + weights * 105 // 100).weights == weights
    with pytest.raises(GgufError, match="a part of it only"):
        header(data, size=len(data) + weights * 115 // 100)


def test_a_tensor_is_not_there_twice() -> None:
    with pytest.raises(GgufError, match="two of its tensors have the same name"):
        header(file(LLAMA, [TENSORS[0], TENSORS[0]]))


@pytest.mark.parametrize("end", range(0, len(file(LLAMA, TENSORS)), 7))
def test_a_truncated_header_is_refused_wherever_it_ends(end: int) -> None:
    with pytest.raises(GgufError, match="not complete"):
        header(file(LLAMA, TENSORS)[:end])


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_rubbish_behind_the_magic_is_refused_or_read_never_worse(rubbish: bytes) -> None:
    with suppress(GgufError):
        header(MAGIC + struct.pack("<I", 3) + rubbish)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_flipped_bytes_never_do_worse_than_a_sentence(data: st.DataObject) -> None:
    content = bytearray(file(LLAMA, TENSORS))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(GgufError, ShapeError):
        from_header("flipped", header(bytes(content)))


@given(
    st.dictionaries(
        st.sampled_from([*LLAMA, *(f"llama.{key}" for key in LIED)]),
        st.one_of(
            st.integers(0, 2**64 - 1),
            st.floats(),
            st.booleans(),
            st.text(max_size=5),
            st.lists(st.integers(0, 9), max_size=3),
        ),
    )
)
@settings(max_examples=200, deadline=None)
def test_metadata_that_lies_is_told_in_a_sentence_or_keeps_what_its_tensors_make(lies: dict[str, Any]) -> None:
    try:
        shape = from_header("lying", header(file(LLAMA | lies, [*TENSORS, *KEPT])))
    except (GgufError, ShapeError):
        return
    assert shape.size == sum(tensor.size for tensor in header(file({}, [*TENSORS, *KEPT])).tensors)
    kept = [(one.heads * one.key, one.heads * one.value, one.window) for one in shape.caches]
    assert kept[:2] == [(16, 16, None)] * 2


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ({"attention.head_count_kv": 0}, "blk.0.attn_k.weight makes 16 numbers of each token, by the metadata it is 0"),
        ({"attention.head_count_kv": 1}, "by the metadata it is 8"),
        ({"attention.head_count_kv": [2, 0]}, "blk.1.attn_k.weight makes 16"),
        ({"attention.key_length": 0}, "keys of 0 and values of 8 numbers cannot be true"),
        ({"attention.value_length": 4}, "blk.0.attn_v.weight makes 16 numbers of each token, by the metadata it is 8"),
        ({"block_count": 1}, "blk.1.attn_k.weight makes 16"),
        ({"attention.kv_lora_rank": 1, "attention.key_length_mla": 1, "rope.dimension_count": 1}, "it is 2"),
    ],
)
def test_a_cache_smaller_than_the_tensors_make_is_refused(lie: dict[str, Any], words: str) -> None:
    """These "fitted, within 3 %", with a cache of nothing or of a part of it."""
    lies = LLAMA | {f"llama.{key}": value for key, value in lie.items()}
    with pytest.raises(ShapeError, match=words):
        from_header("lying", header(file(lies, [*TENSORS, *KEPT])))


def test_a_decoder_that_keeps_nothing_is_refused() -> None:
    with pytest.raises(ShapeError, match="no layer of this llama keeps keys, values or a state"):
        from_header("lying", header(file(variant(attention__head_count_kv=0), TENSORS)))


def test_keys_and_values_made_with_the_queries_are_compared_too() -> None:
    fused = [*TENSORS, ("blk.0.attn_qkv.weight", (64, 64 + 2 * 16), 1)]
    assert len(from_header("x", header(file(LLAMA, fused))).caches) == 2
    with pytest.raises(ShapeError, match=r"blk\.0\.attn_qkv\.weight makes 96 .* it is 80"):
        from_header("x", header(file(variant(attention__head_count_kv=1), fused)))


def test_compressed_keys_are_compared_with_what_compresses_them() -> None:
    ranks = {"attention__key_length_mla": 192, "rope__dimension_count": 64}
    tensors = [*TENSORS, ("blk.0.attn_kv_a_mqa.weight", (64, 576), 1)]
    assert from_header("x", header(file(variant(attention__kv_lora_rank=512, **ranks), tensors))).caches[0].key == 576
    with pytest.raises(ShapeError, match=r"attn_kv_a_mqa\.weight makes 576"):
        from_header("x", header(file(variant(attention__kv_lora_rank=8, **ranks), tensors)))


def test_weights_of_layers_that_keep_nothing_themselves_are_no_contradiction() -> None:
    """Gemma 3n has keys in layers that share another one's; gated delta nets call something else attn_qkv."""
    keys = [("blk.5.attn_k.weight", (64, 16), 1)]
    assert len(from_header("x", header(file(gemma(block_count=6, attention__shared_kv_layers=4), keys))).caches) == 2
    ssm = {"ssm__state_size": 128, "ssm__conv_kernel": 4, "ssm__inner_size": 4096, "full_attention_interval": 2}
    assert len(from_header("x", header(file(variant(**ssm), [("blk.0.attn_qkv.weight", (64, 8192), 1)]))).caches) == 1


def test_a_header_tells_the_shape() -> None:
    shape = from_header("small", header(file(LLAMA | {"tokenizer.ggml.tokens": ["a"] * 100}, TENSORS)))
    assert shape.caches == (Cache(heads=2, key=8, value=8),) * 2
    assert (shape.vocabulary, shape.tied, shape.embedding, shape.width) == (100, False, 25 * 144, 64)
    assert shape.size == sum(tensor.size for tensor in header(file({}, TENSORS)).tensors)


def test_what_the_file_does_not_say_is_named() -> None:
    with pytest.raises(ShapeError, match=r"llama\.block_count"):
        from_header("x", header(file({"general.architecture": "llama"})))
    with pytest.raises(ShapeError, match="does not say its architecture"):
        from_header("x", header(file({})))


def test_one_part_of_a_split_file_is_not_taken_for_all_of_it() -> None:
    with pytest.raises(ShapeError, match="one of 5 parts"):
        from_header("x", header(file(LLAMA | {"split.count": 5}, TENSORS)))


def test_a_projector_in_the_same_file_is_no_weight_of_the_model() -> None:
    plain = from_header("x", header(file(LLAMA, TENSORS)))
    seeing = from_header("x", header(file(LLAMA, [*TENSORS, ("v.patch_embd.weight", (16, 16), 1)])))
    assert (seeing.size, seeing.projector - plain.projector) == (plain.size, 512)


def variant(**facts: Any) -> dict[str, Any]:
    return LLAMA | {f"llama.{key.replace('__', '.')}": value for key, value in facts.items()}


def gemma(**facts: Any) -> dict[str, Any]:
    told = {key.replace("llama", "gemma4"): value for key, value in variant(**facts).items()}
    return told | {"general.architecture": "gemma4"}


def test_windows_are_where_the_pattern_says() -> None:
    facts = variant(
        block_count=6, attention__sliding_window=512, attention__sliding_window_pattern=[True, True, False] * 2
    )
    assert [layer.window for layer in from_header("x", header(file(facts))).caches] == [512, 512, None] * 2


def test_a_window_without_a_pattern_follows_the_architecture() -> None:
    third = {key.replace("llama", "gemma3"): value for key, value in variant(block_count=12).items()}
    third |= {"general.architecture": "gemma3", "gemma3.attention.sliding_window": 1024}
    windows = [layer.window for layer in from_header("x", header(file(third))).caches]
    assert windows == ([1024] * 5 + [None]) * 2
    unused = from_header("x", header(file(variant(attention__sliding_window=4096))))
    assert [layer.window for layer in unused.caches] == [None, None]


def test_compressed_attention_keeps_one_key_for_all_heads() -> None:
    facts = variant(attention__kv_lora_rank=512, attention__key_length_mla=192, rope__dimension_count=64)
    assert set(from_header("x", header(file(facts))).caches) == {Cache(heads=1, key=576, value=0)}


def test_hybrids_cache_on_every_fourth_layer_and_have_state_on_the_others() -> None:
    ssm = {"ssm__state_size": 128, "ssm__conv_kernel": 4, "ssm__inner_size": 4096, "ssm__group_count": 16}
    shape = from_header("x", header(file(variant(block_count=8, full_attention_interval=4, **ssm))))
    assert shape.recurrent is not None
    assert (len(shape.caches), shape.recurrent.layers) == (2, 6)
    by_heads = variant(block_count=4, attention__head_count_kv=[0, 2, 0, 0], **ssm)
    shape = from_header("x", header(file(by_heads)))
    assert shape.recurrent is not None
    assert (len(shape.caches), shape.recurrent.layers) == (1, 3)


def test_layers_that_share_another_ones_cache_have_none_of_their_own() -> None:
    assert len(from_header("x", header(file(gemma(block_count=6, attention__shared_kv_layers=4)))).caches) == 2
    assert len(from_header("x", header(file(variant(block_count=6, attention__shared_kv_layers=4)))).caches) == 6


def test_experts_answer_in_part_so_less_is_read_than_kept() -> None:
    facts = variant(expert_count=8, expert_used_count=2, expert_feed_forward_length=32)
    shape = from_header("x", header(file(facts, [*TENSORS, ("blk.0.ffn_up_exps.weight", (64, 32, 8), 1)])))
    assert shape.experts is not None
    assert shape.experts.size == 64 * 32 * 8 * 2
    assert shape.active == shape.size - shape.embedding - shape.experts.size * 3 // 4


def test_an_encoder_keeps_nothing() -> None:
    bert = {key.replace("llama", "bert"): value for key, value in LLAMA.items()} | {"general.architecture": "bert"}
    assert from_header("x", header(file(bert, TENSORS))).caches == ()


def test_the_engine_tells_the_same_as_the_file() -> None:
    kinds = {12: "Q4_K", 14: "Q6_K", 1: "F16"}
    tensors = [{"name": name, "type": kinds[form], "shape": list(size)} for name, size, form in TENSORS]
    words = {"tokenizer.ggml.tokens": ["a"] * 100}
    told = from_show("small", {"model_info": LLAMA | words, "tensors": tensors})
    read = from_header("small", header(file(LLAMA | words, TENSORS)))
    assert (told.caches, told.size, told.vocabulary, told.tied) == (read.caches, read.size, 100, False)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({}, "no model_info"),
        ({"model_info": LLAMA}, "verbose"),
        ({"model_info": LLAMA, "tensors": [{"name": "a", "type": "Q99", "shape": [1]}]}, "cannot be read"),
    ],
)
def test_an_answer_of_the_engine_that_lacks_something_is_refused(answer: dict[str, Any], words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        from_show("x", answer)
