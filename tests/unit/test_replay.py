"""Logs and traces as loads: what is taken, what is left out, and what is said of lines that make no sense."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.workload import arrivals, profiles, replay
from loadtests.workload.arrivals import Arrivals
from loadtests.workload.replay import Arrival

LINE = {
    "level": "info", "ts": 1000.5, "logger": "http.log.access.access", "msg": "handled request",
    "request": {"method": "POST", "uri": "/v1/chat/completions"}, "status": 200, "consumer": "ann", "model": "default",
    "operation": "chat", "stream": True, "duration_ms": 500.0, "input_tokens": 30, "output_tokens": 12,
}  # fmt: skip


def line(**changes: Any) -> str:
    return json.dumps({key: value for key, value in (LINE | changes).items() if value is not None})


def gathered(*lines: str) -> replay.Log:
    return replay.gather(lines, "access.log")


def refused(lines: Iterable[str]) -> str:
    with pytest.raises(ValueError) as raised:  # noqa: PT011  (the callers look at its words)
        replay.gather(lines, "access.log")
    return str(raised.value)


def test_a_request_came_before_its_line_was_written() -> None:
    """A line is written when the answer has ended; long answers would come too late otherwise."""
    log = gathered(
        line(ts=1000.5, duration_ms=500), line(ts=1001.0, duration_ms=100), line(ts=1003.0, duration_ms=2950)
    )
    assert [round(one.at_s, 6) for one in log.arrivals] == [0, 0.05, 0.9]


def test_kinds_and_lengths_are_taken_and_what_is_not_known_stays_open() -> None:
    log = gathered(
        line(),
        line(operation="embeddings", input_tokens=200, output_tokens=0),
        line(operation="text_completion", input_tokens=None, output_tokens=None, status=502),
    )
    assert sorted((one.operation, one.input_tokens, one.output_tokens) for one in log.arrivals[:1]) == [
        ("chat", 30, 12)
    ]
    assert {(one.operation, one.input_tokens, one.output_tokens) for one in log.arrivals} == {
        ("chat", 30, 12), ("embeddings", 200, None), ("text_completion", None, None)
    }  # fmt: skip


def test_pages_refusals_load_tests_and_the_gateways_own_words_are_no_requests() -> None:
    log = gathered(
        line(), line(status=499), line(status=500), line(status=401), line(status=429), line(operation="show"),
        line(operation=None), line(consumer="load"), json.dumps({"level": "info", "ts": 1, "msg": "serving"}),
    )  # fmt: skip
    assert (len(log.arrivals), log.others, log.lost, log.said) == (3, 6, 0, "")


def test_what_docker_puts_before_a_line_does_no_harm() -> None:
    assert gathered("dev-gateway  | 2026-01-02T03:04:05Z " + line(), "", "  ").arrivals[0].input_tokens == 30


def test_a_trace_may_be_a_table_or_lines_of_json() -> None:
    wanted = (Arrival(0, "chat", 10, 5), Arrival(1.5, "embeddings", 20, None))
    assert gathered("at_s,operation,input_tokens,output_tokens", "7,chat,10,5", "8.5,embeddings,20,").arrivals == wanted
    rows = [{"at_s": 8.5, "operation": "embeddings", "input_tokens": 20}, {"at_s": 7, "input_tokens": 10} | OUT]
    assert gathered(*map(json.dumps, rows)).arrivals == wanted


OUT = {"output_tokens": 5}


def test_public_traces_are_read_as_they_are() -> None:
    wanted = [(0, 374, 44), (4.314542, 396, 109)]
    azure = (
        "TIMESTAMP,ContextTokens,GeneratedTokens", "2023-11-16 18:15:46.6805900,374,44",
        "2023-11-16 18:15:50.9951320,396,109",
    )  # fmt: skip
    burst = ("Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type", "5,ChatGPT,374,44,418,API log",
             "9.314542,GPT-4,396,109,505,Conversation log")  # fmt: skip
    mooncake = [
        json.dumps({"timestamp": at, "input_length": asked, "output_length": told, "hash_ids": [0, 1]})
        for at, asked, told in ((1000, 374, 44), (5314.542, 396, 109))
    ]
    for lines in (azure, burst, mooncake):
        found = [(one.at_s, one.input_tokens, one.output_tokens) for one in gathered(*lines).arrivals]
        assert [value for row in found for value in row] == pytest.approx([value for row in wanted for value in row])


def test_lines_come_in_any_order_and_leave_in_that_of_time() -> None:
    log = gathered("at_s,input_tokens", "9,3", "2,1", "5,2")
    assert [(one.at_s, one.input_tokens) for one in log.arrivals] == [(0, 1), (3, 2), (7, 3)]


def test_speed_moves_the_moments_alone() -> None:
    log = gathered("at_s,input_tokens", "0,3", "6,1")
    assert [one.at_s for one in log.at(3)] == [0, 2]
    assert [one.input_tokens for one in log.at(3)] == [3, 1]
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"SPEED=.*must be above 0"):
            log.at(wrong)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 100_000)), min_size=1, max_size=50))
def test_nothing_of_a_trace_is_lost(rows: list[tuple[float, int]]) -> None:
    log = gathered("at_s,input_tokens", *(f"{at!r},{tokens}" for at, tokens in rows))
    assert sorted(one.input_tokens or 0 for one in log.arrivals) == sorted(tokens for _, tokens in rows)
    began = min(at for at, _ in rows)
    assert [one.at_s for one in log.arrivals] == pytest.approx(sorted(at - began for at, _ in rows))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ('{"operation": "chat", "status": 2', "line 2: it is no JSON object"),
        ("half a line", "line 2: it is no JSON object"),
        (line(ts=None), "line 2: it has no ts"),
        (line(ts="NaN"), "line 2: ts: 'NaN' is no number"),
        (line(input_tokens=-3), "line 2: input_tokens: -3 is no number of tokens"),
        (line(input_tokens=2.5), "line 2: input_tokens: 2.5 is no number of tokens"),
        (line(input_tokens=True), "line 2: input_tokens: 'True' is no number"),
        (json.dumps({"at_s": "noon"}), "line 2: at_s: 'noon' is no moment"),
        (json.dumps({"at_s": None}), "line 2: at_s: 'None' is no moment"),
        (json.dumps({"at_s": 1, "operation": "paint"}), "operation: 'paint' is not known; allowed: chat"),
        ('{"a": ' + "[" * 100_000, "line 2: "),
        (line(input_tokens=10**400), f"line 2: input_tokens: '{'1' + '0' * 39}' is no number"),
        (line(ts=10**400), "line 2: ts: '1000"),
        (json.dumps({"at_s": 10**400}), "line 2: at_s: '1000"),
        ("a," + "x" * 200_000, "line 2: it is no JSON object"),
    ],
)
def test_a_line_that_makes_no_sense_is_told_with_its_number(bad: str, words: str) -> None:
    log = gathered(line(), bad, line(ts=1002))
    assert (len(log.arrivals), log.lost) == (2, 1)
    assert words in log.said
    assert "1 of its lines could not be read" in log.said


def test_rows_of_a_table_are_told_too() -> None:
    log = gathered("at_s,input_tokens", "1,10", "2", "3,30")
    assert len(log.arrivals) == 2
    assert "line 3: it has 1 cells, the header has 2" in log.said


def test_a_log_of_nothing_but_such_lines_says_what_is_wrong_with_them() -> None:
    assert "1 of 1 lines cannot be read: line 2: at_s: 'noon' is no moment" in refused(["at_s,input_tokens", "noon,1"])


def test_a_row_longer_than_any_is_told_with_its_number() -> None:
    log = gathered("at_s,input_tokens", "1,10", "2," + "1" * 200_000, "3,30")
    assert len(log.arrivals) == 2
    assert "line 3: it is no row of a table: field larger than" in log.said


def test_moments_years_apart_are_refused_with_their_lines(tmp_path: Path) -> None:
    """A minute is counted for each minute between them: 121 TiB of them for a moment in nanoseconds."""
    rows = [f"{at},1" for at in (7, 1e15, 0, 8)]
    said = refused(["at_s,input_tokens", *rows])
    assert "access.log: from its first request (line 4) to its last (line 3) it is 11,574,074,074 days" in said
    assert len(gathered("at_s,input_tokens", "0,1", f"{365 * 86_400},1").arrivals) == 2, "public traces go over months"
    (tmp_path / "a.csv").write_text("\n".join(["at_s,input_tokens", *rows]))
    assert replay.main([str(tmp_path / "a.csv")]) == 2


def test_too_many_such_lines_are_refused_with_the_first_of_them() -> None:
    said = refused([line(), *["rubbish"] * 4, line()])
    assert "rubbish" not in said, "it may be a file of keys"
    assert "access.log: 4 of 6 lines cannot be read: line 2: " in said
    assert "line 4" in said
    assert "line 5" not in said
    assert len(gathered(*[line()] * 500, *["rubbish"] * 5).arrivals) == 500, "1 % may be"
    refused([*[line()] * 500, *["rubbish"] * 6])


@pytest.mark.parametrize("lines", [(), ("",), (line(operation=None),), ("at_s,input_tokens",)])
def test_a_log_without_requests_is_refused(lines: tuple[str, ...]) -> None:
    assert "has no request to a model in it" in refused(lines)


def test_a_file_that_is_no_text_or_not_there_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(bytes(range(256)) * 50)
    for file, words in (
        (tmp_path / "no", "cannot be read: No such file"),
        (tmp_path / "binary", "lines cannot be read"),
    ):
        with pytest.raises(ValueError, match=words):
            replay.load(file)
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        replay.read(tmp_path)


# --- a log as a profile ----------------------------------------------------------------------------------------------


def trace(cv: float = 1.0, n: int = 2000) -> replay.Log:
    rng = np.random.default_rng(1)
    due = arrivals.schedule(Arrivals("gamma", 2.0, cv), n / 2, 1)
    asked, told = rng.lognormal(6, 1, len(due)).astype(int) + 1, rng.lognormal(4, 1, len(due)).astype(int) + 1
    rows = [f"{at},{a},{b}" for at, a, b in zip(due, asked, told, strict=True)]
    return gathered("at_s,input_tokens,output_tokens", *rows)


def test_a_log_as_a_profile_has_its_lengths_and_its_pace(tmp_path: Path) -> None:
    log = trace(cv=3.0)
    text = replay.profile(log, "team")
    (tmp_path / "team.yaml").write_text(text)
    one = profiles.chosen(str(tmp_path / "team.yaml"))
    asked = [float(arrival.input_tokens or 0) for arrival in log.arrivals]
    assert (one.name, one.scenario, str(one.turns)) == ("team", "chat", "fixed:1")
    assert one.input.mean == pytest.approx(np.mean(asked), rel=0.02)
    for share in (0.1, 0.5, 0.9):
        assert one.input.quantile(share) == pytest.approx(np.quantile(asked, share), rel=0.15)
    average, busiest = (float(rate) for rate in re.findall(r"RATE=([\d.]+)\)", text))
    assert average == pytest.approx(2, rel=0.1)
    assert busiest == pytest.approx(max(np.bincount([int(one.at_s // 60) for one in log.arrivals])) / 60, rel=0.01)
    assert float(re.findall(r"gamma:([\d.]+)", text)[0]) == pytest.approx(3, rel=0.1)
    assert "think is" in text


def test_a_profile_of_the_other_requests_can_be_asked_for(tmp_path: Path) -> None:
    log = gathered(line(), line(ts=1001), line(operation="embeddings", input_tokens=90))
    assert "beside 1 of embeddings" in replay.profile(log, "x")
    text = replay.profile(log, "x", "embeddings")
    (tmp_path / "x.yaml").write_text(text)
    one = profiles.read(tmp_path / "x.yaml")
    assert (one.scenario, str(one.input), str(one.output)) == ("embed", "fixed:90", "fixed:0")
    with pytest.raises(ValueError, match="there is no 'text_completion' in it, only chat, embeddings"):
        replay.profile(log, "x", "text_completion")


def test_the_command_prints_a_profile_and_errors_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.log").write_text("\n".join([line(), "rubbish", line(ts=1003)]))
    assert replay.main([str(tmp_path / "a.log")]) == 0
    out, err = capsys.readouterr()
    assert "input: fixed:30" in out
    assert "line 2: it is no JSON object" in err
    assert replay.main([str(tmp_path / "none")]) == 2
    out, err = capsys.readouterr()
    assert (out, "cannot be read" in err) == ("", True)
    assert replay.main([]) == 2
