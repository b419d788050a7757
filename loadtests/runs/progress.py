"""What is said while a run lasts: a line every few seconds, on standard error."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TextIO

from loadtests.analysis import stats
from loadtests.records import Outcome
from loadtests.report.svg import number, seconds
from loadtests.runs.hold import Tally

EVERY: Final = 5.0
RECENT: Final = 200
"""The percentiles are of so many of the latest answers: what happens now, not the average since the beginning."""
FAILED: Final = (Outcome.ERROR, Outcome.TIMEOUT, Outcome.TRUNCATED)


def say(text: str, out: TextIO) -> None:
    """Writes a line. A terminal that was closed hears nothing, and must not cost the report."""
    try:
        print(text, file=out, flush=True)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, out.fileno())  # else Python fails at its end, on what could not be written
        os.close(nowhere)


@dataclass(slots=True)
class Progress:
    """Writes the lines; never more than one in `every` seconds for a load."""

    out: TextIO
    every: float = EVERY
    clock: Callable[[], float] = time.monotonic
    _began: float = field(default=0.0, init=False)
    _next: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._began = self.clock()

    def line(self, text: str) -> None:
        """Says something now."""
        passed = round(self.clock() - self._began)
        say(f"{passed // 60:3d}:{passed % 60:02d}  {text}", self.out)

    def told(self, name: str, tally: Tally, lasted: float, in_flight: int) -> None:
        """Says how a load goes, when the last line is old enough. `lasted`: seconds since the load began."""
        now = self.clock()
        if now >= self._next:
            self._next = now + self.every
            self.line(f"{name}: {words(tally, lasted, in_flight)}")


def words(tally: Tally, lasted: float, in_flight: int | None = None) -> str:
    """How a load goes, in a line. `in_flight`: requests that are under way, None where the load is over."""
    count = tally.outcomes.get
    parts = [f"{count(Outcome.OK, 0)} answered", *([] if in_flight is None else [f"{in_flight} in flight"])]
    if recent := tally.first[-RECENT:]:
        p50, p95 = (seconds(stats.percentile(recent, share)) for share in (0.5, 0.95))
        parts.append(f"{tally.first_name} p50 {p50}, p95 {p95}")
    if lasted > 0 and tally.tokens:
        parts.append(f"{number(tally.tokens / lasted)} tokens/s")
    if tally.counted:
        worst = max(tally.misses.values(), default=0)
        parts.append(f"{worst / tally.counted:.0%} missed")
    if failed := sum(count(one, 0) for one in FAILED):
        parts.append(f"{failed} failed ({tally.trouble})" if tally.trouble else f"{failed} failed")
    if limited := count(Outcome.LIMIT, 0):
        parts.append(f"{limited} hit a limit (429)")
    return " | ".join(parts)
