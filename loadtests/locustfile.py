"""For locust itself, with its web page or without.

    eval "$(make -s env)" && export OPENAI_API_KEY="$(make -s key)"
    locust -f loadtests/locustfile.py                                        # http://localhost:8089
    locust -f loadtests/locustfile.py --headless -u 8 -r 2 -t 2m [--processes 2]

It asks what `make load` asks, with the same client; LOAD_PROFILE says what (chat, …), LOAD_MODEL which model, LOAD_SEED
how long its conversations are: their words are others with every start. LOAD_STEPS=1,2,4 or LOAD_RAMP=16 is a shape,
LOAD_FOR its time. With LOAD_OUT=folder the report is written at the end, judged by LOAD_SLO.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Final

import gevent
from gevent.event import AsyncResult
from locust import LoadTestShape, User, events, task
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import LocalRunner, MasterRunner, WorkerRunner

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # locust itself looks only beside this file

from loadtests import target
from loadtests.analysis import gates, slo
from loadtests.generator import clocks, recorder, rows, shapes
from loadtests.generator.recorder import Collector
from loadtests.generator.seats import Seat
from loadtests.generator.station import Station
from loadtests.report import files
from loadtests.results import build, schema, store
from loadtests.results.store import CannotWrite
from loadtests.workload import profiles

END: Final = "load-end"
PING: Final = "load-ping"
PONG: Final = "load-pong"
PING_S: Final = 1.0
LAST_S: Final = 10.0
"""For the workers' last reports."""
SOON: Final = 1.0
"""Seconds before its time at which a test is over: locust's own clock starts a little earlier than ours."""
MANY: Final = 1024
"""More workers than there will be: each numbers its people in steps of it."""
logger = logging.getLogger(__name__)


def _seed(said: str) -> int:
    if not said.isdecimal():
        raise ValueError(f"LOAD_SEED={said}: a whole number, 0 or more")
    return int(said)


try:
    TARGET: Final = target.from_environment(os.environ)
    PROFILE: Final = profiles.chosen(os.environ.get("LOAD_PROFILE") or "chat")
    OBJECTIVES: Final = slo.parse(os.environ.get("LOAD_SLO") or slo.usual(PROFILE.scenario))
    SEED: Final = _seed(os.environ.get("LOAD_SEED") or "1")
    SHAPE: Final = shapes.chosen(os.environ)
except ValueError as error:
    sys.exit(str(error))


class Person(User):
    """Asks, reads, thinks, asks again."""

    station: ClassVar[Station | None] = None
    numbers: ClassVar[Iterator[int]] = itertools.count()

    @task
    def live(self) -> None:
        """One session after another, until the test stops."""
        if Person.station is not None:
            Person.station.live(Seat(Person.numbers, 0.0, midway=False))
        raise StopUser


if SHAPE is not None:
    wanted = SHAPE

    class Shape(LoadTestShape):
        """What LOAD_STEPS or LOAD_RAMP says."""

        def tick(self) -> shapes.Tick | None:
            """How many people now."""
            return wanted(self.get_run_time())  # type: ignore[no-untyped-call]


def early(seconds: float, run_time: float | None, shape: Callable[[float], shapes.Tick | None] | None) -> str:
    """Why a test that ends after so many seconds is not complete; empty where it is, or where no end was set."""
    now = seconds + SOON
    if run_time and now < run_time:
        return f"stopped after {seconds:.0f} s of {run_time:g} s"
    if not run_time and shape is not None and shape(now) is not None:
        return f"stopped after {seconds:.0f} s, before its shape was over"
    return ""


