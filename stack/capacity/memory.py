"""What a model takes of a card's memory, in bytes. Pure.

Formulas and their checks: llama.cpp's own allocations, as published logs show them (data/*_rows.csv has each row).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from stack.capacity.shape import Shape

MIB: Final = 1 << 20
GIB: Final = 1 << 30
PAD: Final = 256  # cells: llama.cpp rounds windows up to this
COPIES: Final = 4  # of what cards that share the layers out pass on to each other
OVERHEAD: Final = 500 * MIB  # a CUDA context and its libraries, once for each process and card
PROJECTOR_ROOM: Final = GIB  # what Ollama keeps free for the work of a projector

# Bytes of one number in the cache (block size / block length of the quantised types).
CACHE_TYPES: Final = {"f32": Fraction(4), "f16": Fraction(2), "q8_0": Fraction(34, 32), "q4_0": Fraction(18, 32)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a model is run."""

    context: int
    """Tokens of each slot."""
    slots: int = 1
    cache: str = "f16"
    flash_attention: bool = True
    batch: int = 512
    """Tokens of the prompt computed at once (llama.cpp's ubatch)."""
    devices: int = 1
    """Cards that share the layers out; each has work buffers of its own."""
    unified: bool = False
    """Whether all slots share one cache (llama.cpp's --kv-unified) in place of one each, as Ollama starts it."""

    @property
    def total_context(self) -> int:
        """Tokens of all slots, each rounded up as llama.cpp does."""
        return padded(self.context) * self.slots

    @property
    def seen(self) -> int:
        """Tokens that attention looks at in one go: with a cache for each slot, a token sees its own slot's."""
        return self.total_context if self.unified else padded(self.context)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What it all takes, in bytes."""

    weights: int
    cache: int
    state: int
    compute: int
    projector: int
    overhead: int

    @property
    def total(self) -> int:
        """The sum."""
        return self.weights + self.cache + self.state + self.compute + self.projector + self.overhead


def need(shape: Shape, run: Run) -> Need:
    """Everything that a card holds when the whole model is on it."""
    return Need(
        weights=weights(shape),
        cache=cache(shape, run),
        state=state(shape, run),
        compute=compute(shape, run),
        projector=shape.projector + (PROJECTOR_ROOM if shape.projector else 0),
        overhead=OVERHEAD,
    )


def weights(shape: Shape) -> int:
    """On the card at full offload: the token embedding stays in system memory, unless it is the output matrix too."""
    return shape.size - (0 if shape.tied else shape.embedding)


def cells(run: Run, window: int | None) -> int:
    """Tokens that a layer keeps over all slots. With a window: the window and one batch, for each slot.

    Source: llama.cpp src/llama-kv-cache-iswa.cpp; a unified cache has room for each slot's window and one batch.
    """
    if window is None:
        return run.total_context
    if run.unified:
        return padded(min(run.total_context, window * run.slots + run.batch))
    return run.slots * padded(min(run.context, window + run.batch))


def padded(count: int) -> int:
    """Up to the next multiple of 256."""
    return math.ceil(count / PAD) * PAD


def cache(shape: Shape, run: Run) -> int:
    """Keys and values: for each layer, cells x heads x (key and value widths) x bytes of a number.

    Reproduces published llama.cpp logs to the MiB. Values are quantised with flash attention only.
    """
    key = CACHE_TYPES[run.cache]
    value = key if run.flash_attention else CACHE_TYPES["f16"]
    total = sum(
        count * cells(run, layer.window) * layer.heads * (layer.key * key + layer.value * value)
        for layer, count in Counter(shape.caches).items()
    )
    return math.ceil(total)


def state(shape: Shape, run: Run) -> int:
    """Recurrent state: 4-byte numbers for each sequence (llama.cpp src/llama-hparams.cpp, n_embd_r and n_embd_s)."""
    if shape.recurrent is None:
        return 0
    one = shape.recurrent
    rolling = (one.convolution - 1) * (one.inner + 2 * one.groups * one.state)
    return 4 * (rolling + one.state * one.inner) * one.layers * run.slots


def compute(shape: Shape, run: Run) -> int:
    """Work buffers of one batch on each card: activations, attention mask, logits; without flash attention the scores.

    The widest block's activations live beside the mask; with a quantised cache its 16-bit copy lives beside those of
    attention instead, whichever is more. Layers shared out over cards are pipelined in four copies. Reconstructed from
    measured buffers (data/compute_rows.csv); `tests/unit/test_capacity_memory.py` has the errors.
    """
    mask = 2 * run.batch * run.seen
    work = 4 * run.batch * _widest(shape)
    if run.cache not in ("f16", "f32"):
        rows = [layer.heads * (layer.key + layer.value) for layer in shape.caches if layer.window is None]
        copy = 2 * run.total_context * max(rows, default=0)
        work = max(work, copy + 4 * run.batch * _attention(shape))
    total = mask + work + 4 * run.batch * shape.per_layer_embedding * shape.layers + 4 * shape.vocabulary * run.slots
    windows = [layer.window for layer in shape.caches if layer.window is not None]
    if windows:
        total += 2 * run.batch * padded(max(windows) * (run.slots if run.unified else 1) + run.batch)
    if not run.flash_attention:
        total += 4 * run.batch * run.seen * shape.heads
    if run.devices > 1:
        total += 3 * mask + COPIES * 4 * run.batch * shape.width
    return total


def _widest(shape: Shape) -> int:
    """Numbers for each token at the widest block."""
    widest = 4 * shape.feed_forward
    if shape.experts:
        used = shape.experts.used * (2 * shape.width + 3 * shape.experts.width) + 3 * shape.experts.shared
        widest = max(widest, used)
    if shape.recurrent:
        widest = max(widest, 4 * (shape.recurrent.inner + 2 * shape.recurrent.state * shape.recurrent.groups))
    return widest or 12 * shape.width


def _attention(shape: Shape) -> int:
    """Numbers for each token while a layer attends: twice the width; queries and results of all heads.

    Hybrids gate their results, compressed attention holds its queries twice.
    """
    head = max((layer.key for layer in shape.caches if layer.window is None), default=0)
    compressed = any(not layer.value for layer in shape.caches)
    return 2 * shape.width + (5 if shape.recurrent else 3 if compressed else 2) * shape.heads * head
