"""How others say what a model takes, to be compared with. Bytes in, bytes out. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from stack.capacity.memory import Run
from stack.capacity.shape import Shape


def weights_only(shape: Shape, run: Run) -> int:
    """The size of the file (`accelerate estimate-memory` and many tables)."""
    return shape.size


def a_fifth_more(shape: Shape, run: Run) -> int:
    """The size of the file x 1.2 (web calculators)."""
    return round(shape.size * 1.2)


def ollama(shape: Shape, run: Run) -> int:
    """Ollama's own, since 0.30: file and a cache of every layer at 16 bits, no windows, no work buffers.

    Source: ollama llm/llama_server.go, PredictServerVRAM (fb30760).
    """
    width = shape.width // shape.heads if shape.heads else 0
    heads = min((layer.heads for layer in shape.caches), default=0)
    return shape.size + shape.projector + 2 * shape.layers * heads * width * run.context * run.slots * 2


PLANNERS: Final[Mapping[str, Callable[[Shape, Run], int]]] = {
    "weights only": weights_only,
    "x 1.2": a_fifth_more,
    "Ollama's own": ollama,
}
