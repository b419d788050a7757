"""Tables of facts in `data/`: models and published measurements, each row with its source. Pure."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

DATA: Final = Path(__file__).parent / "data"

Row = Mapping[str, str]


@cache
def rows(table: str) -> Sequence[Row]:
    """All rows of `data/<table>.csv`."""
    with (DATA / f"{table}.csv").open(newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))
