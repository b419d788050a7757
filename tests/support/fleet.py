"""Loads held in a process of its own: the fleet imports locust, which patches whoever imports it for gevent."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Final

from loadtests.generator.loads import Held, Load
from loadtests.target import Target
from loadtests.workload.profiles import Profile
from tests.support.processes import children_of
from tests.support.samples import ROOT

END: Final = 20.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A load, and the fleet that is to hold it."""

    target: Target
    profile: Profile
    load: Load
    seed: int = 1
    seconds: float = 1.0
    grace: float = 5.0
    processes: int = 1
    enough: int | None = None
    """Ends the load when there are so many records."""
    kill_at: int | None = None
    """Kills the first worker when there are so many records."""


@dataclass(frozen=True, kw_only=True)
class Came:
    """What came of it."""

    held: Held | None
    error: str
    """What the fleet raised."""
    looks: int
    """How often `until` was asked."""
    in_flight: int = 0
    """Requests under way at most, as the fleet told it at these looks."""


class Fleets:
    """The other process; its fleets stay for the next load."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process, self._to, self._from = process, process.stdin, process.stdout

    def hold(self, wanted: Wanted, meanwhile: Callable[[], None] = lambda: None) -> Came:
        """Holds a load. `meanwhile`: done while it runs. Raises EOFError when the process is gone."""
        _write(self._to, wanted)
        meanwhile()
        came = _read(self._from)
        assert isinstance(came, Came)
        return came


@contextmanager
def fleets() -> Iterator[Fleets]:
    """A process that holds loads."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.fleet"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield Fleets(process)
            assert process.stdin is not None
            process.stdin.close()
            process.wait(END)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def _write(pipe: IO[bytes], value: Any) -> None:
    data = pickle.dumps(value)
    pipe.write(len(data).to_bytes(8, "big") + data)
    pipe.flush()


def _read(pipe: IO[bytes]) -> Any:
    size = pipe.read(8)
    if len(size) < 8:
        raise EOFError("the process of the fleets is gone")
    return pickle.loads(pipe.read(int.from_bytes(size, "big")))


def _main() -> None:
    from loadtests.generator.fleet import Fleet, FleetError  # in this process only

    # Pickled names must be those of the module, not of the script.
    from tests.support import fleet as here

    running: dict[Any, Fleet] = {}
    try:
        while True:
            # Nothing else runs between loads: that this read holds up the loop does not matter.
            wanted = _read(sys.stdin.buffer)
            key = pickle.dumps((wanted.target, wanted.profile, wanted.processes))
            if key not in running:
                running[key] = Fleet(wanted.target, wanted.profile, processes=wanted.processes, timeout=20).__enter__()
            looks, flying, held, error = 0, 0, None, ""

            def until(records: Sequence[Any], _: float, wanted: Any = wanted, fleet: Fleet = running[key]) -> bool:
                nonlocal looks, flying
                looks, flying = looks + 1, max(flying, fleet.in_flight)
                if wanted.kill_at is not None and len(records) >= wanted.kill_at:
                    os.kill(children_of(os.getpid())[0], signal.SIGKILL)
                return wanted.enough is not None and len(records) >= wanted.enough

            try:
                held = running[key].hold(
                    wanted.load, wanted.seed, seconds=wanted.seconds, until=until, grace=wanted.grace
                )
            except FleetError as raised:
                error = str(raised)
            _write(sys.stdout.buffer, here.Came(held=held, error=error, looks=looks, in_flight=flying))
    except EOFError:
        pass
    finally:
        for one in running.values():
            one.close()


if __name__ == "__main__":
    _main()
