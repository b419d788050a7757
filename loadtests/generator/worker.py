"""A worker of the fleet: `python -m loadtests.generator.worker`, told what to do on its standard input and by messages.

It ends with its standard input, so that no worker outlives the fleet, however that ended.
"""

from __future__ import annotations

# First: it patches the process for gevent.
import locust  # isort: skip

import gc
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import gevent
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import WorkerRunner

from loadtests.generator import recorder, rows
from loadtests.generator.conductor import connections, logged, moments
from loadtests.generator.loads import Closed, Load, Open, Replay
from loadtests.generator.seats import Seat, seat
from loadtests.generator.station import Station
from loadtests.target import Target
from loadtests.workload.profiles import Profile

PREPARE: Final = "load-prepare"
UP: Final = "load-up"
READY: Final = "load-ready"
GO: Final = "load-go"
END: Final = "load-end"
SECOND: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a worker is told once."""

    target: Target
    profile: Profile
    port: int
    """Of the fleet's locust, on this machine."""
    stats: bool
    timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a worker is told for each load."""

    run: str
    worker: int
    workers: int
    load: Load
    seed: int
    seconds: float


class Somebody(locust.User):
    """One person. Takes the next free seat of the load that is prepared."""

    seats: ClassVar[Iterator[tuple[Station, Seat]]] = iter(())

    @locust.task
    def live(self) -> None:
        """Until the load has ended."""
        station, seat = next(Somebody.seats)
        station.live(seat)
        raise StopUser


class Worker:
    """Answers the fleet's messages: prepare, go, end."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._environment = Environment(user_classes=[Somebody])
        self._runner: WorkerRunner = self._environment.create_worker_runner("127.0.0.1", orders.port)
        self._work: tuple[Station, Callable[[int], None]] | None = None
        self._player: gevent.Greenlet | None = None
        for name, listener in ((PREPARE, self._prepare), (GO, self._go), (END, self._end)):
            self._runner.register_message(name, listener, concurrent=True)
        # Locust has said already that this worker is there: what came before now was dropped as unknown.
        self._runner.send_message(UP, None)

    def join(self) -> None:
        """Works until it is told to go."""
        self._runner.greenlet.join()

    def _prepare(self, environment: Environment, msg: Any) -> None:
        task: Task = pickle.loads(msg.data["task"])  # noqa: S301  (from the process that started this one)
        trouble = ""
        try:
            self._work = self._prepared(environment, task)
        except Exception as error:  # noqa: BLE001  (the fleet tells people, whatever it is)
            trouble = f"the load cannot be prepared: {error or type(error).__name__}"
        self._runner.send_message(READY, {"run": task.run, "worker": task.worker, "trouble": trouble})

    def _prepared(self, environment: Environment, task: Task) -> tuple[Station, Callable[[int], None]]:
        """A load with everything ready, and what begins it."""
        orders = self._orders
        station = Station(
            orders.target, orders.profile, seed=task.seed, run=task.run, worker=task.worker, timeout=orders.timeout,
            send=lambda report: self._runner.send_message(recorder.MESSAGE, report),
            show=(lambda record: rows.show(environment, record)) if orders.stats else None,
        )  # fmt: skip
        if isinstance(task.load, Closed):
            start = self._people(station, task, task.load)
        else:
            start = self._schedule(station, task, task.load)
        station.open(connections(task.load, task.workers))
        return station, start

    def _people(self, station: Station, task: Task, load: Closed) -> Callable[[int], None]:
        """What begins a closed load."""
        places = range(task.worker, load.users, task.workers)
        taken = [seat(self._orders.profile, load, task.seconds, task.seed, place) for place in places]

        def start(_: int) -> None:
            Somebody.seats = ((station, one) for one in taken)
            self._runner.spawn_users({Somebody.__name__: len(taken)})

        return start

    def _schedule(self, station: Station, task: Task, load: Open | Replay) -> Callable[[int], None]:
        """What begins an open one."""
        due = moments(load, task.seconds, task.seed, task.worker, task.workers).tolist()
        log = () if isinstance(load, Open) else load.arrivals[task.worker :: task.workers]
        profiles = [logged(one, self._orders.profile) for one in log]

        def start(start_ns: int) -> None:
            self._player = gevent.spawn(station.play, due, start_ns, task.workers, profiles)

        return start

    def _go(self, environment: Environment, msg: Any) -> None:
        if self._work is None:
            return
        (station, start), start_ns = self._work, msg.data["start_ns"]
        gevent.sleep(max(0.0, (start_ns - time.monotonic_ns()) / SECOND))
        station.begin()
        start(start_ns)

    def _end(self, environment: Environment, msg: Any) -> None:
        if self._work is None:
            return
        (station, _), self._work = self._work, None
        station.ended.set()
        runs = [self._runner.user_greenlets, *([self._player] if self._player is not None else ())]
        with gevent.Timeout(msg.data["grace"], False):
            for one in runs:
                one.join()
        for one in runs:
            one.kill()
        self._player = None
        station.finish()


def _watch(stdin: int) -> None:
    """Nobody writes any more: whoever started this is gone."""
    gone = gevent.get_hub().loop.io(stdin, 1)
    gone.start(lambda: os._exit(0))


def _first() -> None:
    """Goes before others on this machine, where that is allowed (root).

    A worker sleeps nearly all the time, but must be there at once: beside an engine that computes on the same cores it
    was late by 6 ms (p99) and called back 5 ms late, with this by 0.5 and 0.9 ms.
    """
    with suppress(OSError, AttributeError):  # not root, or no Linux
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))


def main() -> None:
    """Reads its orders and works."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends Ctrl-C to all; the fleet says what happens
    size = int.from_bytes(sys.stdin.buffer.read(8), "big")
    orders = pickle.loads(sys.stdin.buffer.read(size))  # noqa: S301  (from the process that started this one)
    _watch(sys.stdin.fileno())
    _first()
    gc.collect()
    gc.freeze()  # what is there now stays: looking through it again would hold up the loop
    Worker(orders).join()


if __name__ == "__main__":
    main()
