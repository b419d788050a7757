"""What is said while a run lasts."""

from __future__ import annotations

import io

from loadtests.analysis import slo
from loadtests.records import Outcome, Record
from loadtests.runs.hold import Tally
from loadtests.runs.progress import Progress, words
from tests.support.records import failed, record, run


def tally(records: list[Record]) -> Tally:
    one = Tally(slo.preset("people"))
    one.add(records)
    return one


def test_a_line_says_how_the_load_goes() -> None:
    records = [*run(40), record(3000.0, ttft=2500.0), failed(error="Connection refused"), failed(outcome=Outcome.LIMIT)]
    line = words(tally(records), 10.0)
    assert line.startswith("41 answered | TTFT p50 ")
    assert "| 82 tokens/s | 7% missed | 1 failed (Connection refused) | 1 hit a limit (429)" in line


def test_a_line_says_how_many_requests_are_under_way() -> None:
    assert words(tally(run(40)), 10.0, 7).startswith("40 answered | 7 in flight | TTFT p50 ")


def test_percentiles_are_of_now_and_not_of_the_beginning() -> None:
    cold, warm = [record(k, ttft=5000.0) for k in range(300)], [record(k, ttft=100.0) for k in range(300)]
    assert "TTFT p50 100 ms, p95 100 ms" in words(tally(cold + warm), 10.0)


def test_before_the_first_answer_and_without_tokens() -> None:
    assert words(tally([]), 0.0) == "0 answered"
    assert words(tally([]), 0.0, 0) == "0 answered | 0 in flight"
    assert words(tally([record(tokens=0, asked_tokens=20, output_tokens=None, first_ns=None)]), 1.0).startswith(
        "1 answered | time p50 "
    )


def test_what_asked_for_no_text_has_no_part_in_the_times_of_what_did() -> None:
    made = [record(k, tokens=0, asked_tokens=0, ttft=50.0) for k in range(300)]
    both = Tally(slo.parse("ttft=2,e2e=1"))
    both.add([record(ttft=400.0), *made])
    assert "TTFT p50 400 ms, p95 400 ms" in words(both, 10.0)
    assert both.counted == 301
    alone = Tally(slo.parse("ttft=2,e2e=1"))
    alone.add(made)
    assert "300 answered | time p50 50 ms" in words(alone, 10.0)


def test_lines_come_every_few_seconds_with_the_time() -> None:
    now, out = [100.0], io.StringIO()
    progress = Progress(out, every=5, clock=lambda: now[0])
    for moment in (100.5, 101, 105, 106, 163):
        now[0] = moment
        progress.told("4 users", tally([]), 1.0, 3)
    progress.line("done")
    assert out.getvalue().splitlines() == [
        "  0:00  4 users: 0 answered | 3 in flight", "  0:06  4 users: 0 answered | 3 in flight",
        "  1:03  4 users: 0 answered | 3 in flight", "  1:03  done",
    ]  # fmt: skip


def test_what_was_seen_is_not_counted_again() -> None:
    one, records = Tally(slo.preset("people")), run(30)
    for upto in (10, 10, 30):
        one.add(records[:upto])
    assert (one.counted, one.outcomes[Outcome.OK], one.tokens) == (30, 30, 600)
    late = Tally(slo.preset("people"), since=records[20].intended_ns)
    late.add(records)
    assert late.counted == 10
