"""Several loads, one after the other, in growing order; and what they say together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from loadtests.analysis.gates import Gate
from loadtests.generator.loads import FleetError
from loadtests.results.verdict import Said
from loadtests.runs.hold import Measured

FAR: Final = 0.5
"""Where so many miss, higher loads would only tell the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """The levels of a sweep, and their common verdict."""

    levels: tuple[Measured, ...]
    best: Measured
    """The highest level that held, with none below it that failed; where none did, the first that failed."""
    gates: tuple[Gate, ...]
    """Those of that level."""
    said: Said


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
    # A level of few people may have too few answers for a verdict; where more people are served, so are they.
    failed = next((place for place, one in enumerate(levels) if one.said[0] == "fail"), len(levels))
    held = [place for place, one in enumerate(levels[:failed]) if one.said[0] == "pass"]
    if not held:
        first = levels[min(failed, len(levels) - 1)]
        verdict, reason = first.said
        return Sweep(levels=tuple(levels), best=first, gates=first.gates, said=(verdict, f"at {first.label}, {reason}"))
    best = levels[held[-1]]
    words = f"up to {best.label}"
    if held[-1] + 1 < len(levels):
        after = levels[held[-1] + 1]
        words += f"; at {after.label}, {after.said[1]}"
    if len(levels) < asked:
        left = asked - len(levels)
        words += f"; {left} higher {'one was' if left == 1 else 'ones were'} left out"
    return Sweep(levels=tuple(levels), best=best, gates=best.gates, said=("pass", words))
