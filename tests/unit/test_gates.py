"""Gates and objectives: a run that is in order passes, and each thing that may be wrong is noticed by its own gate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from loadtests.analysis import gates, metrics, slo
from loadtests.analysis.gates import Client, Gate, Server
from loadtests.analysis.metrics import Objectives
from loadtests.records import Outcome, Record
from loadtests.workload.profiles import PROFILES, Profile
from tests.support.records import failed, record, run

PEOPLE = slo.preset("people")
QUIET = Client(lag=0.0008, cpu=0.3, dropped=0, clock=0.0)


def sure(records: list[Record]) -> Server:
    return Server(output_tokens=sum(one.output_tokens or 0 for one in records), warm=True)


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
        (run(), {"lag": 0.0105}, {}, "loop lag p99"),
        (run(), {"cpu": 0.61}, {}, "client CPU"),
        (run(), {"dropped": 1}, {}, "reports lost"),
        (run(), {"clock": 3.0}, {}, "clock jump"),
        (run(), {}, {"output_tokens": 8100}, "tokens reconciled"),
        (run(output_tokens=19), {}, {}, "tokens reconciled"),
        (run(asked_tokens=40), {}, {}, "answer length"),
        (run(input_tokens=1000, cached_tokens=300, turn=0), {}, {}, "cache honesty"),
        (run(input_tokens=1000, cached_tokens=0), {}, {"shared_prefix": 800}, "cache honesty"),
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


def test_more_tokens_than_characters_cannot_have_arrived() -> None:
    """Ten times the usage passed, and with it ten times the tokens a second."""
    told = seen(run(output_tokens=200))["tokens reconciled"]
    assert told.passed is False
    assert "48000 characters arrived, usage says 80000 tokens" in told.value
    several = [record(k * 50.0, tokens=5, output_tokens=20, asked_tokens=20, session=k) for k in range(100)]
    assert seen(several)["tokens reconciled"].passed is True, "pieces of four tokens each"
    short = [record(k * 50.0, tokens=1, output_tokens=12, asked_tokens=12, session=k) for k in range(100)]
    assert seen(short)["tokens reconciled"].passed is True, "marks without text"


def test_answers_that_were_given_up_are_in_both_sums_of_tokens() -> None:
    records = [*run(), record(99.0, tokens=500, outcome=Outcome.CANCELLED, output_tokens=None)]
    agreed = gates.tokens(records, Server(output_tokens=400 * 20 + 500))
    assert agreed.passed is True
    assert gates.tokens(records, Server(output_tokens=400 * 20)).passed is False


def test_littles_law_notices_a_window_that_cuts_the_load() -> None:
    records = [record(k * 50.0, ttft=4000.0) for k in range(200)]
    assert seen(records)["Little's law"].passed is True
    cut = gates.check(records, PEOPLE, window=(0, 9_000_000_000))
    assert next(gate for gate in cut if gate.name == "Little's law").passed is False


def test_littles_law_allows_what_few_answers_do_over_the_edges() -> None:
    """Two people, answers of ten seconds, two minutes: one answer more or less in the window is no lost record."""
    records = [record(k * 6_000.0 + 700 * (k % 3), ttft=10_000.0) for k in range(24)]
    window = (records[3].intended_ns, records[-1].intended_ns + 1)
    gate = gates.little(records, window)
    assert gate.passed is True
    assert gate.value == "off by 3.8%"
    assert "over the edges" in gate.limit


def test_the_warm_up_before_the_window_is_seen_by_the_gate() -> None:
    cold = [*run(40, ttft=5000.0), *run()[40:]]
    cold.sort(key=lambda one: one.intended_ns)
    window = (cold[40].intended_ns, cold[-1].intended_ns + 1)
    found = {gate.name: gate for gate in gates.check(cold, PEOPLE, window=window)}
    assert found["steady state"].passed is True
    assert found["steady state"].value.startswith("steady from value 45 of 400")


def test_parts_of_a_run_are_judged_together() -> None:
    good, bad = (gates.check(run(late=late), PEOPLE, client=QUIET) for late in (0.0, 30.0))
    assert [gate.word for gate in gates.merge([("1 user", good)])] == [gate.word for gate in good]
    merged = {gate.name: gate for gate in gates.merge([("1 user", good), ("2 users", bad), ("4 users", bad)])}
    assert merged["late sends"].passed is False
    assert merged["late sends"].value == "not in 2 of 3; 4 users: p99 30.0 ms"
    assert merged["steady state"].passed is True
    assert merged["steady state"].value.startswith("all 3; 4 users: steady from value")
    assert merged["model warm"].passed is None, "what one part could not look at is not known"


def test_most_repetitions_must_stand_still_and_all_must_keep_what_is_the_clients() -> None:
    calm, moving = gates.check(run(), PEOPLE, client=QUIET), gates.check(drifting(), PEOPLE, client=QUIET)
    few, many = ([("a", calm)] * 4 + [("b", moving)], [("a", calm)] * 2 + [("b", moving)] * 2)
    word = {len(one): next(g for g in gates.merge(one, 0.75) if g.name == "steady state") for one in (few, many)}
    assert word[5].passed is True
    assert word[5].value.startswith("not in 1 of 5")
    assert word[4].passed is False
    busy = gates.check(run(), PEOPLE, client=replace(QUIET, cpu=0.9))
    assert gates.no_verdict(gates.merge([("a", calm)] * 9 + [("b", busy)], 0.75)).startswith("the client was")


def test_nothing_measured_is_nothing_passed() -> None:
    found = {gate.name: gate for gate in gates.check([], PEOPLE)}
    assert {name for name, gate in found.items() if gate.passed} == set()
    assert found["completed"].word == "FAIL"
    assert "settled" in gates.no_verdict(list(found.values()))


def test_what_could_not_be_looked_at_is_no_pass() -> None:
    found = {gate.name: gate for gate in gates.check(run(), PEOPLE)}
    unknown = {name for name, gate in found.items() if gate.passed is None}
    assert unknown == {"loop lag p99", "client CPU", "reports lost", "clock jump", "model warm"}
    assert {found[name].word for name in unknown} == {"n/a"}


def test_no_verdict_when_the_client_is_the_bottleneck() -> None:
    found = seen(run(), replace(QUIET, lag=0.02))
    assert gates.no_verdict(list(found.values())) == "the client was the bottleneck: loop lag p99 20.00 ms"


def test_lag_is_judged_beside_the_objective_and_strictly_without_one() -> None:
    lagging = replace(QUIET, lag=0.009)
    limits = {ttft: gates.lag(lagging, Objectives(ttft=ttft)) for ttft in (2.0, 0.5, None)}
    assert [gate.passed for gate in limits.values()] == [True, False, False]
    assert [gate.limit for gate in limits.values()] == ["at most 10.00 ms", "at most 2.50 ms", "at most 2.00 ms"]


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
    assert slo.missed(record(tokens=0, asked_tokens=20), PEOPLE) == {"ttft": True, "tpot": False}


def test_what_asked_for_no_text_is_judged_by_its_whole_time_alone() -> None:
    """Embeddings and uploads in a run of chats: no token of theirs is late."""
    vectors = record(tokens=0, ttft=3000, asked_tokens=0)
    assert slo.misses([vectors, record()], PEOPLE) == (1, {"ttft": 0, "tpot": 0})
    assert slo.misses([vectors, record()], Objectives(e2e=1.0)) == (2, {"e2e": 1})
    broken = record(tokens=0, asked_tokens=0, outcome=Outcome.ERROR)
    assert slo.misses([broken, record()], PEOPLE) == (1, {"ttft": 0, "tpot": 0}), "as one that came"
    assert slo.misses([broken], Objectives(e2e=1.0)) == (1, {"e2e": 1})
    stopped = record(tokens=0, ttft=3000, asked_tokens=0, outcome=Outcome.CANCELLED)
    assert slo.misses([stopped], PEOPLE) == (0, {"ttft": 0, "tpot": 0})


def vectors(count: int, **changes: Any) -> list[Record]:
    return [record(k * 100.0, **{"tokens": 0, "ttft": 90.0, "asked_tokens": 0, **changes}) for k in range(count)]


def test_the_share_of_what_asked_for_no_text_is_of_all_of_it() -> None:
    both = Objectives(ttft=2.0, e2e=1.0)
    slow = vectors(1, ttft=3000.0)
    assert slo.misses(vectors(99), both) == (99, {"ttft": 0, "e2e": 0})
    assert slo.misses(vectors(99) + slow, both) == (100, {"ttft": 0, "e2e": 1})
    broken = vectors(1, outcome=Outcome.LIMIT)
    assert slo.misses(vectors(98) + slow + broken, both) == (100, {"ttft": 0, "e2e": 2})
    assert slo.misses([*vectors(1), record(ttft=2500.0)], both) == (2, {"ttft": 1, "e2e": 1})
    waiting, given_up = (vectors(1, ttft=after, outcome=Outcome.CANCELLED) for after in (900.0, 1100.0))
    assert slo.misses(waiting + given_up, both) == (1, {"ttft": 0, "e2e": 1})


def test_failures_that_no_objective_is_about_are_errors_of_all_requests_and_no_miss() -> None:
    chats = run(95)
    few, many = (gates.errors(chats + vectors(5 + n) + vectors(n, outcome=Outcome.ERROR), PEOPLE, 0.05) for n in (5, 6))
    assert (few.passed, few.value) == (True, "5 failed, 0 hit a limit, of 110; no objective is about 5 of them")
    assert (many.passed, many.value[:8]) == (False, "6 failed")
    told = gates.errors([*chats, failed(), *vectors(4)], PEOPLE, 0.05)
    assert told.value == "1 failed, 0 hit a limit, of 100; all counted as misses"


def test_what_we_stopped_is_censored_not_dropped() -> None:
    waiting = failed(outcome=Outcome.CANCELLED, after=100)
    given_up = failed(outcome=Outcome.CANCELLED, after=2500)
    talking = record(outcome=Outcome.CANCELLED, ttft=100)
    assert slo.missed(waiting, PEOPLE) == {"ttft": None, "tpot": None}
    assert slo.missed(given_up, PEOPLE)["ttft"] is True
    assert slo.missed(talking, PEOPLE) == {"ttft": False, "tpot": None}
    assert slo.missed(talking, Objectives(e2e=0.1)) == {"e2e": True}
    assert slo.misses([waiting, given_up, talking, record()], PEOPLE) == (2, {"ttft": 1, "tpot": 0})


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES.keys())
def test_whoever_names_no_objectives_has_some_that_are_about_the_requests(profile: Profile) -> None:
    one = record(asked_tokens=round(profile.output.mean))
    assert metrics.judged(one, slo.preset(slo.usual(profile.scenario)))
    assert (slo.usual(profile.scenario) == "people") is (profile.output.mean > 0)


def test_an_unknown_name_names_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"'poeple': not known; allowed: people, interactive"):
        slo.preset("poeple")
    assert slo.limits(PEOPLE) == {"ttft": 2.0, "tpot": 0.1}


def talks(share: float, turns: int = 3) -> list[Record]:
    """Conversations whose prompts grow by 500 tokens a turn; so much of what was there before was kept."""
    return [
        record(2000.0 * k, session=k // turns, turn=(turn := k % turns), input_tokens=500 * (turn + 1),
               output_tokens=20, cached_tokens=round(share * 500 * turn))
        for k in range(60)
    ]  # fmt: skip


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_what_a_conversation_has_said_already_may_be_kept(share: float) -> None:
    gate = gates.cache(talks(share), talks(share), Server())
    assert (gate.passed, gate.value.split()[0]) == (True, f"{share * 1500 / 3000:.1%}")
    alone = [replace(one, session=k) for k, one in enumerate(talks(share))]
    assert gates.cache(alone, alone, Server()).passed is (share == 0)


def test_a_template_s_own_beginning_is_no_dishonesty_and_what_engines_leave_out_is_none() -> None:
    kept = run(input_tokens=1000, cached_tokens=60, turn=0)
    assert gates.cache(kept, kept, Server()).passed is True
    # vLLM says nothing where nothing was cached: then the others count as zero.
    mostly = [replace(one, cached_tokens=None if k % 4 else 900) for k, one in enumerate(kept)]
    assert gates.cache(mostly, mostly, Server()).value.startswith("22.5%")
    silent = [replace(one, cached_tokens=None) for one in kept]
    assert gates.cache(silent, silent, Server()).passed is None


def test_what_all_share_on_purpose_must_be_there_and_no_more() -> None:
    for cached, held in ((780, True), (830, True), (700, False), (950, False)):
        records = run(input_tokens=1000, cached_tokens=cached, turn=0)
        assert gates.cache(records, records, Server(shared_prefix=800)).passed is held


def test_littles_law_of_a_few_answers_says_nothing() -> None:
    # One answer that began before the window and one within: 100% off is what chance does to two.
    records = [record(0, ttft=5000.0), record(4000, ttft=5000.0)]
    gate = gates.little(records, (3_000_000_000, 5_000_000_000))
    assert (gate.word, gate.value[:16]) == ("n/a", "too few answers:")


def test_answers_outside_of_the_measured_part_are_told() -> None:
    done, cut = [record(k * 100.0) for k in range(16)], [failed(3000.0 + k) for k in range(45)]
    found = gates.check(done + cut, PEOPLE, window=(2_900_000_000, 4_000_000_000))
    gate = next(one for one in found if one.name == "completed")
    assert (gate.word, gate.value) == ("FAIL", "0 of 45 in the measured part; 16 before or behind it")
