"""Results: one form with a version, the same bytes for the same records, whole files or none, no pass by accident."""

from __future__ import annotations

import csv
import io
import json
import os
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from loadtests.analysis import gates, search, slo
from loadtests.analysis.gates import Client, Server
from loadtests.analysis.metrics import Objectives
from loadtests.analysis.stats import Interval, Verdict
from loadtests.records import Outcome, Record
from loadtests.results import build, figures, schema, store
from loadtests.results.schema import Environment, Result
from loadtests.results.store import CannotRead, CannotWrite
from tests.support.records import MS, failed, record, run
from tests.unit.test_purity import imported

PEOPLE = slo.preset("people")
ENVIRONMENT = Environment(
    target="https://localhost:8443", hardware={"GPU": "none"}, versions={"gateway": "1"},
    configuration={"engine": "fake"}, seeds={"workload": 1},
)  # fmt: skip


def built(records: list[Record], **changes: Any) -> Result:
    checks = gates.check(
        records, PEOPLE, client=Client(lag=0.001, cpu=0.2, dropped=0, clock=0.0),
        server=Server(warm=True),
    )  # fmt: skip
    return build.result(
        records, PEOPLE, ENVIRONMENT,
        **{"title": "chat", "started": "2026-01-02T03:04:05Z", "checks": checks, **changes},
    )  # fmt: skip


def test_the_schema_file_is_that_of_the_models() -> None:
    assert schema.SCHEMA.read_text() == schema.text(), "run python -m loadtests.results.schema"


def test_a_result_fits_its_schema_and_comes_back(tmp_path: Path) -> None:
    made = built(run())
    jsonschema.Draft202012Validator(json.loads(schema.text())).validate(json.loads(store.to_json(made)))
    store.write(tmp_path, {"result.json": store.to_json(made)})
    assert store.read(tmp_path / "result.json") == made


def test_the_same_records_give_the_same_bytes_in_any_order() -> None:
    records = run()
    assert store.to_json(built(records)) == store.to_json(built(records[::-1]))
    assert store.to_csv(records) == store.to_csv(records[::-1])


def test_the_figures_are_those_of_the_records() -> None:
    records = [record(k * 100.0, ttft=100.0 + k, tokens=11, session=k % 10) for k in range(100)]
    whole = built(records).whole
    assert whole.metrics["ttft"].p95 == pytest.approx(0.194)
    assert whole.metrics["tpot"].p50 == pytest.approx(0.01)
    assert whole.outcomes == {"ok": 100}
    seconds = 9.9 + 0.199 + 0.1
    assert whole.requests_per_second == pytest.approx(100 / seconds, rel=1e-4)
    assert whole.tokens_per_second == pytest.approx(1100 / seconds, rel=0.01)
    assert whole.in_flight == pytest.approx(sum(200 + k for k in range(100)) / 1000 / seconds, rel=1e-3)
    assert whole.good_share == 1


def test_good_is_told_of_those_that_an_objective_is_about() -> None:
    """Embeddings beside chats: all of both are good, whichever objective is asked for."""
    records = [record(k * 100.0, **({} if k % 2 else {"tokens": 0, "asked_tokens": 0})) for k in range(100)]
    for wanted, per_second in ((PEOPLE, 5), (Objectives(ttft=2.0, e2e=1.0), 10)):
        one = figures.level("all", None, records, wanted, (0, 10_000_000_000))
        assert (one.good_share, one.goodput) == (1, per_second)


def test_how_answers_came_is_told_beside_their_times() -> None:
    """Answers of ten tokens: two in ten pieces, one in two of five tokens each, the second of them 2 s late."""
    steady = record(ttft=100, itl=20, tokens=10, late=7, connect_ns=3 * MS, tls_ns=2 * MS)
    late = record(2000, ttft=100, itl=2000, tokens=2, output_tokens=10, coalesced=1)
    one = figures.level("three", None, [steady, steady, late], PEOPLE).stream
    assert one is not None
    assert (one.piece_gap.n, one.piece_gap.p50, one.piece_gap.most) == (19, 0.02, 2.0)
    assert (one.token_gap.n, one.token_gap.p50, one.token_gap.p95, one.token_gap.most) == (23, 0.02, 0.4, 0.4)
    assert (one.stalled, one.together) == (1, pytest.approx(1 / 22, rel=0.01))
    assert (one.person_p10, one.person_p50) == (2.5, 50)
    assert one.queue.most == pytest.approx(0.002), "late by 7 ms, of which 5 are the connection's"
    assert one.connect is not None
    assert one.tls is not None
    assert (one.connect.n, one.connect.p50, one.tls.p50) == (2, 0.003, 0.002)


def test_what_came_whole_tells_nothing_of_how_it_came() -> None:
    assert figures.level("x", None, [record(tokens=1), record(tokens=0), failed()], PEOPLE).stream is None


