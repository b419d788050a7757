"""Reports of workers: what was seen arrives whole, once, and what is missing is known."""

from __future__ import annotations

import random
import time
from array import array
from typing import Any

import pytest

from loadtests.generator.recorder import BLOCK, Collector, Recorder, Report, pack, shifted, unpack
from loadtests.records import Outcome
from tests.support.records import failed, record, run


class FixedLags:
    """A fake probe."""

    def quantile(self, share: float) -> int:
        assert share == 0.99
        return 1_500_000


@pytest.fixture
def sent() -> list[Report]:
    return []


def recorder(sent: list[Report], worker: int = 0, **more: Any) -> Recorder:
    return Recorder("7", worker, sent.append, FixedLags(), **more)


def collected(reports: list[Report], workers: int = 1) -> Collector:
    collector = Collector("7", range(workers))
    for one in reports:
        collector.take(one)
    return collector


def test_records_are_the_same_on_the_other_side() -> None:
    records = [
        record(3.5, tokens=200, itl=0.001),
        failed(outcome=Outcome.TIMEOUT, error="nöthing came"),
        record(tokens=0, connect_ns=5, tls_ns=None, visible_ns=None, status=None),
        record(pieces_ns=array("q", [2**62, -1]), session=2**40),
    ]
    assert unpack(pack(records)) == records
    assert unpack(pack([])) == []


def test_everything_arrives_once_in_reports_of_a_bearable_size(sent: list[Report]) -> None:
    one, records, pauses = recorder(sent), run(3 * BLOCK + 1), 0

    def pause() -> None:
        nonlocal pauses
        pauses += 1

    for each in records:
        one.keep(each)
    one.ship(pause)
    one.finish()
    assert [len(unpack(report["records"])) for report in sent] == [BLOCK, BLOCK, BLOCK, 1, 0]
    assert pauses == 3
    collector = collected(sent)
    assert collector.records == records
    assert (collector.complete, collector.dropped) == (True, 0)


def test_a_report_that_comes_twice_counts_once(sent: list[Report]) -> None:
    one = recorder(sent)
    one.keep(record())
    one.finish()
    collector = collected([*sent, *sent])
    assert (len(collector.records), collector.dropped) == (1, 0)


@pytest.mark.parametrize("missing", range(4))
def test_a_report_that_never_came_is_known(sent: list[Report], missing: int) -> None:
    one = recorder(sent)
    for _ in range(3):
        one.keep(record())
        one.ship()
    one.finish()
    assert len(sent) == 4
    collector = collected([report for report in sent if report["number"] != missing])
    assert collector.dropped == 1
    assert collector.client().dropped == 1
    assert collector.complete is (missing != 3)


def test_a_worker_that_never_said_anything_is_known(sent: list[Report]) -> None:
    recorder(sent).finish()
    collector = collected(sent, workers=2)
    assert (collector.complete, collector.dropped) == (False, 1)


def test_workers_do_not_mix(sent: list[Report]) -> None:
    for worker in (0, 1, 2):
        one = recorder(sent, worker)
        for each in run(40, seed=worker, worker=worker):
            one.keep(each)
        one.finish()
    random.Random(4).shuffle(sent)
    collector = collected(sent, workers=3)
    assert (len(collector.records), collector.dropped, collector.complete) == (120, 0, True)


def test_a_report_of_another_load_is_left_alone(sent: list[Report]) -> None:
    one = recorder(sent)
    one.keep(record())
    one.finish()
    assert collected([report | {"run": "6"} for report in sent]).records == []


def test_the_worst_worker_speaks_for_all(sent: list[Report]) -> None:
    for worker in (0, 1):
        recorder(sent, worker).finish()
    low, high = sent
    low |= {"lag_ns": 100, "cpu": 0.7, "clock_ns": -2_000_000_000}
    high |= {"lag_ns": 3_000_000, "cpu": 0.2, "clock_ns": 5}
    client = collected(sent, workers=2).client()
    assert (client.lag, client.cpu, client.clock) == (0.003, 0.7, 2.0)


def test_a_worker_measures_its_own_time(sent: list[Report], monkeypatch: pytest.MonkeyPatch) -> None:
    one = recorder(sent)
    began, cpu, wall = time.monotonic_ns(), time.process_time_ns(), time.time_ns()
    monkeypatch.setattr(time, "monotonic_ns", lambda: began + 10**10)
    monkeypatch.setattr(time, "process_time_ns", lambda: cpu + 10**9)
    monkeypatch.setattr(time, "time_ns", lambda: wall + 13 * 10**9)
    one.finish()
    assert sent[-1]["cpu"] == pytest.approx(0.1, rel=0.1)
    assert sent[-1]["clock_ns"] == pytest.approx(3e9, rel=0.01), "somebody set the clock by three seconds"
    assert sent[-1]["lag_ns"] == 1_500_000
    one.restart()
    one.finish()
    assert (sent[-1]["cpu"], sent[-1]["clock_ns"]) == (0, 0), "what was before the start does not count"


def test_what_is_under_way_is_known_from_the_latest_report_of_each_worker(sent: list[Report]) -> None:
    running = {0: 0, 1: 5}
    workers = [recorder(sent, number, in_flight=lambda number=number: running[number]) for number in running]
    for one in workers:
        one.ship()
    assert collected(sent, workers=2).in_flight == 5
    running[0], running[1] = 3, 1
    for one in workers:
        one.ship()
    assert collected(sent, workers=2).in_flight == 4


def test_the_first_reason_to_give_up_is_told(sent: list[Report]) -> None:
    one = recorder(sent)
    one.failed("no such page")
    one.failed("and then this")
    one.ship()
    assert collected(sent).trouble == "no such page"


def test_what_has_settled_is_known_from_the_slowest_worker(sent: list[Report]) -> None:
    oldest = {0: 50, 1: 70}
    for worker in (0, 1):
        recorder(sent, worker, oldest=lambda worker=worker: oldest[worker]).ship()
    assert collected(sent[:1], workers=2).settled_ns == 0, "the other has not spoken yet"
    assert collected(sent, workers=2).settled_ns == 50


def test_nothing_has_settled_beyond_records_that_still_wait(sent: list[Report]) -> None:
    one = recorder(sent, oldest=lambda: 99)
    for each in run(BLOCK + 1):
        one.keep(each)
    one.ship()
    assert [report["oldest_ns"] for report in sent] == [0, 99]


def test_the_clock_of_another_machine_is_told_by_ours(sent: list[Report]) -> None:
    ahead = 10**15
    local = [record(at, connect_ns=7, tls_ns=9, visible_ns=None) for at in (1.0, 2.0)]
    one = recorder(sent, worker=1, oldest=lambda: ahead + 5)
    for each in local:
        one.keep(shifted(each, -ahead))
    one.ship()
    one.finish()
    collector = Collector("7", [1], {1: ahead})
    for report in sent:
        collector.take(report)
    assert collector.records == local
    assert collector.settled_ns == 5
