"""Several loads, one after the other, in growing order; and what they say together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from loadtests import gates, results
from loadtests.gates import Gate
from loadtests.hold import Measured
from loadtests.loads import FleetError

FAR: Final = 0.5
"""Where so many miss, higher loads would only tell the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """The levels of a sweep, and their common verdict."""

    levels: tuple[Measured, ...]
    best: Measured
    """The highest level up to which everything held; the lowest one where none did."""
    gates: tuple[Gate, ...]
    said: results.Said


def sweep(
    loads: Sequence[float], hold: Callable[[float, int], Measured], stopped: Callable[[], bool] = lambda: False
) -> tuple[tuple[Measured, ...], str]:
    """Holds each load, the lowest first; ends early where half of the requests miss, or when it is stopped.

    Returns the levels, and why it could not go on; empty when it could.

    Args:
        loads: in any order.
        hold: holds a load; the number of the level goes into its seed.
        stopped: has somebody stopped the run?

    Raises:
        FleetError: not even the first load could be made.
    """
    levels: list[Measured] = []
    for number, load in enumerate(sorted(loads)):
        try:
            levels.append(hold(load, number))
        except FleetError as error:
            if not levels:
                raise
            return tuple(levels), str(error)
        if stopped() or levels[-1].missed_share >= FAR:
            break
    return tuple(levels), ""


def conclude(levels: Sequence[Measured], asked: int) -> Sweep:
    """What levels say together: up to which load the objectives held, and what was missed first.

    Args:
        levels: in growing order, at least one.
        asked: how many levels were wanted.
    """
    held = 0
    while held < len(levels) and levels[held].said[0] == "pass":
        held += 1
    counted = levels[: max(held, 1)]
    checks = gates.merge([(one.label, one.gates) for one in counted])
    best = counted[-1]
    if not held:
        verdict, reason = best.said
        return Sweep(levels=tuple(levels), best=best, gates=checks, said=(verdict, f"at {best.label}, {reason}"))
    words = f"up to {best.label}"
    if held < len(levels):
        words += f"; at {levels[held].label}, {levels[held].said[1]}"
    if len(levels) < asked:
        words += f"; {asked - len(levels)} higher ones were left out"
    return Sweep(levels=tuple(levels), best=best, gates=checks, said=("pass", words))
