"""The course of a run in virtual time: what is held, for how long, and what is said of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from loadtests.analysis.gates import Server
from loadtests.generator.loads import Closed, FleetError, Held
from loadtests.records import Outcome as Ended
from loadtests.records import Record
from loadtests.report import words as sentences
from loadtests.results import build, store
from loadtests.results.schema import Environment, Result
from loadtests.runs import course as courses
from loadtests.runs import sweep, words
from loadtests.runs.course import Course, Outcome
from loadtests.runs.hold import Measured, Tally, measured
from loadtests.runs.words import Unit, Words
from tests.support.virtual import QUIET, Rate, VirtualFleet
from tests.unit.test_purity import imported

PLACE = Environment(target="https://localhost:8443", hardware={}, versions={}, configuration={}, seeds={})


def unheard(_name: str, _tally: Tally, _lasted: float, _in_flight: int) -> None:
    """Nobody listens."""


def run(
    fleet: VirtualFleet, stop_after: float = 0, told: Callable[[str, Tally, float, int], None] = unheard, **given: str
) -> tuple[Outcome, Result, list[str]]:
    """What a run with these words came to; `stop_after`: Ctrl-C after so many (virtual) seconds."""
    wanted = words.parse({f"LOAD_{name}": value for name, value in given.items()})
    lines: list[str] = []
    began = fleet.now_ns

    def stopped() -> bool:
        return bool(stop_after) and fleet.now_ns >= began + stop_after * 1e9

    def load(number: float) -> Any:
        ramp = wanted.shape is words.Shape.RAMP
        if wanted.shape is words.Shape.REPLAY:
            return Rate(8.0)
        return Closed(round(number), ramp) if wanted.unit is Unit.USERS else Rate(number, ramp)

    course = Course(
        words=wanted, fleet=fleet, load=load, seconds=wanted.seconds, answer_s=fleet.service,
        server=Server(warm=True), stopped=stopped, told=told, said=lines.append, clock=fleet.clock,
    )  # fmt: skip
    outcome = course.run()
    return outcome, concluded(outcome, wanted, "Ctrl-C" if stopped() else outcome.trouble), lines


def concluded(outcome: Outcome, wanted: Words, stopped: str = "") -> Result:
    return build.result(
        outcome.records, wanted.objectives, PLACE, title="chat", started="2026-01-02T03:04:05Z", checks=outcome.gates,
        levels=outcome.levels, found=outcome.found, stopped=stopped, window=outcome.window, label=outcome.label,
        said=outcome.said,
    )  # fmt: skip


def lasted(fleet: VirtualFleet) -> list[float]:
    return [seconds for _, _, seconds in fleet.asked]


def test_a_load_is_held_until_its_p95_is_known() -> None:
    fleet = VirtualFleet()
    outcome, result, _ = run(fleet, RATE="3", FOR="10m")
    assert result.verdict == "pass", result.reason
    assert 150 <= lasted(fleet)[0] < 590, "it stops early, but not at once"
    first = result.whole.metrics["ttft"]
    assert first.p95_low is not None
    assert first.p95_high is not None
    assert first.p95_high - first.p95_low <= 0.25 * first.p95
    assert outcome.label == "3 requests/s"
    assert result.levels == []


def test_progress_says_what_is_under_way() -> None:
    for given in ({"USERS": "6", "FOR": "20s"}, {"SEARCH": "users", "BUDGET": "10m"}):
        fleet, seen = VirtualFleet(slots=2), set[int]()
        run(fleet, told=lambda _, __, ___, now, seen=seen: seen.add(now), **given)
        assert max(seen) > 2, "two are answered, the others wait"
        assert min(seen) >= 0
        assert fleet.in_flight in seen


def test_a_load_near_the_capacity_is_held_to_its_end_and_says_why_its_p95_has_no_interval() -> None:
    fleet = VirtualFleet()
    _, result, _ = run(fleet, RATE="7.6", FOR="4m")
    assert lasted(fleet) == [240]
    first = result.whole.metrics["ttft"]
    assert first.p95_low is None
    assert first.p95_why.startswith("too short beside the memory of its queue")


def test_the_warm_up_is_cut_and_the_rest_measured() -> None:
    fleet = VirtualFleet(warm_up=4.0)
    outcome, result, _ = run(fleet, RATE="3", FOR="4m")
    assert outcome.window is not None
    cut = (outcome.window[0] - outcome.records[0].intended_ns) / 1e9
    assert 20 < cut < 40
    assert result.whole.metrics["ttft"].most < 2
    assert len(outcome.records) > result.whole.requests, "the warm-up stays in the table of requests"
    assert result.verdict == "pass", result.reason


def test_a_load_that_misses_is_a_fail_and_one_whose_queue_grows_has_no_verdict() -> None:
    slow = run(VirtualFleet(first=0.6), RATE="3", SLO="ttft=0.5", FOR="2m")[1]
    assert slow.verdict == "fail"
    assert "ttft was missed by 100.0%" in slow.reason
    grows = run(VirtualFleet(), RATE="12", FOR="2m")[1]
    assert grows.verdict == "none"
    assert "no settled load" in grows.reason


def test_levels_come_in_growing_order_and_end_where_half_of_the_requests_miss() -> None:
    fleet = VirtualFleet()
    outcome, result, lines = run(fleet, RATE="64,2,4,16", FOR="2m", SLO="ttft=1")
    assert [load for load, _, _ in fleet.asked] == [Rate(2.0), Rate(4.0), Rate(16.0)]
    assert len({seed for _, seed, _ in fleet.asked}) == 3
    assert [level.load for level in outcome.levels] == [2, 4, 16]
    assert result.verdict == "pass"
    assert result.reason.startswith("up to 4 requests/s; at 16 requests/s, ")
    assert result.reason.endswith("; 1 higher one was left out")
    assert result.whole.label == "4 requests/s"
    assert next(gate for gate in result.gates if gate.name == "steady state").value.startswith("steady from")
    assert any(line.startswith("2 requests/s: PASS, at most") for line in lines)


def test_a_sweep_whose_lowest_level_misses_is_no_pass() -> None:
    result = run(VirtualFleet(first=0.6), USERS="2,4", SLO="ttft=0.5", FOR="4m")[1]
    assert result.verdict == "fail"
    assert result.reason.startswith("at 2 users, ttft was missed by 100.0%")
    assert len(result.levels) == 1


def level(load: float, verdict: str) -> Measured:
    held = VirtualFleet().hold(Rate(2.0), 1, seconds=30)
    one = measured(f"{load:g} users", load, held, Words().objectives)
    return replace(one, said=(verdict, f"why {load:g}"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("verdicts", "verdict", "reason"),
    [
        (("pass", "pass"), "pass", "up to 2 users; 1 higher one was left out"),
        (("pass", "fail", "pass"), "pass", "up to 1 users; at 2 users, why 2"),
        (("none", "pass", "none"), "pass", "up to 2 users; at 3 users, why 3"),
        (("fail", "pass", "pass"), "fail", "at 1 users, why 1"),
        (("none", "fail", "pass"), "fail", "at 2 users, why 2"),
        (("none", "none", "none"), "none", "at 3 users, why 3"),
    ],
)
def test_levels_are_told_by_the_highest_that_held_with_none_below_it_that_failed(
    verdicts: tuple[str, ...], verdict: str, reason: str
) -> None:
    told = sweep.conclude([level(k + 1, one) for k, one in enumerate(verdicts)], 3)
    assert told.said == (verdict, reason)


def test_a_replay_lasts_as_long_as_its_log() -> None:
    fleet = VirtualFleet()
    run(fleet, REPLAY="a.log")
    assert lasted(fleet) == [120], "however early its p95 is known"


def test_too_few_answers_of_few_people_are_no_verdict_on_more_of_them() -> None:
    fleet = VirtualFleet(slots=2, service=0.5, think=3.0)
    _, result, lines = run(fleet, USERS="1,4,16", FOR="1m", SLO="ttft=0.6")
    assert result.verdict == "pass", result.reason
    assert result.reason.startswith("up to 4 users; at 16 users, ")
    assert any(
        re.fullmatch(r"1 user: \d\d answers are too few for a verdict; FOR=[6-9]m would give enough", line)
        for line in lines
    )
    alone, _, said = run(VirtualFleet(), USERS="1", FOR="1m")
    assert next(gate for gate in alone.gates if gate.name == "steady state").passed is False
    assert "too few for a verdict" in said[-1]


def test_people_think_and_ask_again() -> None:
    fleet = VirtualFleet(think=2.0)
    result = run(fleet, USERS="8", FOR="5m")[1]
    assert fleet.asked[0][0] == Closed(8)
    assert result.verdict == "pass", result.reason
    assert result.whole.requests_per_second == pytest.approx(8 / 3, rel=0.1)


def test_a_ramp_is_told_in_parts_and_settles_nowhere() -> None:
    fleet = VirtualFleet()
    outcome, result, _ = run(fleet, RATE="16", RAMP="1", FOR="5m", SLO="ttft=1")
    assert fleet.asked[0][0] == Rate(16.0, ramp=True)
    assert lasted(fleet) == [300]
    loads = [level.load for level in outcome.levels]
    assert loads == [pytest.approx(1.6 * (k + 0.5), rel=0.01) for k in range(10)]
    assert {gate.word for gate in result.gates if gate.name in {"steady state", "Little's law"}} == {"n/a"}
    assert result.verdict == "none", "nothing settles, so nothing is a pass"
    told = re.fullmatch(
        r"a ramp shows where it bends, it settles nowhere: in parts of (\d+) to (\d+) requests the objectives held "
        r"up to about (\S+) requests/s; at about (\S+) requests/s, ttft was missed by .+; hold a load for a verdict "
        r"\(RATE=(\S+)\)",
        result.reason,
    )
    assert told is not None, result.reason
    least, most, held, bent, hold = map(float, told.groups())
    counts = [level.requests for level in outcome.levels]
    assert (least, most) == (min(counts), max(counts))
    assert held == hold == loads[loads.index(bent) - 1]
    assert 3 < held < bent < 9, "eight slots of a second each"
    assert len(outcome.records) == len({one.intended_ns for one in outcome.records}), "no request counts twice"


def test_a_ramp_of_a_handful_of_requests_is_no_pass_however_good_they_were() -> None:
    outcome, result, _ = run(VirtualFleet(think=30.0), USERS="6", RAMP="1", FOR="1m")
    assert 6 <= len(outcome.records) <= 30
    assert result.whole.good_share == 1
    assert result.verdict == "none"
    assert re.search(r"in parts of 1 to \d requests the objectives held up to about 5\.7 users; ", result.reason)
    assert result.reason.endswith("; hold a load for a verdict (USERS=5)")


def test_a_ramp_that_misses_from_its_beginning_says_where_and_how() -> None:
    result = run(VirtualFleet(first=0.6), RATE="4", RAMP="1", FOR="2m", SLO="ttft=0.5")[1]
    assert result.verdict == "none"
    assert re.search(r" requests, at about 0\.2 requests/s, ttft was missed by 100\.0% of \d+ requests", result.reason)
    busy = run(VirtualFleet(client=replace(QUIET, cpu=0.9)), RATE="4", RAMP="1", FOR="2m")[1]
    assert busy.verdict == "none"
    assert "the client was the bottleneck: client CPU 90% of a core" in busy.reason


def test_a_search_finds_the_knee_that_is_known() -> None:
    fleet = VirtualFleet(slots=4, service=0.2, first=0.04, tokens=2)
    outcome, result, lines = run(fleet, SEARCH="rate", SLO="ttft=0.2", BUDGET="10m")
    assert outcome.found is not None
    assert outcome.found.ending == "found", outcome.found.why
    value = outcome.found.value
    assert value is not None
    near = [run(fleet, RATE=f"{value * by:.4g}", SLO="ttft=0.2", FOR="5m")[1].whole for by in (0.9, 1.08)]
    assert [(one.good_share or 0) >= 0.95 for one in near] == [True, False]
    assert result.verdict == "pass"
    assert result.reason == outcome.found.why
    assert len(outcome.levels) >= 5
    assert any("again" in line for line in lines)


class Retrieving(VirtualFleet):
    """Half of the requests ask for vectors, and end like this where it is said."""

    ending: Ended | None = None

    def _record(self, at: float, start: float, took: float, person: int, bad: Ended | None) -> Record:
        vectors = round(at * 1e6) % 2 == 0
        one = super()._record(at, start, took, person, bad or (self.ending if vectors else None))
        return replace(one, asked_tokens=0) if vectors else one


@pytest.mark.parametrize(
    ("ending", "verdict"), [(None, "pass"), (Ended.CANCELLED, "pass"), (Ended.ERROR, "fail"), (Ended.LIMIT, "fail")]
)
def test_a_search_whose_vectors_fail_is_no_pass_though_no_objective_is_about_them(
    ending: Ended | None, verdict: str
) -> None:
    fleet = Retrieving(slots=2, service=0.5, think=3.0, tokens=2)
    fleet.ending = ending
    outcome, result, _ = run(fleet, SEARCH="users", SLO="ttft=0.5", BUDGET="30m")
    assert outcome.found is not None
    assert outcome.found.ending == "found", outcome.found.why
    assert result.verdict == verdict, result.reason
    failed = "did not hold: errors, of requests that no objective is about" in result.reason
    assert failed is (verdict == "fail")


def test_a_search_for_people_counts_whole_ones() -> None:
    fleet = VirtualFleet(slots=2, service=0.5, think=3.0, tokens=2)
    outcome, _, _ = run(fleet, SEARCH="users", SLO="ttft=0.5", BUDGET="1h")
    assert outcome.found is not None
    assert outcome.found.ending == "found", outcome.found.why
    assert all(isinstance(load, Closed) for load, _, _ in fleet.asked)
    assert outcome.found.unit == "users"


def test_a_search_ends_with_its_budget() -> None:
    fleet = VirtualFleet()
    began = fleet.now_ns
    outcome, result, _ = run(fleet, SEARCH="rate", SLO="ttft=1", BUDGET="60s")
    assert (fleet.now_ns - began) / 1e9 < 75
    assert outcome.found is not None
    if outcome.found.ending != "found":
        assert result.verdict == "none"
        assert result.reason.startswith("the 60 s were over: ")
    else:
        assert outcome.found.caution.startswith("the 60 s were over, before all repetitions were done")


def test_probes_are_long_enough_for_a_queue_to_grow() -> None:
    fleet = VirtualFleet()
    run(fleet, SEARCH="rate", SLO="ttft=2", BUDGET="3m")
    assert min(lasted(fleet)) >= 2, "however clear it is"
    never = {load.rate for load, _, seconds in fleet.asked if isinstance(load, Rate) and seconds < 14}
    assert all(rate > 8 for rate in never), "only those that fail end before two thirds of that"
    _, _, lines = run(VirtualFleet(), SEARCH="rate", SLO="ttft=2", BUDGET="3m")
    assert any("a probe takes at least 20 s here" in line and "(BUDGET=7m)" in line for line in lines)


def test_objectives_that_can_never_hold_are_said_so() -> None:
    outcome, result, _ = run(VirtualFleet(first=0.6), SEARCH="users", SLO="ttft=0.1", BUDGET="15m")
    assert outcome.found is not None
    assert outcome.found.ending == "none"
    assert result.verdict == "fail"
    assert "even at 1, the lowest load: no load keeps it" in result.reason


def test_a_client_that_is_the_bottleneck_ends_a_search_without_a_number() -> None:
    fleet = VirtualFleet(client=replace(QUIET, cpu=0.9))
    outcome, result, _ = run(fleet, SEARCH="users", BUDGET="15m")
    assert len(fleet.asked) == 3, "tried again twice"
    assert result.verdict == "none"
    assert "the client was the bottleneck: client CPU 90% of a core" in result.reason
    assert outcome.found is not None
    assert outcome.found.value is None


@pytest.mark.parametrize("ended", [Ended.LIMIT, Ended.ERROR, Ended.TIMEOUT, Ended.TRUNCATED])
@pytest.mark.parametrize("given", [{"USERS": "4"}, {"RATE": "2,4"}, {"SEARCH": "users"}, {"RATE": "4", "RAMP": "1"}])
def test_a_server_that_answers_nobody_is_never_a_pass(ended: Ended, given: dict[str, str]) -> None:
    result = run(VirtualFleet(refuse=lambda _: ended), **given)[1]
    assert result.verdict in {"fail", "none"}
    assert result.whole.outcomes == {ended.value: result.whole.requests}
    assert next(gate for gate in result.gates if gate.name == "completed").word == "FAIL"
    assert next(gate for gate in result.gates if gate.name == "errors").word == "FAIL"


@pytest.mark.parametrize(
    "given", [{"USERS": "4"}, {"RATE": "2,4"}, {"SEARCH": "users"}, {"SEARCH": "rate"}, {"RATE": "4", "RAMP": "1"}]
)
@pytest.mark.parametrize("after", [0.4, 20, 70])
def test_a_run_that_is_stopped_reports_what_there_is_and_passes_never(given: dict[str, str], after: float) -> None:
    fleet = VirtualFleet()
    _, result, _ = run(fleet, stop_after=after, **given)
    assert (result.verdict, result.complete) == ("none", False)
    assert fleet.now_ns / 1e9 < after + 5, "it ends at once"
    assert result.stopped == "Ctrl-C"
    store.to_json(result)


class Broken(VirtualFleet):
    """Its workers are gone after so many loads."""

    left = 1

    def hold(self, load: object, seed: int, **more: Any) -> Held:
        self.left -= 1
        if self.left < 0:
            raise FleetError("the workers are not there any more")
        return super().hold(load, seed, **more)


@pytest.mark.parametrize("given", [{"RATE": "2,4"}, {"SEARCH": "rate"}])
def test_what_was_seen_before_the_workers_were_gone_is_reported_and_no_pass(given: dict[str, str]) -> None:
    outcome, result, _ = run(Broken(), **given)
    assert outcome.trouble == "the workers are not there any more"
    assert outcome.records
    assert (result.verdict, result.complete) == ("none", False)
    assert result.stopped == outcome.trouble


@pytest.mark.parametrize("given", [{"RATE": "2"}, {"RATE": "2,4"}, {"SEARCH": "rate"}, {"RATE": "2", "RAMP": "1"}])
def test_without_workers_there_is_no_run(given: dict[str, str]) -> None:
    fleet = Broken()
    fleet.left = 0
    with pytest.raises(FleetError, match="the workers are not there"):
        run(fleet, **given)


@pytest.mark.parametrize(
    ("changes", "words"), [({"clock": 3.0}, "clock jump 3.00 s"), ({"dropped": 2}, "reports lost 2")]
)
def test_a_clock_that_jumps_and_reports_that_are_lost_leave_no_verdict(changes: dict[str, Any], words: str) -> None:
    for given in ({"RATE": "4", "FOR": "1m"}, {"RATE": "2,4", "FOR": "1m"}, {"SEARCH": "rate"}):
        result = run(VirtualFleet(client=replace(QUIET, **changes)), **given)[1]
        assert result.verdict == "none"
        assert f"the client was the bottleneck: {words}" in result.reason


@pytest.mark.parametrize(
    ("given", "headline"),
    [
        ({"RATE": "1", "FOR": "10m", "SLO": "ttft=0.5"}, "The objectives held, but not the gates: tokens reconciled."),
        (
            {"RATE": "0.5,1", "FOR": "10m", "SLO": "ttft=0.5"},
            "The objectives held up to 1 requests/s; but these gates did not hold: tokens reconciled.",
        ),
        (
            {"SEARCH": "users", "BUDGET": "1h", "SLO": "ttft=0.5"},
            "; ttft binds; but these gates did not hold: tokens reconciled.",
        ),
    ],
)
def test_whatever_was_said_before_there_is_no_pass_where_the_servers_tokens_are_others(
    given: dict[str, str], headline: str
) -> None:
    outcome, before, _ = run(VirtualFleet(slots=2, service=0.5, think=3.0, tokens=2), **given)
    assert before.verdict == "pass", before.reason
    wanted = words.parse({f"LOAD_{name}": value for name, value in given.items()})
    arrived = sum(one.output_tokens or 0 for one in outcome.records)
    agreed = concluded(courses.reconciled(outcome, arrived), wanted)
    assert (agreed.verdict, agreed.reason) == ("pass", before.reason)
    assert next(gate for gate in agreed.gates if gate.name == "tokens reconciled").value.endswith("counter agrees")
    other = concluded(courses.reconciled(outcome, 2 * arrived), wanted)
    assert other.verdict == "fail"
    assert next(gate for gate in other.gates if gate.name == "tokens reconciled").word == "FAIL"
    assert sentences.headline(other).endswith(headline)


def test_what_was_no_pass_before_the_tokens_were_counted_keeps_its_reason() -> None:
    outcome, before, _ = run(VirtualFleet(first=0.6), USERS="2,4", SLO="ttft=0.5", FOR="4m")
    assert before.verdict == "fail"
    assert courses.reconciled(outcome, 1).said == outcome.said


def test_without_words_of_the_server_its_gates_are_not_known() -> None:
    course = Course(words=Words(), fleet=VirtualFleet(), load=lambda n: Closed(round(n)), seconds=10)
    assert course.server == Server()


def test_the_course_of_a_run_knows_neither_locust_nor_the_network() -> None:
    assert imported("loadtests.runs.course", "loadtests.runs.progress") == ({}, [])


@pytest.mark.parametrize(("seconds", "moments"), [(100, (40.0,)), (100, tuple(float(k) for k in range(10, 26)))])
def test_of_few_answers_all_are_told_by_the_time_there_was_for_them(seconds: int, moments: tuple[float, ...]) -> None:
    began, second = 7_000_000_000, 1_000_000_000
    records = VirtualFleet().hold(Rate(2.0), 1, seconds=20).records[: len(moments)]
    moved = [
        replace(one, intended_ns=began + round(at * second), done_ns=began + round((at + 60) * second))
        for one, at in zip(records, moments, strict=True)
    ]
    held = Held(records=tuple(moved), began_ns=began, ended_ns=began + seconds * second, client=QUIET)
    one = measured("few", 1.0, held, words.parse({}).objectives)
    assert one.window == (held.began_ns, held.ended_ns)
    assert one.level.requests == len(moments)
    assert next(gate for gate in one.gates if gate.name == "completed").value == f"{len(moments)} of {len(moments)}"
