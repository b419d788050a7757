"""Ctrl-C as something to look at: while what was put in place must be taken away again, no step is cut in two."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FORCED: Final = 2  # what runs stops at once at the second Ctrl-C; should it hang all the same, the third one ends it
PR_SET_PDEATHSIG: Final = 1


class Stops:
    """How often we were asked to stop. A program that runs is asked, too; nothing is raised by itself."""

    def __init__(self) -> None:
        self.asked = 0
        self._running: subprocess.Popen[bytes] | None = None

    def note(self, _number: int, _frame: FrameType | None) -> None:
        """What the signals do."""
        self.asked += 1
        running = self._running
        if running is None or running.poll() is not None:
            return
        if self.asked <= FORCED:
            running.send_signal(signal.SIGINT)
        else:
            os.killpg(running.pid, signal.SIGKILL)

    def heed(self) -> None:
        """Raises KeyboardInterrupt when we were asked to stop: where stopping is safe."""
        if self.asked:
            raise KeyboardInterrupt

    def run(self, command: Sequence[str], env: Mapping[str, str], folder: Path) -> int:
        """Runs a program on the terminal; returns its exit status, that of Ctrl-C when it was ended by a signal."""
        self.heed()
        # A session of its own, so that the terminal's Ctrl-C comes through here only.
        self._running = subprocess.Popen(
            command,
            env=dict(env),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_with_us,  # noqa: PLW1509 (this program has one thread)
        )
        if self.asked:  # between the look above and now
            self._running.send_signal(signal.SIGINT)
        leader = self._running.pid
        try:
            code = self._running.wait()
        finally:
            self._running = None
            # A run that was ended at once may have left workers, which would go on asking.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(leader, signal.SIGKILL)
        return code if code >= 0 else 128 - code


@contextlib.contextmanager
def noted() -> Iterator[Stops]:
    """Ctrl-C, SIGTERM and SIGHUP are noted while the block runs."""
    stops = Stops()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, stops.note)
    try:
        yield stops
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _with_us() -> None:
    """In the child: it is asked to stop when we are killed. Its load would go on with nobody there to end it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)
