"""The fleet against the fake engine: what was asked for is what arrives, and nothing of it is lost unseen."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtests.analysis.metrics import SECOND, late, ttft
from loadtests.analysis.stats import kolmogorov, percentile
from loadtests.generator.loads import Closed, Held, Open, Replay
from loadtests.records import Outcome
from loadtests.target import Target
from loadtests.users.embed import BATCH
from loadtests.workload.arrivals import Arrivals
from loadtests.workload.profiles import PROFILES, Length, Profile
from loadtests.workload.replay import Arrival
from tests.support.engine import Engine, engine
from tests.support.fleet import Came, Fleets, Wanted, fleets
from tests.support.processes import children_of
from tests.support.tries import once_in_three

QUIET = 0.002
"""Loop lag, seconds, p99: below it timing may be asserted."""


def profile(**lengths: str) -> Profile:
    usual = {"input": "fixed:8", "output": "fixed:6", "turns": "fixed:3", "think": "fixed:0.05", "system": "fixed:0"}
    return replace(PROFILES["chat"], **{name: Length.parse(text) for name, text in (usual | lengths).items()})


@pytest.fixture(scope="module")
def _one() -> Iterator[Engine]:
    with engine(("default", "embedding")) as one:
        yield one


@pytest.fixture
def one(_one: Engine) -> Engine:
    _one.reset()
    _one.forget()
    _one.play(ttft_ms=20, itl_ms=2, tokens=6)
    return _one


def at(one: Engine) -> Target:
    return Target(url=f"http://{one.address}", key="sk-test")


@pytest.fixture(scope="module")
def others() -> Iterator[Fleets]:
    with fleets() as running:
        yield running


def whole(came: Came, one: Engine) -> Held:
    """The load, of which nothing is missing."""
    assert came.error == ""
    assert came.held is not None
    assert came.held.client.dropped == 0
    assert len(came.held.records) == len(one.seen())
    return came.held


@pytest.mark.parametrize("processes", [1, 2])
def test_people_ask_think_and_ask_again(one: Engine, others: Fleets, processes: int) -> None:
    came = others.hold(Wanted(target=at(one), profile=profile(), load=Closed(6), seconds=2, processes=processes))
    load = whole(came, one)
    assert Counter(record.outcome for record in load.records) == {Outcome.OK: len(load.records)}
    assert {record.worker for record in load.records} == set(range(processes))
    assert {record.session % 6 for record in load.records} == set(range(6)), "every person has a seat"
    assert one.state["most_in_flight"] <= 6, "each waits for the answer"
    assert came.looks >= 2
    assert load.began_ns <= load.records[0].intended_ns
    assert load.ended_ns - load.began_ns == pytest.approx(2 * SECOND, rel=0.2)
    assert list(load.records) == sorted(load.records, key=lambda record: record.intended_ns)
    sessions: dict[int, list[int]] = {}
    for record in load.records:
        assert (record.asked_tokens, record.output_tokens, len(record.pieces_ns)) == (6, 6, 6)
        assert (record.scenario, record.model) == ("chat", "default")
        sessions.setdefault(record.session, []).append(record.turn)
    assert all(turns == list(range(turns[0], turns[-1] + 1)) for turns in sessions.values())
    assert Counter(turns[0] for session, turns in sessions.items() if session >= 6) == {0: len(sessions) - 6}
    assert {turns[-1] for session, turns in sessions.items() if session < 6} == {2}, "three questions, then another one"
    assert {turns[0] for session, turns in sessions.items() if session < 6} > {0}, "most were in the middle of theirs"


def test_what_is_under_way_is_known_meanwhile(one: Engine, others: Fleets) -> None:
    one.play(ttft_ms=600, itl_ms=1, tokens=10)
    came = others.hold(Wanted(target=at(one), profile=profile(), load=Closed(5), seconds=3, processes=2))
    whole(came, one)
    assert 3 <= came.in_flight <= 5, "five people who hardly think and wait"


def test_a_conversation_grows_by_the_answers_that_came(one: Engine, others: Fleets) -> None:
    whole(others.hold(Wanted(target=at(one), profile=profile(), load=Closed(1), seconds=2)), one)
    asked = [seen.json for seen in one.seen()]
    anew = [place for place, body in enumerate(asked) if len(body["messages"]) == 1]
    first, second, third = asked[anew[0] : anew[0] + 3]
    assert first["stream_options"] == {"include_usage": True}
    assert (first["max_tokens"], first["stream"], first["model"]) == (6, True, "default")
    assert second["messages"][: len(first["messages"])] == first["messages"]
    assert all("@" in text for text in said(third)), "the engine's own words, with the moment of their sending"
    assert len(said(third)) == 2


def test_who_is_met_in_the_middle_has_a_past_and_keeps_it(one: Engine, others: Fleets) -> None:
    whole(others.hold(Wanted(target=at(one), profile=profile(turns="fixed:40"), load=Closed(1), seconds=1)), one)
    first, second = (said(seen.json) for seen in one.seen()[:2])
    assert len(first) >= 1
    assert not any("@" in text for text in first), "made up: nobody asked"
    assert second[:-1] == first
    assert "@" in second[-1]


def said(body: Any) -> list[str]:
    return [message["content"] for message in body["messages"] if message["role"] == "assistant"]


def test_people_do_not_come_in_one_herd(one: Engine, others: Fleets) -> None:
    people = 60
    slow = profile(think="fixed:2", turns="fixed:1")
    wanted = Wanted(target=at(one), profile=slow, load=Closed(people), seconds=1.5)

    def right() -> bool:
        one.forget()
        load = whole(others.hold(wanted), one)
        came = [(record.intended_ns - load.began_ns) / SECOND for record in load.records]
        assert len(came) == pytest.approx(people * 1.5 / 2, rel=0.3), "as many as if it had gone on for long"
        _, p = kolmogorov(came, lambda moment: np.clip(moment / 1.5, 0, 1))
        return p > 0.001

    assert once_in_three(right), "and as evenly"


def test_people_of_a_ramp_come_one_by_one(one: Engine, others: Fleets) -> None:
    wanted = Wanted(target=at(one), profile=profile(think="fixed:30"), load=Closed(20, ramp=True))

    def right() -> bool:
        one.forget()
        load = whole(others.hold(wanted), one)
        came = [(record.intended_ns - load.began_ns) / SECOND for record in load.records]
        assert len(came) == 20
        return bool(came == pytest.approx([place / 20 for place in range(20)], abs=0.08))

    assert once_in_three(right)


@pytest.mark.parametrize("processes", [1, 2])
def test_an_open_loop_keeps_its_law(one: Engine, others: Fleets, processes: int) -> None:
    wanted = Wanted(
        target=at(one), profile=profile(), load=Open(Arrivals("poisson", 150.0)), seconds=2, processes=processes
    )

    def right() -> bool:
        one.forget()
        load = whole(others.hold(wanted), one)
        assert len({record.session for record in load.records}) == len(load.records), "each is a person of its own"
        assert min(late(record) for record in load.records) >= 0, "made ready before its moment, but sent at it"
        if load.client.lag is None or load.client.lag >= QUIET:
            return True
        sent = np.array([record.sent_ns - load.began_ns for record in load.records]) / SECOND
        _, p = kolmogorov(np.diff(np.sort(sent)), lambda gap: 1 - np.exp(-150 * gap))
        return p > 0.001 and percentile([late(record) for record in load.records], 0.99) < 0.005

    assert once_in_three(right), "what left for the server is not Poisson, or late"


def test_a_frozen_server_shows_in_an_open_loop(one: Engine, others: Fleets) -> None:
    one.freeze(after_ms=1500, for_ms=2000)
    wanted = Wanted(target=at(one), profile=profile(), load=Open(Arrivals("constant", 40.0)), seconds=4)
    load = whole(others.hold(wanted), one)
    assert len(load.records) == pytest.approx(160, abs=2), "nobody waited with asking"
    waits = [value for record in load.records if (value := ttft(record)) is not None]
    assert percentile(waits, 0.99) > 1.8
    assert percentile(waits, 0.75) > 0.4, "all who came meanwhile had to wait"


def test_a_replay_asks_for_what_the_log_says(one: Engine, others: Fleets) -> None:
    log = tuple(
        Arrival(at_s=0.1 * place, operation="chat", input_tokens=5 + place, output_tokens=1 + place)
        for place in range(6)
    )
    wanted = Wanted(target=at(one), profile=profile(), load=Replay(log), seconds=1, processes=2)
    load = whole(others.hold(wanted), one)
    assert [record.output_tokens for record in load.records] == [1, 2, 3, 4, 5, 6]
    assert [round((record.intended_ns - load.began_ns) / 1e8) for record in load.records] == list(range(6))
    assert [len(seen.json["messages"]) for seen in one.seen()] == [1] * 6


@pytest.mark.parametrize("load", [Closed(2), Open(Arrivals("constant", 10.0))])
def test_passages_come_in_batches_and_none_twice(one: Engine, others: Fleets, load: Closed | Open) -> None:
    embed = replace(PROFILES["embed"], turns=Length.parse("fixed:2"), think=Length.parse("fixed:0.1"))
    found = whole(others.hold(Wanted(target=at(one), profile=embed, load=load)), one)
    assert {record.outcome for record in found.records} == {Outcome.OK}
    assert {(record.scenario, record.model) for record in found.records} == {("embed", "embedding")}
    assert {(ttft(record), record.asked_tokens) for record in found.records} == {(None, 0)}
    assert all(record.input_tokens for record in found.records)
    texts = [text for seen in one.seen() for text in seen.json["input"]]
    assert len(texts) == BATCH * len(found.records) >= 5 * BATCH
    assert len(set(texts)) == len(texts)


def test_what_still_runs_when_the_grace_is_over_is_cancelled(one: Engine, others: Fleets) -> None:
    one.play(ttft_ms=60_000)
    load = whole(others.hold(Wanted(target=at(one), profile=profile(), load=Closed(3), grace=0.5)), one)
    assert Counter(record.outcome for record in load.records) == {Outcome.CANCELLED: 3}


def test_what_still_runs_at_the_end_is_waited_for(one: Engine, others: Fleets) -> None:
    one.play(ttft_ms=1200)
    load = whole(others.hold(Wanted(target=at(one), profile=profile(), load=Closed(3))), one)
    assert Counter(record.outcome for record in load.records) == {Outcome.OK: 3}
    assert max(record.done_ns for record in load.records) > load.ended_ns


def test_it_ends_when_there_is_enough(one: Engine, others: Fleets) -> None:
    load = whole(others.hold(Wanted(target=at(one), profile=profile(), load=Closed(8), seconds=30, enough=20)), one)
    assert load.ended_ns - load.began_ns < 10 * SECOND


def test_loads_follow_each_other_and_do_not_mix(one: Engine, others: Fleets) -> None:
    texts: set[tuple[int, str]] = set()

    def apart(seed: int, load: Closed | Open) -> bool:
        """A person who hears of the end late may have begun something meanwhile."""
        one.forget()
        found = whole(others.hold(Wanted(target=at(one), profile=profile(), load=load, seed=seed)), one)
        texts.update((seed, seen.json["messages"][0]["content"]) for seen in one.seen())
        return all(found.began_ns <= record.intended_ns <= found.ended_ns for record in found.records)

    for seed, load in enumerate((Closed(2), Open(Arrivals("poisson", 40.0)), Closed(2))):
        assert once_in_three(partial(apart, seed, load))
    assert len({text for _, text in texts}) == len(texts), "no load asks what another has asked: a cache would know it"


def test_a_killed_worker_is_noticed(one: Engine) -> None:
    wanted = Wanted(target=at(one), profile=profile(), load=Closed(4), seconds=20, grace=1, processes=2, kill_at=10)
    with fleets() as mine:
        load = mine.hold(wanted).held
        after = mine.hold(replace(wanted, kill_at=None))
    assert load is not None
    assert load.client.dropped is not None
    assert load.client.dropped >= 1
    assert load.ended_ns - load.began_ns < 10 * SECOND, "the rest of it would be another load than was asked for"
    assert {record.worker for record in load.records} >= {1}, "what the other worker saw is there"
    assert "exit status -9" in after.error, "nothing can be held any more"


def seen_by(one: Engine, count: int) -> None:
    """Waits until so many requests came."""
    deadline = time.monotonic() + 30
    while len(one.seen()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ctrl_c_leaves_what_there_is(one: Engine, others: Fleets) -> None:
    def interrupt() -> None:
        seen_by(one, 10)
        os.killpg(others.process.pid, signal.SIGINT)  # as the terminal does: to all of them

    wanted = Wanted(target=at(one), profile=profile(), load=Closed(4), seconds=50)
    load = whole(others.hold(wanted, interrupt), one)
    assert load.stopped
    assert len(load.records) >= 10
    assert load.ended_ns - load.began_ns < 20 * SECOND


def test_no_worker_outlives_the_fleet(one: Engine) -> None:
    with fleets() as mine:
        workers: list[int] = []

        def kill() -> None:
            seen_by(one, 1)
            workers.extend(children_of(mine.process.pid))
            os.kill(mine.process.pid, signal.SIGKILL)

        with pytest.raises(EOFError):
            mine.hold(Wanted(target=at(one), profile=profile(), load=Closed(4), seconds=50, processes=2), kill)
    assert len(workers) == 2
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """It runs, and is not only waited for by nobody."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_server_that_refuses_at_once_is_not_hammered(one: Engine, others: Fleets) -> None:
    one.play(fault="status", status=429)
    load = whole(others.hold(Wanted(target=at(one), profile=profile(think="fixed:0"), load=Closed(4), seconds=2)), one)
    assert Counter(record.outcome for record in load.records) == {Outcome.LIMIT: len(load.records)}
    assert 4 <= len(load.records) <= 4 * 3


def test_nobody_there_is_a_record_too(others: Fleets) -> None:
    target = Target(url="http://127.0.0.1:9", key="sk-test")
    came = others.hold(Wanted(target=target, profile=profile(), load=Open(Arrivals("constant", 20.0))))
    assert came.held is not None
    assert [record.outcome for record in came.held.records] == [Outcome.ERROR] * 20


def test_a_scenario_that_does_not_exist_ends_the_load(one: Engine, others: Fleets) -> None:
    lost = replace(profile(), name="mine", scenario="telephone")
    came = others.hold(Wanted(target=at(one), profile=lost, load=Closed(2), seconds=20))
    assert came.held is None
    assert "'mine' wants 'telephone'" in came.error


def test_a_load_that_cannot_be_prepared_is_told_at_once(one: Engine, others: Fleets) -> None:
    wanted = Wanted(target=at(one), profile=profile(), load=Open(Arrivals("poisson", 1000.0)), seconds=1e6)
    came = others.hold(wanted)
    assert came.held is None
    assert "cannot be prepared: 1000 requests a second" in came.error
    whole(others.hold(replace(wanted, load=Closed(2), seconds=0.5)), one)
