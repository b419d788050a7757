"""Tables of facts in `data/`: models and published measurements, each row with its source. Pure."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

from stack.capacity.shape import Cache, Experts, Recurrent, Shape

DATA: Final = Path(__file__).parent / "data"
GUESS: Final = 0.35  # how far off a model may be of which only the number of weights is known

Row = Mapping[str, str]

# Bits for each weight of whole files, from smallest to largest (llama.cpp tools/quantize/README.md, Llama-3.1-8B).
BITS: Final[Mapping[str, float]] = {
    "IQ1_S": 2.00, "IQ1_M": 2.15, "IQ2_XXS": 2.38, "IQ2_XS": 2.59, "IQ2_S": 2.74, "IQ2_M": 2.93, "Q2_K_S": 2.97,
    "Q2_K": 3.16, "IQ3_XXS": 3.25, "IQ3_XS": 3.50, "Q3_K_S": 3.64, "IQ3_S": 3.66, "IQ3_M": 3.76, "Q3_K_M": 4.0,
    "Q3_K_L": 4.30, "IQ4_XS": 4.46, "Q4_0": 4.66, "Q4_K_S": 4.67, "IQ4_NL": 4.68, "Q4_K_M": 4.89, "Q4_1": 5.1,
    "Q5_0": 5.6, "Q5_K_S": 5.57, "Q5_K_M": 5.70, "Q5_1": 6.1, "Q6_K": 6.56, "Q8_0": 8.50, "F16": 16.0, "BF16": 16.0,
    "FP16": 16.0,
}  # fmt: skip
USUAL: Final = "Q4_K_M"  # what Ollama's library serves when the tag does not say


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A model as far as it is known without its file."""

    shape: Shape
    band: float
    """How far off its memory may be, as a share."""
    guessed: bool
    """Whether nothing but the number of its weights is known."""
    embeds: bool = False
    """Whether it is for embeddings, which Ollama computes one request at a time."""


@cache
def rows(table: str) -> Sequence[Row]:
    """All rows of `data/<table>.csv`."""
    with (DATA / f"{table}.csv").open(newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


@cache
def models() -> Mapping[str, Known]:
    """Every model of the table by each of its names."""
    found: dict[str, Known] = {}
    for row in rows("models"):
        known = Known(shape=_shape(row), band=float(row["band"]), guessed=False)
        found |= dict.fromkeys([row["name"], *row["also"].split()], known)
    return found


def model(name: str) -> Known | None:
    """What is known of a model by its name in Ollama's library; None when not even its size can be guessed.

    A quantization in the tag (`8b-q8_0`, `8b-instruct-q5_K_M`) changes the size, other words in it do not matter.
    """
    if found := models().get(name):
        return found
    base, _, tag = name.partition(":")
    base = base.rpartition("/")[2]
    quantization = next((bits for bits in sorted(BITS, key=len, reverse=True) if bits.lower() in tag.lower()), None)
    billions = re.search(r"(?:^|-)(?:(\d+)x)?(e?\d+(?:\.\d+)?)([bm])(?:-|$)", tag, re.IGNORECASE)
    count = billions[2] + billions[3].lower() if billions and not billions[1] else ""
    same = models().get(f"{base}:{count}" if count else base)
    if same is not None:
        shape = replace(same.shape, name=name)
        if quantization is None:
            return replace(same, shape=shape)
        return replace(same, shape=requantized(shape, quantization), band=max(same.band, 0.05))
    if billions is None or billions[2].lower().startswith("e"):
        return None
    parameters = int(billions[1] or 1) * float(billions[2]) * (1e9 if billions[3].lower() == "b" else 1e6)
    return _guess(name, parameters, quantization or USUAL)


def requantized(shape: Shape, quantization: str) -> Shape:
    """The same model in another quantization, its size from the usual bits for each weight."""
    size = round(shape.parameters * BITS[quantization] / 8)
    scale = size / shape.size if shape.size else 1
    experts = shape.experts and replace(shape.experts, size=round(shape.experts.size * scale))
    return replace(shape, size=size, embedding=round(shape.embedding * scale), experts=experts)


def _guess(name: str, parameters: float, quantization: str) -> Known:
    """The next larger dense model of the table, with this one's number of weights."""
    dense = {row["name"]: models()[row["name"]].shape for row in rows("models")}
    plain = [one for one in dense.values() if one.caches and not (one.experts or one.recurrent) and not _windowed(one)]
    plain.sort(key=lambda one: one.parameters)
    like = next((one for one in plain if one.parameters >= 0.9 * parameters), plain[-1])
    shape = replace(like, name=name, parameters=round(parameters), source=f"guessed: shaped like {like.name}")
    return Known(shape=requantized(shape, quantization), band=GUESS, guessed=True)


def _windowed(shape: Shape) -> bool:
    return any(layer.window is not None for layer in shape.caches)


def _shape(row: Row) -> Shape:
    def number(key: str) -> int:
        return int(row[key] or 0)

    full = Cache(heads=number("kv_heads"), key=number("key"), value=number("value"))
    windowed = Cache(
        heads=number("window_heads"),
        key=number("window_width"),
        value=number("window_width"),
        window=number("window"),
    )
    size, parameters = number("size"), number("parameters")
    experts = Experts(
        count=number("experts"),
        used=number("experts_used"),
        width=number("expert_width"),
        shared=number("expert_shared"),
        size=round(size * number("expert_parameters") / parameters),
    )
    recurrent = Recurrent(
        layers=number("recurrent_layers"),
        convolution=4,
        inner=number("inner"),
        state=number("state"),
        groups=number("groups"),
    )
    return Shape(
        name=row["name"],
        architecture=row["architecture"],
        size=size,
        parameters=parameters,
        layers=number("layers"),
        caches=(*[full] * number("full_layers"), *[windowed] * number("window_layers")),
        width=number("width"),
        heads=number("heads"),
        feed_forward=number("feed_forward"),
        vocabulary=number("vocabulary"),
        context=number("context"),
        embedding=round(number("vocabulary") * number("width") * 4.5 / 8),
        tied=bool(row["tied"]),
        experts=experts if experts.count else None,
        recurrent=recurrent if recurrent.layers else None,
        per_layer_embedding=number("per_layer"),
        projector=number("projector"),
        source=row["source"],
    )
