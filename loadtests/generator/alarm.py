"""Wakes greenlets at a moment, to a few hundredths of a millisecond.

The loop's own timers count in milliseconds and so come up to one late, which would be in every latency that counts from
the intended start. The kernel's timer (timerfd) is read like a socket; where there is none, the loop's have to do.
"""

from __future__ import annotations

import ctypes
import heapq
import itertools
import os
import time
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

import gevent
from gevent.hub import Waiter

SECOND: Final = 1_000_000_000
READ: Final = 1  # libev's EV_READ
ABSOLUTE: Final = 1  # TFD_TIMER_ABSTIME
MONOTONIC: Final = 1  # CLOCK_MONOTONIC: the clock of time.monotonic_ns


class _Time(ctypes.Structure):
    """Struct itimerspec: no repetition, and the moment."""

    _fields_ = (
        ("every_s", ctypes.c_long), ("every_ns", ctypes.c_long), ("at_s", ctypes.c_long), ("at_ns", ctypes.c_long)
    )  # fmt: skip


class Alarm:
    """Any number of greenlets may wait for moments of their own. Use it with `with`."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, Waiter]] = []
        self._numbers = itertools.count()
        self._file = -1
        with suppress(AttributeError, OSError):  # another system
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._file = self._libc.timerfd_create(MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._file >= 0:
            self._watcher = gevent.get_hub().loop.io(self._file, READ)
            self._watcher.start(self._ring)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Whoever still waits is not woken any more."""
        if self._file >= 0:
            self._watcher.stop()
            self._watcher.close()
            os.close(self._file)
            self._file = -1

    def wait(self, moment_ns: int) -> None:
        """Returns at that moment of `time.monotonic_ns`, at once where it is over."""
        left = moment_ns - time.monotonic_ns()
        if left <= 0:
            return
        if self._file < 0:
            gevent.sleep(left / SECOND)
            return
        rang = Waiter()
        heapq.heappush(self._waiting, (moment_ns, next(self._numbers), rang))
        if self._waiting[0][2] is rang:
            self._set(moment_ns)
        rang.get()

    def _set(self, moment_ns: int) -> None:
        at = _Time(0, 0, *divmod(moment_ns, SECOND))
        if self._libc.timerfd_settime(self._file, ABSOLUTE, ctypes.byref(at), None):
            raise OSError(ctypes.get_errno(), "the kernel's timer cannot be set")

    def _ring(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._file, 8)
        now = time.monotonic_ns()
        while self._waiting and self._waiting[0][0] <= now:
            heapq.heappop(self._waiting)[2].switch(None)
        if self._waiting:
            self._set(self._waiting[0][0])