def test_few_values_have_no_interval() -> None:
    assert built(run(50)).whole.metrics["ttft"].p95_low is None
    assert "50 values are worth" in built(run(50)).whole.metrics["ttft"].p95_why
    many = built(run(400)).whole.metrics["ttft"]
    assert many.p95_why == ""
    assert many.p95_low is not None
    assert many.p95_high is not None
    assert many.p95_low <= many.p95 <= many.p95_high


def test_timeline_and_heat_map_hold_every_request() -> None:
    made = built([*run(), failed(3000.0)])
    assert sum(moment.requests for moment in made.timeline) == 401
    assert sum(moment.missed for moment in made.timeline) == 1
    assert made.heat is not None
    assert sum(map(sum, made.heat.counts)) == 400
    assert len(made.heat.time) == len(made.heat.counts) + 1
    assert len(made.heat.ttft) == len(made.heat.counts[0]) + 1


def test_a_run_in_order_passes() -> None:
    made = built(run() + [failed(k * 900.0, Outcome.TIMEOUT) for k in range(15)])
    assert (made.verdict, made.complete) == ("pass", True), made.reason
    assert "3.6% of 415 requests missed" in made.reason


@pytest.mark.parametrize(
    ("records", "changes", "verdict", "reason"),
    [
        ([], {}, "none", "no settled load"),
        ([failed(k * 10.0) for k in range(100)], {}, "none", "no settled load"),
        (run(), {"stopped": "Ctrl-C"}, "none", "the run was stopped: Ctrl-C"),
        (run(), {"checks": ()}, "none", "no gate was looked at"),
        (run(late=100.0), {}, "none", "the client was the bottleneck: late sends p99 100.0 ms"),
        (run(itl=150.0), {}, "fail", "tpot was missed by 100.0% of 400 requests; 5% may"),
        (run() + [failed(k * 100.0, Outcome.TIMEOUT) for k in range(40)], {}, "fail", "missed by 9.1% of 440"),
        (run(output_tokens=19), {}, "fail", "the objectives held, but not the gates: tokens reconciled"),
    ],
)
def test_nothing_is_a_pass_by_accident(
    records: list[Record], changes: dict[str, Any], verdict: str, reason: str
) -> None:
    made = built(records, **changes)
    assert made.verdict == verdict
    assert reason in made.reason
    store.to_json(made)


def test_what_went_wrong_is_counted_by_its_words_without_their_numbers() -> None:
    late = [failed(k, Outcome.TIMEOUT, error=f"nothing came for {k} s") for k in range(3)]
    limited = [failed(9.0, Outcome.LIMIT, error="slow\x1b down\n")]
    made = built([*run(), *late, *limited, record(5.0, outcome=Outcome.CANCELLED)])
    assert [(one.count, one.outcome, one.said) for one in made.troubles] == [
        (3, "timeout", "nothing came for N s"), (1, "limit", "slow down"),
    ]  # fmt: skip
    assert built(run()).troubles == []


def test_a_stopped_run_is_marked() -> None:
    made = built(run(60), stopped="Ctrl-C after 12 s")
    assert (made.complete, made.stopped) == (False, "Ctrl-C after 12 s")


def test_a_search_is_kept_with_all_its_probes() -> None:
    probe = search.ProbeResult(8.0, 3, 100, {"ttft": 4}, Verdict.PASS)
    found = search.Found(search.Ending.FOUND, Interval(9.1, 8.7, 9.6), "why", (probe,), (probe, probe), "ttft")
    made = build.answer(found, search.Plan(start=1, lowest=1, highest=64, whole=True))
    assert (made.unit, made.value, made.low, made.high, made.binds) == ("users", 9.1, 8.7, 9.6, "ttft")
    assert [one.final for one in made.probes] == [False, True, True]
    assert made.probes[0].missed_share == 0.04


