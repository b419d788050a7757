"""Shapes for `locust -f loadtests/locustfile.py`: people who come in steps, or one by one.

`make load` has its own (`USERS=1,2,4`, `RAMP=1`), which measure each step; these are for looking on in the web page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from stack.config import units

MOST: Final = 100_000
USUAL: Final = "2m"

Tick = tuple[int, float]
"""How many people there should be now, and how many may come (or go) in a second."""


@dataclass(frozen=True, slots=True)
class Steps:
    """So many people, each number for so long (seconds)."""

    people: Sequence[int]
    seconds: float

    def __call__(self, now: float) -> Tick | None:
        """What should be at this moment; None when it is over."""
        step = int(now / self.seconds)
        return (self.people[step], max(self.people)) if step < len(self.people) else None


@dataclass(frozen=True, slots=True)
class Ramp:
    """From one to so many people, evenly over so long (seconds)."""

    people: int
    seconds: float

    def __call__(self, now: float) -> Tick | None:
        """What should be at this moment; None when it is over."""
        if now >= self.seconds:
            return None
        return 1 + int((self.people - 1) * now / self.seconds + 1e-9), max(1.0, self.people / self.seconds)


def chosen(environment: Mapping[str, str]) -> Callable[[float], Tick | None] | None:
    """The shape that LOAD_STEPS=1,2,4 or LOAD_RAMP=16 asks for; LOAD_FOR is how long a step, or the ramp, takes.

    Raises:
        ValueError: a sentence for people.
    """
    steps, ramp = environment.get("LOAD_STEPS", "").strip(), environment.get("LOAD_RAMP", "").strip()
    if steps and ramp:
        raise ValueError("LOAD_STEPS and LOAD_RAMP do not go together: take one of them")
    if not steps and not ramp:
        return None
    said = environment.get("LOAD_FOR", "").strip() or USUAL
    try:
        seconds = units.seconds(said)
    except ValueError as error:
        raise ValueError(f"LOAD_FOR={said}: {error}") from None
    if seconds < 1:
        raise ValueError(f"LOAD_FOR={said}: at least 1s")
    if ramp:
        return Ramp(_people("LOAD_RAMP", ramp, ramp), seconds)
    return Steps([_people("LOAD_STEPS", steps, one) for one in steps.split(",")], seconds)


def _people(name: str, said: str, text: str) -> int:
    if not text.strip().isdecimal() or not 1 <= int(text) <= MOST:
        raise ValueError(f"{name}={said}: {text.strip()!r} is no number of people; a whole number from 1 to {MOST:,}")
    return int(text)
