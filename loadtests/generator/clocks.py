"""By how much the clock of a worker on another machine is ahead of ours, and how well that is known. Pure.

The monotonic clocks of two machines have nothing to do with each other. A ping says where the other clock stood at some
moment between its sending and its return; the quickest of several says it best (Cristian, 1989). Halves of a round trip
may differ, so what is known is known to half of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

PINGS: Final = 8
BOUND_NS: Final = 5_000_000
"""Worse known, a worker's moments would be off by more than what a late send is allowed."""


@dataclass(frozen=True, slots=True)
class Ping:
    """One round trip: our clock, theirs, ours again (nanoseconds)."""

    sent_ns: int
    theirs_ns: int
    back_ns: int


@dataclass(frozen=True, slots=True)
class Offset:
    """Their clock minus ours, give or take the bound (nanoseconds)."""

    ns: int
    bound_ns: int

    @property
    def known(self) -> bool:
        """Well enough for records to be laid beside ours."""
        return self.bound_ns <= BOUND_NS

    @property
    def shift_ns(self) -> int:
        """What to take off their moments: nothing where it may well be the same clock, as on one machine."""
        return 0 if abs(self.ns) <= self.bound_ns else self.ns


def offset(pings: Sequence[Ping]) -> Offset:
    """From the quickest of several round trips. Raises ValueError without any."""
    if not pings:
        raise ValueError("no ping came back")
    best = min(pings, key=lambda one: one.back_ns - one.sent_ns)
    return Offset(best.theirs_ns - (best.sent_ns + best.back_ns) // 2, -(-(best.back_ns - best.sent_ns) // 2))