class Run:
    """One test, as the one who gathers it knows it: plain locust, or the master."""

    def __init__(self) -> None:
        self.collector = Collector("")
        self.began: float | None = None
        self.nonce = 0
        """Of this start: what is asked was never asked before, so no server has kept it."""
        self._first = time.monotonic()
        self._pong = AsyncResult()

    def begin(self, environment: Environment) -> None:
        """A test starts; another one before it is forgotten."""
        self.nonce, self._first = time.time_ns() % 2**31, time.monotonic()
        if environment.parsed_options is not None:
            environment.parsed_options.load_nonce = self.nonce  # goes to each worker before it begins
        runner = environment.runner
        offsets = self._offsets(runner) if isinstance(runner, MasterRunner) else {0: clocks.Offset(0, 0)}
        self.collector = Collector("", offsets, {number: one.shift_ns for number, one in offsets.items()})
        self.began = time.time()
        if far := [str(number) for number, one in offsets.items() if not one.known]:
            # Their records are kept, but nothing can be concluded with them.
            self.collector.trouble = (
                f"the clock of worker {' and '.join(far)} is not known to {clocks.BOUND_NS / 1e6:g} ms: a machine that "
                "is nearer, or less busy, can be a worker"
            )
            logger.error(self.collector.trouble)

    def _offsets(self, runner: MasterRunner) -> dict[int, clocks.Offset]:
        """How far each worker's clock is ahead. One that never answers counts as not known."""
        found = {}
        for client, number in runner.worker_indexes.items():
            if client in runner.clients:
                pings = [ping for _ in range(clocks.PINGS) if (ping := self._ping(runner, client)) is not None]
                found[number] = clocks.offset(pings) if pings else clocks.Offset(0, clocks.BOUND_NS + 1)
        return found

    def _ping(self, runner: MasterRunner, client: str) -> clocks.Ping | None:
        self._pong, sent = AsyncResult(), time.monotonic_ns()
        runner.send_message(PING, {"sent_ns": sent}, client)
        try:
            with gevent.Timeout(PING_S):
                while (ping := self._pong.get()).sent_ns != sent:  # the late answer to one before
                    self._pong = AsyncResult()
        except gevent.Timeout:
            return None
        return clocks.Ping(ping.sent_ns, ping.theirs_ns, ping.back_ns)

    def heard(self, msg: Any) -> None:
        """A worker's answer to a ping."""
        self._pong.set(clocks.Ping(msg.data["sent_ns"], msg.data["at_ns"], time.monotonic_ns()))

    def take(self, environment: Environment, msg: Any) -> None:
        """A worker's report. Where its scenario cannot go on, neither can the test."""
        before = self.collector.trouble
        self.collector.take(msg.data)
        if self.collector.trouble and not before and (runner := environment.runner) is not None:
            logger.error(self.collector.trouble)
            environment.process_exit_code = 2
            gevent.spawn(runner.quit if _headless(environment) else runner.stop)

    def stopping(self, environment: Environment) -> None:
        """The test ends. Where that is before its time, it is marked."""
        seconds = time.monotonic() - self._first
        whole = getattr(environment.parsed_options, "run_time", None)
        if not self.collector.trouble and (said := early(seconds, whole, SHAPE)):
            self.collector.trouble = said

    def wait(self) -> None:
        """Until the workers have told everything."""
        deadline = time.monotonic() + LAST_S
        while not self.collector.complete and time.monotonic() < deadline:
            gevent.sleep(0.02)

    def write(self, folder: Path) -> None:
        """The four files of the report, where there was a test. Says where they are, or why not."""
        if self.began is None:
            return
        records, client = self.collector.records, self.collector.client()
        result = build.result(
            records, OBJECTIVES,
            schema.Environment(
                target=TARGET.url, hardware={}, versions={"locust": version("locust")},
                configuration={"PROFILE": PROFILE.name, "MODEL": TARGET.model},
                seeds={"SEED": SEED, "nonce": self.nonce},
            ),
            title=f"locust: {PROFILE.name}", checks=gates.check(records, OBJECTIVES, client=client),
            started=datetime.fromtimestamp(self.began, UTC).isoformat(timespec="seconds"),
            stopped=self.collector.trouble,
        )  # fmt: skip
        try:
            store.write(folder, files.render(result, records))
        except CannotWrite as error:
            logger.error(error)  # noqa: TRY400  (a sentence for people, not a place in the program)
        else:
            logger.info("%s: %s. The report is in %s", result.verdict.upper(), result.reason, folder)


RUN: Final = Run()


@events.init.add_listener  # type: ignore[untyped-decorator]
def _ready(environment: Environment, **_: Any) -> None:
    # Else `-t 2s` counts from the last time that the loop looked at the clock, before all of this was imported.
    gevent.get_hub().loop.update_now()
    runner = environment.runner
    if isinstance(runner, WorkerRunner):
        runner.register_message(END, lambda environment, **_: _finish(environment), concurrent=True)
        runner.register_message(
            PING, lambda msg, **_: runner.send_message(PONG, msg.data | {"at_ns": time.monotonic_ns()})
        )
    elif runner is not None:
        runner.register_message(recorder.MESSAGE, RUN.take)
        runner.register_message(PONG, lambda msg, **_: RUN.heard(msg))


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def _start(environment: Environment, **_: Any) -> None:
    runner = environment.runner
    if not isinstance(runner, WorkerRunner):
        RUN.begin(environment)
    if isinstance(runner, WorkerRunner | LocalRunner):
        profile = replace(PROFILE, nonce=getattr(environment.parsed_options, "load_nonce", RUN.nonce))
        Person.numbers = itertools.count(runner.worker_index, MANY)
        Person.station = Station(
            TARGET, profile, seed=SEED, run="", worker=runner.worker_index,
            send=lambda report: runner.send_message(recorder.MESSAGE, report),
            show=lambda record: rows.show(environment, record),
        )  # fmt: skip
        Person.station.begin()


@events.test_stopping.add_listener  # type: ignore[untyped-decorator]
def _stopping(environment: Environment, **_: Any) -> None:
    if not isinstance(environment.runner, WorkerRunner):
        RUN.stopping(environment)
    if Person.station is not None:
        Person.station.ended.set()


@events.test_stop.add_listener  # type: ignore[untyped-decorator]
def _stop(environment: Environment, **_: Any) -> None:
    _finish(environment)
    if isinstance(environment.runner, MasterRunner):
        # At its end locust gives workers half a second; what they have not told by then would be lost.
        environment.runner.send_message(END)
        RUN.wait()


def _finish(environment: Environment) -> None:
    """A worker tells the rest, once."""
    station, Person.station = Person.station, None
    if station is not None and environment.runner is not None:
        station.ended.set()
        environment.runner.user_greenlets.kill()
        station.finish()


@events.quit.add_listener  # type: ignore[untyped-decorator]
def _quit(**_: Any) -> None:
    if folder := os.environ.get("LOAD_OUT"):
        RUN.write(Path(folder))


def _headless(environment: Environment) -> bool:
    return bool(environment.parsed_options is not None and environment.parsed_options.headless)
