"""Tests of timing on a machine that others share."""

from __future__ import annotations

from collections.abc import Callable


def once_in_three(right: Callable[[], bool]) -> bool:
    """Whether it came out right at least once: a machine that is shared stands still now and then, whatever we do."""
    return any(right() for _ in range(3))