def test_the_table_has_a_row_for_each_request() -> None:
    records = [*run(20), failed(99.0, error="=HYPERLINK(0)"), record(5000.0, connect_ns=1_500_000, coalesced=3)]
    rows = list(csv.DictReader(io.StringIO(store.to_csv(records))))
    assert len(rows) == 22
    assert tuple(rows[0]) == store.COLUMNS
    bad = next(row for row in rows if row["outcome"] == "error")
    assert (bad["ttft_ms"], bad["error"], bad["status"]) == ("", "'=HYPERLINK(0)", "500")
    last = rows[-1]
    assert (last["connect_ms"], last["coalesced"], last["ttft_ms"]) == ("1.500", "3", "200.000")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read as a result"),
        ("[" * 100_000, "cannot be read as a result: maximum recursion depth.*; run the test again"),
        ("[]", "schema_version None; this program reads 2"),
        ('{"schema_version": 1}', "schema_version 1; this program reads 2"),
        ('{"schema_version": 2}', r"is no result of this version: \w+: Field required; run the test again"),
    ],
)
def test_a_file_that_is_no_result_is_refused_in_words(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "result.json"
    file.write_text(text)
    with pytest.raises(CannotRead, match=words):
        store.read(file)
    with pytest.raises(CannotRead, match="cannot be read"):
        store.read(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda lines: [*lines[:3], lines[3][:30]], r"line 4 is no .*it has \d cells, the header has 22: was it"),
        (lambda lines: [*lines[:3], lines[3] + ",more"], "line 4 is no request .*it has 23 cells"),
        (lambda lines: [lines[0].replace("outcome", "end"), *lines[1:]], "line 2 is no request .*it has no outcome"),
        (lambda lines: [*lines[:2], _celled(lines[2], ttft_ms="nan")], "line 3 .*ttft_ms: 'nan' is no number"),
        (lambda lines: [*lines[:2], _celled(lines[2], e2e_ms="")], "line 3 .*e2e_ms: '' is no number"),
        (lambda lines: [*lines[:2], _celled(lines[2], intended_s="1e300")], "line 3 .*intended_s: '1e300' is no"),
        (lambda lines: [*lines[:2], _celled(lines[2], output_tokens="2.5")], "output_tokens: '2.5' is no number"),
        (lambda lines: [*lines[:2], _celled(lines[2], input_tokens="9" * 5000)], "input_tokens: '9999"),
        (lambda lines: [*lines[:2], _celled(lines[2], outcome="fine")], "outcome: 'fine' is none; there are ok, limit"),
        (lambda lines: [*lines, "x" * 200_000], r"line 6 is no request .*field larger than field limit"),
        (lambda lines: lines[:1], "requests.csv has no request in it"),
        (lambda _: [], "requests.csv has no request in it"),
    ],
)  # fmt: skip
def test_a_damaged_table_is_refused_with_its_line_and_what_is_wrong(
    tmp_path: Path, damage: Callable[[list[str]], list[str]], words: str
) -> None:
    file = tmp_path / "requests.csv"
    file.write_text("\n".join(damage(store.to_csv(run(4)).splitlines())))
    with pytest.raises(CannotRead, match=words) as raised:
        store.requests(file)
    assert str(raised.value).startswith(f"{file}")
    assert "run the test again" in str(raised.value)


def _celled(line: str, **cells: str) -> str:
    """The row with these cells."""
    (row,) = csv.reader([line])
    return ",".join(cells.get(name, cell) for name, cell in zip(store.COLUMNS, row, strict=True))


def test_a_table_that_is_no_text_or_not_there_is_refused_in_words(tmp_path: Path) -> None:
    file = tmp_path / "requests.csv"
    with pytest.raises(CannotRead, match=r"requests\.csv cannot be read: No such file"):
        store.requests(file)
    file.write_bytes(b"abc\xff\xfe")
    with pytest.raises(CannotRead, match=r"requests\.csv cannot be read: byte 3 of it is no text; run the test again"):
        store.requests(file)


def test_every_request_of_a_run_comes_back_from_its_table() -> None:
    records = [*run(20), failed(99.0, error="=HYPERLINK(0)"), failed(7.0, Outcome.CANCELLED, error='two\nlines, "x"')]
    found = store.rows(store.to_csv(records), "requests.csv")
    assert found == list(csv.DictReader(io.StringIO(store.to_csv(records))))
    assert len(found) == 22


def test_a_full_disk_leaves_the_old_file_and_no_half_of_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(tmp_path, {"result.json": "old"})

    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CannotWrite, match=r"result\.json could not be written \(No space left on device\).*OUT="):
        store.write(tmp_path, {"result.json": "new", "requests.csv": ""})
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    assert (tmp_path / "result.json").read_text() == "old"


def test_a_really_full_disk(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    tmp_path.joinpath(f".result.json.{os.getpid()}.new").symlink_to("/dev/full")
    with pytest.raises(CannotWrite, match="No space left on device"):
        store.write(tmp_path, {"result.json": "new"})
    assert list(tmp_path.iterdir()) == []


def test_the_records_own_arrays_are_read_as_they_are() -> None:
    one = record(pieces_ns=array("q"), pieces_chars=array("q"), first_ns=None, last_ns=None)
    assert built([one]).whole.metrics.keys() == {"ttfo", "e2e"}


def test_what_reads_results_needs_neither_gevent_nor_locust() -> None:
    analysis = (f"loadtests.analysis.{name}" for name in ("metrics", "stats", "search", "slo", "gates"))
    rest = (f"loadtests.{name}" for name in ("records", "results.build", "results.store", "machine", "report.files"))
    assert imported(*analysis, *rest) == ({}, [])
