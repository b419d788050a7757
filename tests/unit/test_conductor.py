"""The open loop: every request leaves at its moment, or late but counted from it; none is left out."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import gevent
import numpy as np
import pytest
from gevent.event import Event

from loadtests.analysis.stats import kolmogorov
from loadtests.client.probe import LoopProbe
from loadtests.generator.conductor import FEW, SECOND, Conductor, connections, logged, moments
from loadtests.generator.loads import Closed, Open, Replay
from loadtests.workload.arrivals import Arrivals
from loadtests.workload.profiles import PROFILES, Length, question
from loadtests.workload.replay import Arrival
from tests.support.tries import once_in_three


@dataclass(frozen=True)
class Logged:
    """What is read of an arrival of a log."""

    at_s: float


def test_workers_share_the_load_and_no_moment_is_lost() -> None:
    load = Open(Arrivals("poisson", 50.0))
    alone = moments(load, 20, seed=3)
    parts = [moments(load, 20, 3, worker, 3) for worker in range(3)]
    assert len(alone) > 800
    assert np.array_equal(np.sort(np.concatenate(parts)), alone)
    assert all(abs(len(part) - len(alone) / 3) < 1 for part in parts)


@pytest.mark.parametrize("kind", ["constant", "poisson"])
def test_a_ramp_grows_evenly_from_nothing_to_the_rate(kind: str) -> None:
    due = moments(Open(Arrivals(kind, 200.0), ramp=True), 100, seed=5)
    assert len(due) == pytest.approx(200 * 100 / 2, rel=0.03)
    assert due[0] >= 0
    assert due[-1] < 100
    assert np.all(np.diff(due) > 0)
    _, p = kolmogorov(due, lambda at: (at / 100) ** 2)
    assert p > 0.001, "by t, t squared of the whole has come"


def test_a_replay_is_dealt_out_and_ends_with_the_time() -> None:
    load = Replay(tuple(Logged(at) for at in (0.5, 1, 2, 3.5, 9)))  # type: ignore[arg-type]
    assert [moments(load, 9, 1, worker, 2).tolist() for worker in (0, 1)] == [[0.5, 2], [1, 3.5]]


@pytest.mark.parametrize(("output", "asked"), [(7, 7), (None, 150)])
def test_a_request_of_a_log_is_alone_and_as_long_as_the_log_says(output: int | None, asked: int) -> None:
    usual = replace(PROFILES["chat"], output=Length.parse(150), system=Length.parse(300), turns=Length.parse(9))
    one = logged(Arrival(0, "chat", 500, output), usual)
    turn = question(one, 1, 2)
    assert (turn.turn, len(turn.messages), turn.asked_tokens) == (0, 1, asked)
    assert len(turn.messages[0]["content"].split()) == pytest.approx(500, abs=10)
    assert one.scenario == "chat"


def test_a_logged_batch_has_as_many_tokens_in_all() -> None:
    one = logged(Arrival(0, "embeddings", 3200, None), PROFILES["chat"])
    assert (one.scenario, one.input) == ("embed", Length.parse(200))
    assert logged(Arrival(0, "embeddings", 3, None), PROFILES["chat"]).input == Length.parse(1)
    assert logged(Arrival(0, "embeddings", None, None), PROFILES["embed"]).input == PROFILES["embed"].input


def test_connections_are_open_for_those_who_come_first() -> None:
    assert connections(Closed(9), 2) == 5
    assert connections(Open(Arrivals("poisson", 100.0)), 4) == 25
    assert connections(Open(Arrivals("poisson", 0.1)), 1) == FEW == connections(Replay(()), 1)


class Asked:
    """What a conductor asked for, and when it came to it."""

    def __init__(self) -> None:
        self.intended: list[int] = []
        self.places: list[int] = []
        self.late: list[float] = []

    def __call__(self, place: int, intended_ns: int) -> None:
        self.places.append(place)
        self.intended.append(intended_ns)
        self.late.append((time.monotonic_ns() - intended_ns) / SECOND)


def test_requests_leave_at_their_moments() -> None:
    due = moments(Open(Arrivals("poisson", 300.0)), 0.5, seed=2).tolist()

    def right() -> bool:
        asked = Asked()
        conductor = Conductor(asked)
        start = time.monotonic_ns() + SECOND // 20
        with LoopProbe() as probe:
            conductor.walk(due, start, Event())
            conductor.requests.join()
        assert asked.places == list(range(len(due)))
        assert asked.intended == [start + int(at * SECOND) for at in due]
        assert min(asked.late) >= 0, "nothing leaves early"
        # One long halt is few late callbacks, which the quantile does not show, but many late requests.
        return probe.lags.quantile(0.99) >= 2_000_000 or bool(np.percentile(asked.late, 99) < 0.005)

    assert once_in_three(right)


def test_whoever_comes_late_is_counted_from_the_moment_and_none_is_left_out() -> None:
    asked, due = Asked(), (np.arange(200) / 1000).tolist()

    def ask(place: int, intended_ns: int) -> None:
        if place == 20:
            time.sleep(0.15)  # the whole loop stands still, as on a busy machine
        asked(place, intended_ns)

    conductor, start = Conductor(ask), time.monotonic_ns()
    conductor.walk(due, start, Event())
    conductor.requests.join()
    assert sorted(asked.places) == list(range(200))
    assert sorted(asked.intended) == [start + int(at * SECOND) for at in due]
    assert max(asked.late) > 0.14


def test_a_slow_answer_moves_nothing_behind_it() -> None:
    asked = Asked()
    hold = Event()

    def ask(place: int, intended_ns: int) -> None:
        asked(place, intended_ns)
        if place == 0:
            hold.wait(10)

    conductor, start = Conductor(ask), time.monotonic_ns()
    conductor.walk([0.0, 0.01, 0.02], start, Event())
    gevent.sleep(0)
    assert asked.places == [0, 1, 2]
    assert conductor.oldest_ns == start, "the first still runs, so nothing has settled"
    hold.set()
    conductor.requests.join()
    assert conductor.oldest_ns is None


def test_between_requests_all_before_the_next_has_settled() -> None:
    conductor, start, ended = Conductor(lambda _, __: None), time.monotonic_ns(), Event()
    walking = gevent.spawn(conductor.walk, [0.0, 60.0], start, ended)
    deadline = time.monotonic() + 5
    while conductor.oldest_ns != start + 60 * SECOND and time.monotonic() < deadline:
        gevent.sleep(0.001)
    assert conductor.oldest_ns == start + 60 * SECOND
    ended.set()
    walking.join(5)
    assert walking.ready(), "the end is not waited for until the next moment"


def test_nothing_begins_after_the_end() -> None:
    asked, ended = Asked(), Event()
    ended.set()
    conductor = Conductor(asked)
    conductor.walk([0.0, 0.0, 0.1], time.monotonic_ns() - SECOND, ended)
    conductor.requests.join()
    assert asked.places == []
