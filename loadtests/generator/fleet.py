"""The fleet: worker processes that make a load, and the one that tells them what to do and gathers what they saw.

Import it before anything else that opens connections: it imports locust, which patches the process for gevent.
The workers are locust's, and people are its users; what differs from `locust -f` is that all begin at one moment, that
an open loop has its schedule, and that nothing which a worker saw is lost unseen.
"""

from __future__ import annotations

# First: it patches the process for gevent.
import locust  # isort: skip  # noqa: F401

import itertools
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self

import gevent
from locust.env import Environment
from locust.runners import MasterRunner

from loadtests.generator import recorder
from loadtests.generator.loads import Closed, FleetError, Held, Load, Open, Replay
from loadtests.generator.recorder import Collector
from loadtests.generator.worker import END, GO, PREPARE, READY, UP, Orders, Task
from loadtests.records import Record, in_order
from loadtests.target import Target
from loadtests.workload.profiles import Profile

__all__ = ["Closed", "Fleet", "FleetError", "Held", "Load", "Open", "Replay"]

START_S: Final = 60.0
"""For workers to come up: they import what this process has imported already."""
READY_S: Final = 60.0
"""To open connections and compute a schedule."""
AHEAD_NS: Final = 100_000_000
"""All workers begin so long after they are told: long enough for the message to be there."""
LOOK: Final = 0.5
STEP: Final = 0.02
LAST_S: Final = 10.0
"""For the last reports, once what ran is over or cancelled."""
HASTE: Final = 1.0
"""The grace after Ctrl-C (seconds)."""
SECOND: Final = 1_000_000_000
ROOT: Final = Path(__file__).resolve().parents[2]


