"""What the gateway's benchmark makes of its figures."""

from __future__ import annotations

import pytest

from bench import verdict
from bench.client import Quantiles, read

GOOD = {goal.name: goal.bound for goal in verdict.GOALS}


def test_every_bound_itself_is_met() -> None:
    told = verdict.judge(GOOD)
    assert told["pass"]
    assert all(row["pass"] for row in told["targets"].values())


@pytest.mark.parametrize("goal", verdict.GOALS, ids=lambda goal: goal.name)
def test_each_target_can_be_missed_and_misses_all(goal: verdict.Goal) -> None:
    step = 0.01 if goal.side == "at most" else -0.01
    told = verdict.judge(GOOD | {goal.name: goal.bound + step})
    assert [name for name, row in told["targets"].items() if not row["pass"]] == [goal.name]
    assert not told["pass"]


def test_what_was_not_measured_is_no_pass() -> None:
    some = {name: value for name, value in GOOD.items() if name != "good_login"}
    told = verdict.judge(some)
    assert (told["pass"], told["targets"]["good_login"]["value"]) == (False, None)


def test_a_figure_without_a_target_is_a_mistake() -> None:
    with pytest.raises(KeyError, match="added_ttft_p99"):
        verdict.judge({"added_ttft_p99": 1})


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [(20.0, 25.0, 0.0), (20.0, 26.0, 1.0), (200.0, 220.0, 0.0), (200.0, 230.0, 10.0), (50.0, 10.0, 0.0)],
)
def test_a_tenth_or_five_milliseconds_are_free(before: float, after: float, moved: float) -> None:
    assert verdict.beyond(before, after) == moved


def test_what_the_client_prints_is_read() -> None:
    none = {"n": 0}
    told = {
        "requests": 3, "ok": 2, "statuses": {"200": 2, "429": 1}, "errors": {}, "requests_per_second": 1.0,
        "sent_per_second": 1.5, "tokens": 20, "tokens_per_second": 10.0, "wrong_counts": 0, "cpu_seconds": 0.1,
        "ttft_ms": {"n": 2, "p50": 1.0, "p95": 2.0, "p99": 2.0, "max": 2.0}, "request_ms": none, "lag_ms": none,
        "seconds": 2.0,
    }  # fmt: skip
    one = read(told)
    assert one.ttft == Quantiles(2, 1.0, 2.0, 2.0, 2.0)
    assert (one.lag.n, one.clean) == (0, False)
