"""What a model is made of, as far as memory and speed depend on it. Pure.

Names and defaults follow llama.cpp, which Ollama starts: `src/llama-hparams.cpp`, `src/llama-model.cpp`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from stack.capacity.gguf import TENSOR_TYPES, VERSIONS, Header, Tensor, Value

# Architectures whose files do not say which layers have a window: every n-th layer has none (llama.cpp hard-codes it).
GLOBAL_EVERY: Final[Mapping[str, int]] = {
    "gemma2": 2,
    "gemma3": 6,
    "gemma3n": 5,
    "gpt-oss": 2,
    "cohere2": 4,
    "llama4": 4,
    "exaone4": 4,
    "smallthinker": 4,
}
# Encoders keep nothing of earlier tokens.
ENCODERS: Final = frozenset(
    {"bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "modern-bert", "neo-bert"}
)
# What the rules below were checked for; others are read by the same rules, with a wider band.
FAMILIAR: Final = ENCODERS | {
    "llama", "llama4", "mistral3", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "qwen3next", "qwen3vl", "qwen35",
    "qwen35moe", "gemma", "gemma2", "gemma3", "gemma3n", "gemma4", "gpt-oss", "deepseek2", "phi2", "phi3", "granite",
    "granitemoe", "granitehybrid", "cohere2", "command-r", "exaone4", "olmo2", "glm4", "glm4moe", "minimax-m2",
    "smollm3", "starcoder2",
}  # fmt: skip
CHUNKED: Final[Mapping[str, int]] = {"llama4": 8192}  # windows that files do not tell, in tokens

# Of no other does llama.cpp read shared_kv_layers (of gemma3n it has the number in its code).
SHARING: Final = frozenset({"gemma3n", "gemma4"})
# What a layer makes keys and values with; the numbers it makes are the rows of these.
PROJECTIONS: Final = re.compile(r"blk\.(\d{1,5})\.(attn_k|attn_v|attn_qkv|attn_kv_a_mqa)\.weight")

MOST_LAYERS: Final = 4096
MOST: Final = 1 << 40  # of anything that is counted


class ShapeError(Exception):
    """A model's metadata lacks what has to be known; the text says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """What one layer keeps of each token: `heads` keys of `key` numbers and values of `value` numbers."""

    heads: int
    key: int
    value: int
    window: int | None = None
    """Tokens that the layer looks back; None is all of them."""


