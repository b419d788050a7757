"""The published measurements of `data/{decode,prefill,batch}.csv`, and which of them a fit may read. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from stack.capacity.facts import rows
from stack.capacity.roofline import Card, Point, Work

SINCE: Final = "2025"  # older builds of llama.cpp take about twice as long for a layer: no fit mixes both


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One published measurement of the tables."""

    source: str
    device: str
    model: str
    test: str
    card: Card
    work: Work
    depth: float
    batch: int
    shared: bool
    rate: float
    """Tokens a second, all answers together."""
    date: str
    build: str

    @property
    def group(self) -> str:
        """Who measured what machine: rows of one group never stand on both sides of the split."""
        return f"{self.source}#{self.device}"

    @property
    def held_out(self) -> bool:
        """Whether the fit may not read it: a fixed hash of the group."""
        return hashlib.sha256(self.group.encode()).digest()[0] % 2 == 1

    @property
    def old(self) -> bool:
        """Whether the build is too old to tell of today's."""
        return self.date < SINCE


def measurements(table: str) -> Sequence[Measured]:
    """The rows of `data/<table>.csv` (decode, prefill or batch)."""
    return _measurements(table)


@cache
def _measurements(table: str) -> Sequence[Measured]:
    models = {row["model"]: _model(row) for row in rows("measured_models")}
    return tuple(_measured(row, models[row["model"]]) for row in rows(table))


def _model(row: Mapping[str, str]) -> Work:
    experts = float(row["expert_bytes"])
    return Work(
        dense=float(row["bytes"]) - float(row["embedding"]) - experts,
        experts=experts,
        share=int(row["used"]) / int(row["count"]) if experts else 0.0,
        layers=int(row["layers"]),
        active=float(row["active_parameters"]),
        cache=float(row["kv"]),
        windowed=float(row["windowed_kv"]),
        window=int(row["window"]),
        attention=float(row["attention"]),
    )


def _measured(row: Mapping[str, str], load: Work) -> Measured:
    tflops = row.get("tflops")
    return Measured(
        source=row["source"],
        device=row["device"],
        model=row["model"],
        test=row.get("test", ""),
        card=Card(
            kind=row["kind"],
            bandwidth=float(row.get("bandwidth_gbs") or 0) * 1e9,
            tflops=float(tflops) if tflops else None,
        ),
        work=load,
        depth=float(row["depth"]) + float(row.get("tokens") or 0) / 2,
        batch=int(row.get("batch") or 1),
        shared=row.get("cache") == "one",
        rate=float(row["tokens_per_second"]),
        date=row["date"],
        build=row["build"],
    )


def recent(table: str, of: str | None = None) -> Sequence[Measured]:
    """Rows of builds that tell of today's, of one kind of card or all."""
    return [row for row in measurements(table) if not row.old and (of is None or row.card.kind == of)]


def curves(chosen: Iterable[Measured]) -> Mapping[tuple[str, str], list[Measured]]:
    """The batch tables: rows of one group and model, whatever their depth."""
    found: dict[tuple[str, str], list[Measured]] = {}
    for row in chosen:
        found.setdefault((row.group, row.model), []).append(row)
    return found


def points(listed: Iterable[Measured]) -> list[Point]:
    """The rows of one table as points."""
    return [Point(answers=row.batch, depth=row.depth, rate=row.rate, shared=row.shared) for row in listed]
