"""Gates and objectives: a run that is in order passes, and each thing that may be wrong is noticed by its own gate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from loadtests import gates, slo
from loadtests.gates import Client, Gate, Server
from loadtests.metrics import Objectives
from loadtests.records import Outcome, Record
from tests.support.records import failed, record, run

PEOPLE = slo.preset("people")
QUIET = Client(lag=0.0008, cpu=0.3, dropped=0, clock=0.0)


def sure(records: list[Record]) -> Server:
    return Server(output_tokens=sum(one.output_tokens or 0 for one in records), cache_share=0.0, warm=True)


def seen(records: list[Record], client: Client = QUIET, server: Server | None = None) -> dict[str, Gate]:
    checked = gates.check(records, PEOPLE, client=client, server=server or sure(records))
    return {gate.name: gate for gate in checked}


def failing(found: dict[str, Gate]) -> set[str]:
    return {name for name, gate in found.items() if gate.passed is not True}


def test_a_run_in_order_passes_every_gate() -> None:
    found = seen(run())
    assert failing(found) == set()
    assert gates.no_verdict(list(found.values())) == ""
    assert {gate.word for gate in found.values()} == {"PASS"}


def drifting() -> list[Record]:
    return [record(one.intended_ns / 1e6, ttft=200 + k * 0.4, session=k) for k, one in enumerate(run())]


@pytest.mark.parametrize(
    ("records", "client", "server", "gate"),
    [
        (drifting(), {}, {}, "steady state"),
        (run(late=30.0), {}, {}, "late sends"),
        (run(), {"lag": 0.0025}, {}, "loop lag p99"),
        (run(), {"cpu": 0.61}, {}, "client CPU"),
        (run(), {"dropped": 1}, {}, "reports lost"),
        (run(), {"clock": 3.0}, {}, "clock jump"),
        (run(), {}, {"output_tokens": 8100}, "tokens reconciled"),
        (run(output_tokens=19), {}, {}, "tokens reconciled"),
        (run(asked_tokens=40), {}, {}, "answer length"),
        (run(), {}, {"cache_share": 0.3}, "cache honesty"),
        (run(), {}, {"cache_share": 0.0, "cache_intended": 0.8}, "cache honesty"),
        (run(), {}, {"warm": False}, "model warm"),
        (run() + [failed(k * 100.0) for k in range(50)], {}, {}, "errors"),
        (run() + [failed(k * 100.0, Outcome.LIMIT) for k in range(50)], {}, {}, "errors"),
    ],
)
def test_what_is_wrong_fails_its_own_gate(
    records: list[Record], client: dict[str, Any], server: dict[str, Any], gate: str
) -> None:
    found = seen(records, replace(QUIET, **client), replace(sure(records), **server))
    assert failing(found) == {gate}
    assert found[gate].word == "FAIL"


def test_some_answers_without_usage_are_noticed() -> None:
    records = run()
    records[7] = record(records[7].intended_ns / 1e6, output_tokens=None, asked_tokens=None)
    assert "1 of 400 answers have no usage" in seen(records)["tokens reconciled"].value


def test_littles_law_notices_a_window_that_cuts_the_load() -> None:
    records = [record(k * 50.0, ttft=4000.0) for k in range(200)]
    assert seen(records)["Little's law"].passed is True
    cut = gates.check(records, PEOPLE, window=(0, 9_000_000_000))
    assert next(gate for gate in cut if gate.name == "Little's law").passed is False


def test_nothing_measured_is_nothing_passed() -> None:
    found = {gate.name: gate for gate in gates.check([], PEOPLE)}
    assert {name for name, gate in found.items() if gate.passed} == set()
    assert found["completed"].word == "FAIL"
    assert "settled" in gates.no_verdict(list(found.values()))


def test_what_could_not_be_looked_at_is_no_pass() -> None:
    found = {gate.name: gate for gate in gates.check(run(), PEOPLE)}
    unknown = {name for name, gate in found.items() if gate.passed is None}
    assert unknown == {"loop lag p99", "client CPU", "reports lost", "clock jump", "cache honesty", "model warm"}
    assert {found[name].word for name in unknown} == {"n/a"}


def test_no_verdict_when_the_client_is_the_bottleneck() -> None:
    found = seen(run(), replace(QUIET, lag=0.01))
    assert gates.no_verdict(list(found.values())) == "the client was the bottleneck: loop lag p99 10.00 ms"


def test_connecting_is_not_the_clients_own_delay() -> None:
    found = seen(run(late=80.0, connect_ns=30_000_000, tls_ns=50_000_000))
    assert found["late sends"].passed


@pytest.mark.parametrize("outcome", [Outcome.ERROR, Outcome.TIMEOUT, Outcome.TRUNCATED, Outcome.LIMIT])
def test_whoever_got_no_answer_missed_everything(outcome: Outcome) -> None:
    assert slo.misses([record(), failed(outcome=outcome)], PEOPLE) == (2, {"ttft": 1, "tpot": 1})
    assert slo.missed(record(outcome=outcome), PEOPLE) == {"ttft": True, "tpot": True}


def test_objectives_are_judged_each_by_its_own_time() -> None:
    assert slo.missed(record(ttft=2001), PEOPLE) == {"ttft": True, "tpot": False}
    assert slo.missed(record(ttft=2000, itl=101), PEOPLE) == {"ttft": False, "tpot": True}
    assert slo.missed(record(ttft=300, tokens=1), PEOPLE) == {"ttft": False, "tpot": False}
    assert slo.missed(record(tokens=0), PEOPLE) == {"ttft": True, "tpot": False}


def test_what_we_stopped_is_censored_not_dropped() -> None:
    waiting = failed(outcome=Outcome.CANCELLED, after=100)
    given_up = failed(outcome=Outcome.CANCELLED, after=2500)
    talking = record(outcome=Outcome.CANCELLED, ttft=100)
    assert slo.missed(waiting, PEOPLE) == {"ttft": None, "tpot": None}
    assert slo.missed(given_up, PEOPLE)["ttft"] is True
    assert slo.missed(talking, PEOPLE) == {"ttft": False, "tpot": None}
    assert slo.missed(talking, Objectives(e2e=0.1)) == {"e2e": True}
    assert slo.misses([waiting, given_up, talking, record()], PEOPLE) == (2, {"ttft": 1, "tpot": 0})


def test_an_unknown_name_names_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"'poeple': not known; allowed: people, interactive"):
        slo.preset("poeple")
    assert slo.limits(PEOPLE) == {"ttft": 2.0, "tpot": 0.1}
