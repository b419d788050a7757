"""Is what a run tells of a machine true? One load is left out, predicted from the others, and compared. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from loadtests.sizing.measured import CannotSize, Part, Run, fit, throughput
from stack.capacity import observed
from stack.capacity.observed import ObservedError
from stack.capacity.queueing import QueueError
from stack.capacity.usage import PeopleError

ALLOWED: Final = 0.15
"""How far a prediction may be off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """One level, predicted from the others. Tokens a second."""

    label: str
    fitted_on: tuple[str, ...]
    predicted: float | None
    measured: float
    why: str = ""
    """Why there is no prediction."""

    @property
    def off(self) -> float | None:
        """Predicted over measured, less one."""
        return None if self.predicted is None or not self.measured else self.predicted / self.measured - 1

    @property
    def word(self) -> str:
        """PASS, FAIL or n/a."""
        return "n/a" if self.off is None else "PASS" if abs(self.off) <= ALLOWED else "FAIL"


def held_out(run: Run, *, context: int) -> tuple[HeldOut, ...]:
    """Every level but the first, predicted from the others; none for fewer than three levels."""
    if len(run.parts) < 3 or not all(part.rows for part in run.parts):
        return ()
    slots = run.slots or _most(run)
    return tuple(
        _predicted(one, [part for part in run.parts if part is not one], slots, context) for one in run.parts[1:]
    )


def _most(run: Run) -> int | None:
    """The most answers at once that were seen: a setting of the server, which no level may be blind for."""
    try:
        return max(one.answers for one in observed.rates(observed.answers(run.rows)))
    except ObservedError:
        return None


def _predicted(one: Part, others: Sequence[Part], slots: int | None, context: int) -> HeldOut:
    labels = tuple(part.level.label for part in others)
    measured = one.level.tokens_per_second
    try:
        fitted = fit(others, [row for part in others for row in part.rows], slots, context=context)
        predicted = throughput(one, fitted)
    except (CannotSize, QueueError, PeopleError) as error:
        why = str(error).partition("\n")[0]
        return HeldOut(label=one.level.label, fitted_on=labels, predicted=None, measured=measured, why=why)
    return HeldOut(label=one.level.label, fitted_on=labels, predicted=predicted, measured=measured)
