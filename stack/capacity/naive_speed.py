"""How others estimate speed, to be measured against: one share of the bandwidth, answers at once for nothing. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from stack.capacity.published import Measured

# Name -> tokens a second of one answer alone.
DECODE: Final[Mapping[str, Callable[[Measured], float]]] = {
    "bandwidth / size of the weights read (gguf-parser)": lambda row: row.card.bandwidth / row.work.weights(),
    "0.55 x bandwidth / weights (llmfit)": lambda row: 0.55 * row.card.bandwidth / row.work.weights(),
    "0.7 x bandwidth / all weights (experts too)": lambda row: (
        0.7 * row.card.bandwidth / (row.work.dense + row.work.experts)
    ),
}

# Name -> tokens a second of `row.batch` answers, from what one alone gets.
BATCH: Final[Mapping[str, Callable[[Measured, float], float]]] = {
    "answers x the speed of one": lambda row, alone: row.batch * alone,
    "the speed of one, shared": lambda row, alone: alone,
    "answers x the speed of one, to the power 0.8": lambda row, alone: row.batch**0.8 * alone,
}
