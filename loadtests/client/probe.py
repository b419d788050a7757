"""How late the client's loop is, watched by a timer of its own."""

from __future__ import annotations

import time
from typing import Final, Self

import gevent

from loadtests.client.lag import Lags
from loadtests.client.wire import SECOND


class LoopProbe:
    """Watches how late the loop calls back, every few milliseconds: the client's own queue.

    A timer of the loop's is itself up to a millisecond late on a machine that is quiet.
    """

    EVERY: Final = 0.005
    STALL: Final = 2_000_000
    """From here on, nanoseconds, the loop stood still."""

    def __init__(self) -> None:
        self.lags = Lags()
        self.stalled_ns = 0
        """How long it stood still in all: one long halt is few late callbacks, but many late pieces."""
        self._last = 0
        self._timer = gevent.get_hub().loop.timer(self.EVERY, self.EVERY, ref=False)

    def __enter__(self) -> Self:
        self._last = time.monotonic_ns()
        self._timer.start(self._tick)
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.stop()
        self._timer.close()

    def _tick(self) -> None:
        now = time.monotonic_ns()
        lag = now - self._last - int(self.EVERY * SECOND)
        self.lags.add(lag)
        if lag > self.STALL:
            self.stalled_ns += lag
        self._last = now
