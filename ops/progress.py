"""Progress lines: on the error stream, so that what a command answers can be piped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final

Say = Callable[[str], None]
PATIENCE: Final = 5.0  # seconds that people wait without a word


def say(text: str) -> None:
    """One line, at once."""
    print(text, file=sys.stderr, flush=True)


def counted(what: str, tell: Say = say, clock: Callable[[], float] = time.monotonic) -> Callable[[int, int], None]:
    """Takes (done, of how many) and tells of it every few seconds: of what is done before, nobody hears."""
    told = clock()

    def reached(done: int, whole: int) -> None:
        nonlocal told
        if clock() - told >= PATIENCE:
            told = clock()
            tell(f"{what}: {done} of {whole}")

    return reached
