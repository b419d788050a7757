"""One model on a machine as far as people notice: how quick with 1, 2, … requests at work, what passes on how much.

An engine with n requests at work ends one of them every `output / D(n) + prompt / P` seconds: D(n) is what n answers
get together, P what prompts get, both tokens a second. Prompts are computed one at a time, before any answer goes on.
Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from stack.capacity.fits import batch_band
from stack.capacity.least_squares import nonnegative
from stack.capacity.roofline import REACH, Speed
from stack.capacity.usage import PeopleError, Usage

Case = Literal["low", "value", "high"]
CASES: Final[tuple[Case, ...]] = ("low", "value", "high")
SAME: Final = (-0.08, 0.08)  # band of what was measured on this machine, as in calibrate.py


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """One model on a machine, as far as people notice. Speeds are tokens a second."""

    decode: tuple[Speed, ...]
    """Of all answers of one engine together, with 1, 2, … of them: one for each of its slots."""
    prefill: Speed
    """Of prompts, one at a time."""
    context: int
    """Tokens of each slot."""
    engines: int = 1
    """How many such engines share the work: cards that each hold the model, or hosts."""
    measured: bool = False
    """Whether several answers at once were measured on this machine. If not, plans are made with `low`."""
    room: bool | None = None
    """Whether memory has room for one more slot; None when nobody knows."""
    ceilings: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Gateway, router, network: tokens a second that each passes on at most, over all engines."""

    def __post_init__(self) -> None:
        """Raises PeopleError for what cannot be."""
        speeds = [*self.decode, self.prefill]
        if not self.decode or self.engines < 1:
            raise PeopleError("a machine has at least one engine with one slot")
        if not all(0 < one.low <= one.value <= one.high < math.inf for one in speeds):
            raise PeopleError("speeds are above 0, each with its low below and its high above it")
        if not all(limit > 0 for limit in self.ceilings.values()):
            raise PeopleError("what passes no tokens at all serves nobody: ceilings are above 0 tokens/s")

    @property
    def slots(self) -> int:
        """Of all engines together."""
        return self.engines * len(self.decode)

    @property
    def plan(self) -> Case:
        """The case to plan with: without measured batches, predictions promise too much (docs/planner.md)."""
        return "value" if self.measured else "low"


def levels(measured: Mapping[int, float], slots: int) -> tuple[Speed, ...]:
    """What 1 … `slots` answers get together, from measured levels (answers at once -> tokens a second of all).

    Between two levels the seconds of a step are on a line; beyond the last one they go on as the best line through all
    does, with the band of such guesses. Raises PeopleError for fewer than two levels, or more than twice the last one.
    """
    known = dict(sorted(measured.items()))
    last = max(known, default=0)
    if len(known) < 2 or not all(count >= 1 and rate > 0 for count, rate in known.items()):
        raise PeopleError("a curve takes measured tokens/s at two numbers of answers at least, all above 0")
    if slots > REACH * last:
        raise PeopleError(
            f"{slots} slots are more than twice the {last} answers that were measured: measure with more people, or "
            "plan with fewer slots"
        )
    each, fixed = nonnegative([(float(count), 1.0) for count in known], [n / rate for n, rate in known.items()])
    return tuple(_level(known, count, last, fixed + each * count) for count in range(1, slots + 1))


def _level(known: Mapping[int, float], count: int, last: int, line: float) -> Speed:
    below = max((one for one in known if one <= count), default=min(known))
    above = min((one for one in known if one >= count), default=last)
    first, then = below / known[below], above / known[above]
    if count > last:
        at, band = max(line, last / known[last]), batch_band()
    elif count < min(known):
        at, band = min(line, first), batch_band()
    else:
        part = (count - below) / (above - below) if above > below else 0.0
        at, band = first + (then - first) * part, SAME
    value = count / at
    return Speed(
        value=value,
        low=value * (1 + min(band[0], 0)),
        high=value * (1 + max(band[1], 0)),
        basis=f"measured with up to {last} answers at once",
    )


class Speeds:
    """A machine's seconds and rates in one of the three cases."""

    def __init__(self, serving: Serving, usage: Usage, case: Case) -> None:
        # Answers together are never slower than one after the other would be.
        best, rates = 0.0, []
        for speed in serving.decode:
            best = max(best, float(getattr(speed, case)))
            rates.append(best)
        self._rates: Sequence[float] = rates
        self.engines = serving.engines
        self._output = usage.output_tokens
        self._ceiling = min(serving.ceilings.values(), default=math.inf)
        self.prompt = usage.prompt_tokens / float(getattr(serving.prefill, case))
        """Seconds of one prompt, alone."""

    def alone(self, working: int) -> float:
        """Seconds of a step of one engine with so many answers."""
        return working / self._rates[working - 1]

    def step(self, working: int) -> float:
        """Seconds of a step, or until the narrowest part has let a token of each pass."""
        return max(self.alone(-(-working // self.engines)), working / self._ceiling)

    def gap(self, working: int) -> float:
        """Seconds between an answer's tokens, while the prompts of its neighbours interrupt it."""
        mine = -(-working // self.engines)
        return max(self.alone(mine) + (mine - 1) * self.prompt / self._output, working / self._ceiling)

    def writing(self, working: int) -> float:
        """Seconds that an answer takes to be written beside so many on its engine."""
        return self._output * self.alone(working)

    def ends(self, working: int) -> float:
        """Requests a second that end, over all engines, each with its even part of them."""
        each, more = divmod(working, self.engines)
        ended = (self.engines - more) * self._engine(each) + (more * self._engine(each + 1) if more else 0.0)
        return min(ended, self._ceiling / self._output)

    def _engine(self, working: int) -> float:
        return 1 / (self._output / self._rates[working - 1] + self.prompt) if working else 0.0
