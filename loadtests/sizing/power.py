"""What a card draws at work: as it was said, else as load runs measured it, else its board power. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from loadtests.results.schema import POWER, Level, Result
from loadtests.sizing.measured import Run
from stack.capacity.box import Box
from stack.capacity.cost import Habits

STALE: Final = 15.0
"""Prometheus answers with its last reading, which is up to so many seconds old: it may be of before the load."""
LEAST: Final = 15.0
"""Seconds behind that, at least, for a mean."""
WORKING: Final = 2.0
"""Requests under way on average, at least: with fewer the cards had nothing to do for part of the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Watts of one card at work, and where they are from."""

    watts: float
    source: str


def card(box: Box, runs: Sequence[Run], habits: Habits, given: float | None = None) -> Card | None:
    """One card of this machine at work; None where nobody knows.

    Args:
        box: the machine as it is planned.
        runs: load runs on it.
        habits: what a card draws that does nothing.
        given: what was typed, which goes before all else.
    """
    if given is not None:
        return Card(watts=given, source="given")
    # Prometheus knows the chip, and of a machine of its own the table knows the whole.
    if not box.device.whole and (seen := _measured(box, runs, habits.card_idle_w)) is not None:
        return seen
    power = box.device.power
    return None if power is None else Card(watts=power, source="its board power; most draw less")


def _measured(box: Box, runs: Sequence[Run], idle: float) -> Card | None:
    """From the load with most requests under way; the cards on which the model is not were idle."""
    loads = [
        (one.in_flight, drawn, run)
        for run in runs
        for one in (run.result.levels or [run.result.whole])
        if one.in_flight >= WORKING and (drawn := mean(run.result, one)) is not None
    ]
    if not loads:
        return None
    _, drawn, run = max(loads, key=lambda load: load[0])
    others = max(gpus(run.result) - box.cards, 0)
    watts = (drawn - others * idle) / box.cards
    beside = f", less {idle:g} W for each of {others} idle beside" if others else ""
    return Card(watts=watts, source=f"measured in this run: {run.name}{beside}") if watts > 0 else None


def mean(result: Result, level: Level) -> float | None:
    """Watts of all cards of the host in the measured part of a load; None where too little of it is known."""
    low, high = level.window[0] + STALE, level.window[1]
    points = [(at, watts) for one in result.series if one.name == POWER for at, watts in one.points]
    inside = [(at, watts) for at, watts in points if low <= at <= high]
    if not inside or inside[-1][0] - inside[0][0] < LEAST:
        return None
    return fmean(watts for _, watts in inside)


def gpus(result: Result) -> int:
    """NVIDIA cards of the host, as `make load` listed them ("2 x NVIDIA L4, …"); 0 where nobody looked."""
    return sum(map(int, re.findall(r"(?:^|; )(\d+) x ", result.environment.hardware.get("GPUs", ""))))
