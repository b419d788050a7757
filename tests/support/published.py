"""Published rows of caches, states and work buffers, as shapes and runs that the planner's formulas take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stack.capacity.facts import rows
from stack.capacity.memory import MIB, Run, compute
from stack.capacity.shape import Cache, Experts, Recurrent, Shape

KV_ROWS: Final = rows("kv_rows")
COMPUTE_ROWS: Final = rows("compute_rows")


def shape(*caches: Cache, **facts: object) -> Shape:
    """A model with these caches; facts that are not given are nought."""
    known: dict[str, object] = {
        "name": "published", "architecture": "any", "size": 0, "parameters": 0, "layers": len(caches), "width": 0,
        "heads": 0, "feed_forward": 0, "vocabulary": 0, "context": 0, "embedding": 0, "tied": False,
    }  # fmt: skip
    return Shape(caches=caches, **{**known, **facts})  # type: ignore[arg-type]


def layers(count: int, heads: int, width: int, window: int | None = None) -> list[Cache]:
    """So many layers with the same cache."""
    return [Cache(heads=heads, key=width, value=width, window=window)] * count


def number(row: Mapping[str, str], key: str) -> int:
    """A cell as a whole number; 0 where it is empty."""
    return int(row[key] or 0)


def logged(row: Mapping[str, str]) -> tuple[Shape, Run]:
    """A row of data/kv_rows.csv: the model and the run whose cache or state was logged."""
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


def measured(row: Mapping[str, str]) -> tuple[Shape, Run]:
    """A row of data/compute_rows.csv: the model and the run whose work buffer was measured."""
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
