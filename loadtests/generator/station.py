"""One worker's place in a load: its connections, its records, and the people that live in it.

The same for a worker of the fleet and for plain `locust -f loadtests/locustfile.py`; knows nothing of locust itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import Any, Final

import gevent
import numpy as np
from gevent.event import Event

from loadtests.client.probe import LoopProbe
from loadtests.client.stream import Client, Reply, Request
from loadtests.generator.alarm import Alarm
from loadtests.generator.conductor import Conductor
from loadtests.generator.recorder import Recorder, Report
from loadtests.generator.seats import Seat
from loadtests.records import Outcome, Record
from loadtests.target import Target
from loadtests.users import SCENARIOS
from loadtests.users.base import CannotGoOn, Flight, Person, Scenario
from loadtests.workload.profiles import Profile

EVERY: Final = 0.5
"""Seconds between reports."""
AGAIN: Final = 1.0
"""Whoever failed waits at least so long (seconds): a server that refuses at once is not to be hammered."""
EARLY_NS: Final = 20_000_000
"""What is asked at a moment is made ready so long before it."""
SALT: Final = 7
"""Keeps these draws apart from those of the conversation with the same number."""
WARM: Final = 64
"""Connections opened beforehand at most."""


class Punctual(Client):
    """Holds a request back until its moment, so that it can be made ready before; counts those under way."""

    def __init__(self, url: str, alarm: Alarm, flight: Flight, **settings: Any) -> None:
        super().__init__(url, **settings)
        self._alarm, self._flight = alarm, flight

    def ask(self, request: Request, intended_ns: int | None = None) -> Reply:
        """Sends a request at the intended moment, at once where it is over or none is given."""
        if intended_ns is not None:
            self._alarm.wait(intended_ns)
        with self._flight:
            return super().ask(request, intended_ns)


class Station:
    """A worker's place in one load, from `open` to `finish`.

    Args:
        target: where, and as whom.
        profile: what people ask.
        seed: what they ask exactly.
        run: the name of the load, for its reports.
        worker: the worker's number, 0 and up.
        send: takes each report.
        show: is given every record too.
        timeout: the longest that a request may take (seconds).
    """

    def __init__(
        self,
        target: Target,
        profile: Profile,
        *,
        seed: int,
        run: str,
        worker: int,
        send: Callable[[Report], None],
        show: Callable[[Record], None] | None = None,
        timeout: float = 600,
    ) -> None:
        self.target, self.profile, self.seed, self.worker = target, profile, seed, worker
        self.ended = Event()
        """Set: nothing new begins."""
        self._show = show
        self._failed: set[int] = set()
        self._conductor: Conductor | None = None
        self._reporter: gevent.Greenlet | None = None
        self._probe = LoopProbe()
        self._flight = Flight()
        self.recorder = Recorder(run, worker, send, self._probe.lags, self._oldest, lambda: self._flight.count)
        self._alarm = Alarm()
        self._client = Punctual(
            target.url,
            self._alarm,
            self._flight,
            key=target.key,
            ca=target.ca,
            worker=worker,
            total_s=timeout,
            idle_s=timeout,
            keep=self.keep,
        )

    def open(self, connections: int) -> None:
        """Opens connections beforehand. Where that fails, the requests will say why."""
        with suppress(OSError):
            self._client.preconnect(min(connections, WARM))

    def begin(self) -> None:
        """From here on the worker's own time and lag count, and reports are sent."""
        self.recorder.restart()
        self._probe.__enter__()
        self._reporter = gevent.spawn(self._report)

    def keep(self, record: Record) -> None:
        """Takes the record of a request that ended."""
        self.recorder.keep(record)
        if record.outcome is Outcome.OK:
            self._failed.discard(record.session)
        else:
            self._failed.add(record.session)
        if self._show is not None:
            self._show(record)

    def finish(self) -> None:
        """Sends what is left, and that it is all. Whatever ran must be over."""
        if self._reporter is not None:
            self._reporter.kill()
            self._probe.__exit__()
        self.recorder.finish()
        self._client.close()
        self._alarm.close()

    def live(self, seat: Seat) -> None:
        """A person's life: waits, then one session after another, until the load has ended."""
        if self.ended.wait(seat.first_s):
            return
        midway = seat.midway
        for number in seat.numbers:
            if self.ended.wait(self._session(number, seat.place, midway=midway)):
                return
            midway = False

    def _session(self, number: int, place: int | None, *, midway: bool) -> float:
        """One session. How long to wait before the next one."""
        person = replace(self._person(number, self.profile), place=place, midway=midway)
        with self._watched(self.profile), closing(_scenario(self.profile).session(self._client, person)) as turns:
            for think in turns:
                if self.ended.wait(max(think, self._penalty(number))):
                    return 0.0
        wait = max(self.pause(number), self._penalty(number))
        self._failed.discard(number)
        return wait

    def pause(self, number: int) -> float:
        """How long this person thinks before something new (seconds)."""
        return self.profile.think.sample(np.random.default_rng((self.seed, number, SALT)))

    def _penalty(self, number: int) -> float:
        return AGAIN if number in self._failed else 0.0

    def play(self, due: Sequence[float], start_ns: int, workers: int, profiles: Sequence[Profile] = ()) -> None:
        """An open loop: requests at these seconds from `start_ns` on; returns when the last one is over.

        Args:
            due: the moments.
            start_ns: of `time.monotonic_ns`.
            workers: how many play beside this one: their people have numbers of their own.
            profiles: what each request is of, where they differ.
        """

        def ask(place: int, intended_ns: int) -> None:
            profile = profiles[place] if profiles else self.profile
            person = self._person(self.worker + place * workers, profile)
            with self._watched(profile):
                _scenario(profile).once(self._client, person, intended_ns)
            self._failed.discard(person.number)

        early = EARLY_NS if getattr(SCENARIOS.get(self.profile.scenario), "early", False) else 0
        self._conductor = Conductor(ask, early)
        try:
            self._conductor.walk(due, start_ns, self.ended)
            self._conductor.requests.join()
        finally:
            self._conductor.requests.kill()

    def _oldest(self) -> int | None:
        return None if self._conductor is None else self._conductor.oldest_ns

    def _person(self, number: int, profile: Profile) -> Person:
        return Person(
            target=self.target, profile=profile, seed=self.seed, number=number, worker=self.worker, keep=self.keep,
            flight=self._flight,
        )  # fmt: skip

    @contextmanager
    def _watched(self, profile: Profile) -> Iterator[None]:
        """Whatever a scenario raises ends the load: with requests missing it would be another one."""
        try:
            yield
        except CannotGoOn as error:
            self.recorder.failed(str(error))
            self.ended.set()
        except Exception as error:  # noqa: BLE001  (people are told, whatever it is)
            self.recorder.failed(f"the scenario {profile.scenario!r} broke: {type(error).__name__}: {error}")
            self.ended.set()

    def _report(self) -> None:
        while True:
            gevent.sleep(EVERY)
            self.recorder.ship(lambda: gevent.sleep(0))


def _scenario(profile: Profile) -> Scenario:
    """Raises CannotGoOn for one that does not exist."""
    if profile.scenario not in SCENARIOS:
        raise CannotGoOn(f"the profile {profile.name!r} wants {profile.scenario!r}; there are: {', '.join(SCENARIOS)}")
    return SCENARIOS[profile.scenario]
