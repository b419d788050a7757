"""Progress lines: on the error stream, so that what a command answers can be piped."""

from __future__ import annotations

import sys
from collections.abc import Callable

Say = Callable[[str], None]


def say(text: str) -> None:
    """One line, at once."""
    print(text, file=sys.stderr, flush=True)
