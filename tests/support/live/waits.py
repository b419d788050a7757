"""Waits with a name and a deadline: what was waited for, how long, and what was seen last."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")
EVERY: Final = 0.2  # seconds between two looks


class TimedOut(AssertionError):
    """The condition did not come true in time."""


def until(what: str, look: Callable[[], T | None], limit: float, every: float = EVERY) -> T:
    """Looks until it gets a true value, and returns that. Raises TimedOut after `limit` seconds."""
    start, last, trouble = time.monotonic(), None, ""
    while True:
        try:
            last, trouble = look(), ""
        except (OSError, AssertionError) as error:  # requests' errors are OSErrors
            last, trouble = None, f"{type(error).__name__}: {error}"
        if last:
            return last
        if time.monotonic() - start > limit:
            raise TimedOut(f"{what}: not within {limit:g} s; last seen: {trouble or last!r}")
        time.sleep(every)