NOTHING: Final = Cache(heads=0, key=0, value=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrent:
    """State that recurrent layers (Mamba, gated delta net) keep for each sequence, however long it is."""

    layers: int
    convolution: int
    inner: int
    state: int
    groups: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of experts: `used` of `count` answer for each token."""

    count: int
    used: int
    width: int
    shared: int
    size: int
    """Bytes of all experts' weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One model. Sizes in bytes, widths and counts in numbers."""

    name: str
    architecture: str
    size: int
    """All weights."""
    parameters: int
    layers: int
    caches: tuple[Cache, ...]
    """One for each layer that keeps keys and values of its own."""
    width: int
    heads: int
    feed_forward: int
    vocabulary: int
    context: int
    """Tokens that the model was made for."""
    embedding: int
    """Bytes of the token embedding."""
    tied: bool
    """Whether the token embedding is the output matrix too."""
    experts: Experts | None = None
    recurrent: Recurrent | None = None
    per_layer_embedding: int = 0
    projector: int = 0
    """Bytes of a multimodal projector."""
    source: str = ""

    @property
    def active(self) -> int:
        """Bytes that one token's answer reads: no token embedding unless it is the output too, `used` experts only."""
        read = self.size - (0 if self.tied else self.embedding)
        if self.experts is None:
            return read
        return read - round(self.experts.size * (1 - self.experts.used / self.experts.count))


def from_header(name: str, header: Header, *, projector: int = 0) -> Shape:
    """The shape that a GGUF file's header tells.

    Raises ShapeError for what is missing or at odds with the tensors, GgufError for unknown types.

    A projector may be in the same file (tensors `v.…` and `mm.…`) or, as `projector` bytes, in one of its own.
    """
    if (number := header.metadata.get("split.count", 0)) not in (0, 1):
        raise ShapeError(f"{name}: the file is one of {number} parts; join them first (llama-gguf-split --merge)")
    sizes = {tensor.name: tensor.size for tensor in header.tensors}
    within = sum(size for tensor, size in sizes.items() if tensor.startswith(("v.", "mm.", "a.")))
    elements = sum(tensor.elements for tensor in header.tensors)
    expert = sum(size for tensor, size in sizes.items() if "_exps" in tensor)
    return from_metadata(
        name,
        header.metadata,
        size=header.weights - within,
        parameters=elements,
        embedding=sizes.get("token_embd.weight", 0),
        tied="output.weight" not in sizes,
        expert_size=expert,
        vocabulary=header.lengths.get("tokenizer.ggml.tokens", 0),
        projector=projector + within,
        rows={tensor.name: math.prod(tensor.dimensions[1:]) for tensor in header.tensors},
        source="GGUF header",
    )


def from_show(name: str, answer: Mapping[str, Any]) -> Shape:
    """The shape that Ollama's POST /api/show tells with `verbose` (https://docs.ollama.com/api). Raises ShapeError.

    Its `tensors` have names, types and dimensions; its `model_info` has the metadata.
    """
    types = {label: kind for kind, (label, _, _) in TENSOR_TYPES.items()}
    metadata = answer.get("model_info")
    if not isinstance(metadata, dict):
        raise ShapeError(f"{name}: the engine's answer has no model_info")
    tensors = []
    for entry in answer.get("tensors") or ():
        try:
            tensors.append(Tensor(str(entry["name"]), tuple(map(int, entry["shape"])), types[str(entry["type"])]))
        except (KeyError, TypeError, ValueError):
            raise ShapeError(f"{name}: a tensor in the engine's answer cannot be read: {str(entry)[:80]}") from None
    if not tensors:
        raise ShapeError(f"{name}: the engine's answer has no tensors; ask with verbose: true")
    words = metadata.get("tokenizer.ggml.tokens")
    header = Header(
        version=VERSIONS[-1],
        metadata=metadata,
        lengths={"tokenizer.ggml.tokens": len(words)} if isinstance(words, list) else {},
        tensors=tuple(tensors),
    )
    return replace(from_header(name, header), source="Ollama's /api/show")


def from_metadata(
    name: str,
    metadata: Mapping[str, Value],
    *,
    size: int,
    parameters: int,
    embedding: int,
    tied: bool,
    expert_size: int = 0,
    vocabulary: int = 0,
    projector: int = 0,
    rows: Mapping[str, int],
    source: str,
) -> Shape:
    """The shape that metadata in GGUF's names tells (a header's, or `model_info` of Ollama's /api/show).

    `rows` has how many numbers each tensor makes, by its name: what the metadata says of the cache must agree.
    """
    facts = _Facts(name, metadata)
    layers = facts.number("block_count")
    if not 0 < layers <= MOST_LAYERS:
        raise ShapeError(f"{name}: {layers} layers cannot be true; up to {MOST_LAYERS} are")
    heads = facts.each("attention.head_count", layers)
    width = facts.number("embedding_length")
    tokens = vocabulary or facts.number("vocab_size", 0) or _length(metadata.get("tokenizer.ggml.tokens"))
    count = facts.number("expert_count", 0)
    experts = (
        Experts(
            count=count,
            used=facts.number("expert_used_count"),
            width=facts.number("expert_feed_forward_length", 0) or max(facts.each("feed_forward_length", layers)),
            shared=facts.number("expert_shared_feed_forward_length", 0)
            or facts.number("expert_shared_count", 0) * facts.number("expert_feed_forward_length", 0),
            size=expert_size,
        )
        if count
        else None
    )
    caches, recurrent = _layers(facts, layers, heads, width, rows)
    return Shape(
        name=name,
        architecture=facts.architecture,
        size=size,
        parameters=parameters,
        layers=layers,
        caches=caches,
        width=width,
        heads=max(heads),
        feed_forward=max(facts.each("feed_forward_length", layers, 0)),
        vocabulary=tokens,
        context=facts.number("context_length"),
        embedding=embedding,
        tied=tied,
        experts=experts,
        recurrent=recurrent,
        per_layer_embedding=facts.number("embedding_length_per_layer_input", 0),
        projector=projector,
        source=source,
    )


def _layers(
    facts: _Facts, layers: int, heads: Sequence[int], width: int, rows: Mapping[str, int]
) -> tuple[tuple[Cache, ...], Recurrent | None]:
    if facts.architecture in ENCODERS:
        return (), None
    kv_heads = facts.each("attention.head_count_kv", layers, max(heads))
    interval = facts.number("full_attention_interval", 0)
    state = facts.number("ssm.state_size", 0)
    recurring = [
        bool(state) and ((interval > 0 and (layer + 1) % interval != 0) or (interval == 0 and kv_heads[layer] == 0))
        for layer in range(layers)
    ]
    if state and not any(recurring) and not any(kv_heads):
        recurring = [True] * layers
    shared = facts.number("attention.shared_kv_layers", 0) if facts.architecture in SHARING else 0
    kept = {
        layer: _cache(facts, layer, kv_heads[layer], heads[layer], width, layers)
        for layer in range(layers - shared)
        if not recurring[layer] and kv_heads[layer]
    }
    _agree(facts.name, kept, heads, range(layers - shared, layers), rows)
    caches = tuple(kept.values())
    if not any(recurring):
        if not caches:
            raise ShapeError(
                f"{facts.name}: no layer of this {facts.architecture} keeps keys, values or a state by its metadata, "
                "and it is no encoder: what it takes of the memory is not known"
            )
        return caches, None
    return caches, Recurrent(
        layers=sum(recurring),
        convolution=facts.number("ssm.conv_kernel"),
        inner=facts.number("ssm.inner_size"),
        state=state,
        groups=facts.number("ssm.group_count", 1),
    )


def _agree(
    name: str, kept: Mapping[int, Cache], heads: Sequence[int], sharing: Container[int], rows: Mapping[str, int]
) -> None:
    """Raises ShapeError where a layer's weights make more or fewer keys and values than its metadata says.

    Layers that share another one's cache may have weights of their own that nothing is kept of, and recurrent layers
    may use `attn_qkv` for something else.
    """
    for tensor, found in rows.items():
        if (match := PROJECTIONS.fullmatch(tensor)) is None or (layer := int(match[1])) in sharing:
            continue
        made, cache = match[2], kept.get(layer, NOTHING)
        key, value = cache.heads * cache.key, cache.heads * cache.value
        if made == "attn_qkv" and cache is NOTHING:
            continue
        if made == "attn_kv_a_mqa" and value:  # files from before llama.cpp kept its keys compressed
            continue
        said = key
        if made == "attn_v":
            said = value
        elif made == "attn_qkv":
            said = heads[layer] * cache.key + key + value
        if said != found:
            raise ShapeError(
                f"{name}: {tensor} makes {found} numbers of each token, by the metadata it is {said}: one of them is "
                "wrong, so what the cache takes is not known"
            )


def _cache(facts: _Facts, layer: int, kv_heads: int, heads: int, width: int, layers: int) -> Cache:
    window = _window(facts, layer, layers)
    rank = facts.number("attention.kv_lora_rank", 0)
    if rank and facts.number("attention.key_length_mla", 0):
        # Compressed keys carry the values too (multi-head latent attention).
        return Cache(heads=1, key=rank + facts.number("rope.dimension_count"), value=0, window=window)
    usual = width // heads if heads else 0
    key = facts.number("attention.key_length", usual)
    value = facts.number("attention.value_length", usual)
    if window is not None:
        key = facts.number("attention.key_length_swa", key)
        value = facts.number("attention.value_length_swa", value)
    if not (key and value):
        raise ShapeError(f"{facts.name}: keys of {key} and values of {value} numbers cannot be true")
    return Cache(heads=kv_heads, key=key, value=value, window=window)


def _window(facts: _Facts, layer: int, layers: int) -> int | None:
    window = facts.number("attention.sliding_window", 0) or CHUNKED.get(facts.architecture, 0)
    if not window:
        return None
    pattern = facts.metadata.get(f"{facts.architecture}.attention.sliding_window_pattern")
    if isinstance(pattern, list):
        return window if len(pattern) == layers and pattern[layer] else None
    every = int(pattern) if isinstance(pattern, int) and pattern else GLOBAL_EVERY.get(facts.architecture, 0)
    if not every:
        return None  # a window that llama.cpp reads and does not use for this architecture
    return window if layer % every < every - 1 else None


@dataclass(frozen=True, slots=True)
class _Facts:
    """Metadata of one model, read by the part of the key behind its architecture."""

    name: str
    metadata: Mapping[str, Value]

    @property
    def architecture(self) -> str:
        found = self.metadata.get("general.architecture")
        if not isinstance(found, str):
            raise ShapeError(f"{self.name}: the file does not say its architecture (general.architecture)")
        return found

    def number(self, key: str, default: int | None = None) -> int:
        found = self.metadata.get(f"{self.architecture}.{key}", default)
        if isinstance(found, list):
            found = max((item for item in found if isinstance(item, int)), default=default)
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise ShapeError(f"{self.name}: the file does not say {self.architecture}.{key}")
        return self._sane(key, found)

    def _sane(self, key: str, found: object) -> int:
        if not isinstance(found, int | float) or not 0 <= found <= MOST:
            raise ShapeError(f"{self.name}: {self.architecture}.{key} is {found!r}, which cannot be true")
        return int(found)

    def each(self, key: str, layers: int, default: int | None = None) -> list[int]:
        found = self.metadata.get(f"{self.architecture}.{key}", default)
        if isinstance(found, list):
            if len(found) != layers:
                raise ShapeError(f"{self.name}: {self.architecture}.{key} has {len(found)} entries for {layers} layers")
            return [self._sane(key, item) for item in found]
        return [self.number(key, default)] * layers


def _length(value: Value | None) -> int:
    return len(value) if isinstance(value, list) else 0
