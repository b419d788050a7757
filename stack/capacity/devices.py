"""Cards by name: memory, bandwidth, power and price at launch, each with its source (`data/devices.csv`). Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from stack.capacity.facts import rows
from stack.capacity.memory import GIB

MACHINES: Final = frozenset({"nvidia-dgx-spark-gb10"})


class DeviceError(ValueError):
    """There is no such card in the table; the text names the nearest ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One card, or one kind of memory that a model is computed from."""

    id: str
    memory: int
    """Bytes that programs can use."""
    bandwidth: float | None = None
    """Bytes a second that its memory delivers at most."""
    tflops: float | None = None
    """10^12 additions and multiplications of 16-bit numbers a second, dense, as its vendor tells.

    NVIDIA's cards with GDDR all by the rate that GeForce has (half, with sums of 32 bits): what prompts reach of it is
    fitted to those, and the same chip computes them no quicker under another name.
    """
    power: float | None = None
    """Watts of the whole card under load."""
    price: float | None = None
    """US dollars at launch; what it costs today is an input."""
    source: str = ""

    @property
    def whole(self) -> bool:
        """Whether it is a machine of its own: nothing is built around it, and no second one goes into it."""
        return self.id in MACHINES


@cache
def devices() -> Mapping[str, Device]:
    """Every card of the table by its id."""
    return {row["id"]: _device(row) for row in rows("devices")}


def find(name: str) -> Device:
    """The card with this id. Raises DeviceError with the nearest ids."""
    known = devices()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.4) or sorted(known)[:3]
    raise DeviceError(
        f"{name!r} must be one of the {len(known)} cards in stack/capacity/data/devices.csv, or give memory in its "
        f"place; nearest: {', '.join(near)}"
    )


def _device(row: Mapping[str, str]) -> Device:
    memory = round(float(row["memory_gib"]) * GIB)
    if row["ecc"]:
        memory = memory * 15 // 16  # error correction on GDDR keeps a sixteenth
    return Device(
        id=row["id"],
        memory=memory,
        bandwidth=float(row["bandwidth_gbs"]) * 1e9,
        tflops=float(row["tflops"]) if row["tflops"] else None,
        power=float(row["power_w"]) if row["power_w"] else None,
        price=float(row["launch_usd"]) if row["launch_usd"] else None,
        source=row["source"],
    )