class Fleet:
    """Worker processes for one target and profile, warm between loads. Use it with `with`.

    Args:
        target: where, and as whom.
        profile: what people ask.
        processes: how many workers make the load, each a process of its own beside this one: what this one computes
            meanwhile does not make them late. At most one for each core.
        stats: let locust keep its own statistics too.
        timeout: the longest that a request may take (seconds).
    """

    def __init__(
        self, target: Target, profile: Profile, *, processes: int = 1, stats: bool = True, timeout: float = 600
    ) -> None:
        if processes < 1:
            raise ValueError(f"a fleet of {processes} workers makes no load: at least 1")
        # The workers run where our modules are: a path must mean the same there.
        self._target = replace(target, ca=target.ca and target.ca.resolve())
        self._profile, self._count, self._stats, self._timeout = profile, processes, stats, timeout
        self._runs = itertools.count()
        self._workers: list[subprocess.Popen[bytes]] = []
        self._up: set[str] = set()
        self._ready: set[int] = set()
        self._collector = Collector("")
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  (closed in close)
        self.environment = Environment(user_classes=[])
        """Locust's, with its statistics of all workers."""
        self._runner: MasterRunner = self.environment.create_master_runner("127.0.0.1", 0)
        self._runner.register_message(recorder.MESSAGE, self._report)
        self._runner.register_message(UP, lambda environment, msg: self._up.add(msg.node_id))
        self._runner.register_message(READY, self._prepared)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers."""
        for worker in self._workers:
            if worker.stdin is not None:
                worker.stdin.close()
        for worker in self._workers:
            try:
                worker.wait(timeout=LAST_S)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
        self._runner.greenlet.kill()
        self._runner.server.close(linger=0)  # type: ignore[no-untyped-call]
        self._said.close()

    def _start(self) -> None:
        orders = pickle.dumps(Orders(
            target=self._target, profile=self._profile, port=self._runner.server.port, stats=self._stats,
            timeout=self._timeout,
        ))  # fmt: skip
        for _ in range(self._count):
            worker = subprocess.Popen(
                [sys.executable, "-m", "loadtests.generator.worker"], stdin=subprocess.PIPE, stdout=self._said,
                stderr=self._said, cwd=ROOT,
            )  # fmt: skip
            self._workers.append(worker)
            if worker.stdin is not None:  # it is a pipe
                worker.stdin.write(len(orders).to_bytes(8, "big") + orders)
                worker.stdin.flush()
        if not self._wait(lambda: len(self._up) == self._count, START_S):
            raise FleetError(f"the workers did not come up: {self._last_words()}")

    def hold(
        self,
        load: Load,
        seed: int,
        *,
        seconds: float,
        until: Callable[[Sequence[Record], float], bool] | None = None,
        grace: float = 10,
    ) -> Held:
        """Holds a load, and returns when the last request is over.

        Args:
            load: what to do.
            seed: the same one, the same conversations and moments. A warm cache knows them: take another for each load.
            seconds: how long. It ends early when `until` says so, on Ctrl-C, and when a worker dies (then
                `client.dropped` is not 0).
            until: asked about twice a second with all records so far (in the order in which requests ended: more may
                still run that began before) and the seconds since the beginning; True ends the load.
            grace: how long to wait for what still runs at the end; the rest is cancelled.

        Raises:
            FleetError: the scenario cannot go on, or the workers are gone.
        """
        began = self._begin(load, seed, seconds)
        collector = self._collector
        with _interrupts() as interrupts:
            try:
                self._watch(collector, began, seconds, until, interrupts)
            finally:
                grace = min(grace, HASTE) if interrupts else grace
                self._runner.send_message(END, {"grace": grace})
                ended = time.monotonic_ns()
        self._wait(lambda: collector.complete, grace + LAST_S)
        if collector.trouble:
            raise FleetError(collector.trouble)
        return Held(
            records=tuple(in_order(collector.records)),
            began_ns=began,
            ended_ns=ended,
            client=collector.client(),
            stopped=bool(interrupts),
        )

    @property
    def settled_ns(self) -> int:
        """In an open loop: what was meant to start before this moment has ended and is among the records."""
        return self._collector.settled_ns

    @property
    def in_flight(self) -> int:
        """How many requests are under way, half a second ago at most."""
        return self._collector.in_flight

    def _begin(self, load: Load, seed: int, seconds: float) -> int:
        """Prepares all workers and tells them when to begin. That moment."""
        run = str(next(self._runs))
        self._ready.clear()
        self._collector = Collector(run, range(self._count))
        for number, client in enumerate(list(self._runner.clients)):
            task = Task(run=run, worker=number, workers=self._count, load=load, seed=seed, seconds=seconds)
            self._runner.send_message(PREPARE, {"task": pickle.dumps(task)}, client)
        ready = self._wait(lambda: len(self._ready) == self._count or bool(self._collector.trouble), READY_S)
        if self._collector.trouble:
            raise FleetError(self._collector.trouble)
        if not ready:
            raise FleetError(f"the workers are not there any more: {self._last_words()}")
        began = time.monotonic_ns() + AHEAD_NS
        self._runner.send_message(GO, {"start_ns": began})
        return began

    def _watch(
        self,
        collector: Collector,
        began: int,
        seconds: float,
        until: Callable[[Sequence[Record], float], bool] | None,
        interrupts: Sequence[int],
    ) -> None:
        """Returns when the load is to end."""
        looked = 0.0
        while (now := (time.monotonic_ns() - began) / SECOND) < seconds:
            if interrupts or collector.trouble or self._dead():
                return
            if until is not None and now >= looked + LOOK:
                looked = now
                if until(collector.records, now):
                    return
            gevent.sleep(min(STEP, seconds - now))

    def _wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """False when the time is over, or a worker died, before it was so."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            if self._dead():
                # What the others have yet to say is still wanted.
                deadline = min(deadline, time.monotonic() + LAST_S / 5)
                if len(self._dead()) == self._count:
                    return condition()
            gevent.sleep(STEP)
        return True

    def _dead(self) -> list[int]:
        """The exit status of each worker that has one."""
        return [status for worker in self._workers if (status := worker.poll()) is not None]

    def _last_words(self) -> str:
        """What is known of why a worker is gone."""
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        status = f"exit status {self._dead()[0]}, " if self._dead() else ""
        return f"{status}last line {lines[-1]!r}" if lines else f"{status}it said nothing"

    def _report(self, environment: Environment, msg: Any) -> None:
        self._collector.take(msg.data)

    def _prepared(self, environment: Environment, msg: Any) -> None:
        self._ready.add(msg.data["worker"])
        self._collector.trouble = self._collector.trouble or msg.data["trouble"]


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Grows with each Ctrl-C, unless whoever uses the fleet looks for it themselves.

    As an exception it would be lost where locust is the one to be interrupted: its listener takes it for its own.
    """
    seen: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    ours = before is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, lambda number, _frame: seen.append(number))
    try:
        yield seen
    finally:
        if ours:
            signal.signal(signal.SIGINT, before)
