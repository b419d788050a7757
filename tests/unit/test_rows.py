"""What locust's own statistics show of a request."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from loadtests.generator.rows import failure, show
from loadtests.records import Outcome, Record
from tests.support.records import record


class FakeLocust:
    """Takes what locust's environment would."""

    def __init__(self) -> None:
        self.fired: list[dict[str, Any]] = []
        self.logged: list[tuple[str, str, float]] = []
        self.events = SimpleNamespace(request=SimpleNamespace(fire=lambda **said: self.fired.append(said)))
        self.stats = self

    def get(self, name: str, method: str) -> Any:
        return SimpleNamespace(log=lambda value, _: self.logged.append((method, name, value)))


def shown(one: Record) -> FakeLocust:
    fake = FakeLocust()
    show(fake, one)  # type: ignore[arg-type]
    return fake


def test_a_request_counts_once_with_its_times_beside_it() -> None:
    fake = shown(record(ttft=200, itl=10, tokens=21, late=30))
    ((said),) = fake.fired
    assert (said["request_type"], said["name"], said["exception"]) == ("chat", "E2E", None)
    assert said["response_time"] == pytest.approx(400)
    assert said["response_length"] == 21 * 6
    assert fake.logged == [("chat", "TTFT", 200), ("chat", "TPOT", 10)]


def test_what_has_no_tokens_has_no_row_for_them() -> None:
    fake = shown(record(tokens=0, scenario="embed"))
    assert [said["request_type"] for said in fake.fired] == ["embed"]
    assert fake.logged == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"outcome": Outcome.LIMIT, "status": 429}, "limit hit"),
        ({"outcome": Outcome.ERROR, "status": 503, "error": "busy"}, "error 503: busy"),
        ({"outcome": Outcome.TRUNCATED, "status": 200, "error": "no end mark"}, "truncated: no end mark"),
        ({"outcome": Outcome.TIMEOUT, "status": None}, "timeout"),
    ],
)
def test_a_failure_is_named_and_has_no_times(changes: dict[str, Any], words: str) -> None:
    one = record(tokens=3, **changes)
    assert failure(one) == words
    fake = shown(one)
    assert [said["exception"] for said in fake.fired] == [words]
    assert fake.logged == []


def test_what_we_stopped_ourselves_is_not_shown() -> None:
    assert shown(record(outcome=Outcome.CANCELLED)).fired == []
