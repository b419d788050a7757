"""Where each person of a closed load stands when it begins. Pure.

A load of so many people is one that has gone on for long: most of them are just thinking, somewhere in the middle of a
conversation. If all began with a first question instead, a load that is shorter than their day would measure a herd.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtests.generator.loads import Closed
from loadtests.workload.lengths import Length
from loadtests.workload.profiles import Profile

APART_S: Final = 1.0
"""People who hardly think come within the first second, not all in one moment."""
_SEAT: Final = 11
"""Keeps these draws apart from those of the conversation with the same number."""


@dataclass(frozen=True, slots=True)
class Seat:
    """One person's place in a closed load."""

    numbers: Iterator[int]
    """Of the sessions, one after the other; nobody else has one of them."""
    first_s: float
    """When the first question comes, seconds from the beginning."""
    midway: bool
    """It is one in the middle of a conversation."""
    place: int | None = None
    """Which of the load's people sits there; None: somebody new in each session."""


def seat(profile: Profile, load: Closed, seconds: float, seed: int, place: int) -> Seat:
    """The seat of the person with this place (0 and up). On a ramp people come one by one and begin anew."""
    numbers = itertools.count(place, load.users)
    if load.ramp:
        return Seat(numbers, place / load.users * seconds, midway=False, place=place)
    rng = np.random.default_rng((seed, place, _SEAT))
    apart = float(rng.random()) * min(APART_S, seconds / 5)
    return Seat(numbers, max(rest(profile.think, rng), apart), midway=True, place=place)


def rest(length: Length, rng: np.random.Generator) -> float:
    """What is left of one that is running at a random moment (seconds, or whatever the length is of).

    Long ones run at more moments than short ones: one is chosen in proportion to its length, and a place in it evenly
    (Cox, Renewal Theory, 1962, chapter 5).
    """
    ends = _ends(length)
    if ends[-1] == 0:
        return 0.0
    chosen = min(int(np.searchsorted(ends, rng.random() * ends[-1], side="right")), len(ends) - 1)
    return float(length.grid[chosen] * rng.random())


@lru_cache(maxsize=16)
def _ends(length: Length) -> NDArray[np.float64]:
    ends: NDArray[np.float64] = np.cumsum(length.grid)
    return ends
