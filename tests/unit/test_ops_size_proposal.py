"""Proposed limits of consumers: they stop a program run wild, and nobody who stays within its streams."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import yaml

from loadtests.sizing import sized
from loadtests.sizing.sized import Asked, Sized
from ops.size import edit, proposal
from stack.config.explain import parse_platform
from stack.config.model import Platform
from tests.support.boxes import Box
from tests.unit.test_sizing import run

KEY = "private-llm:platform"
TEXT = f"""\
config:
  {KEY}:
    engine: {{ parallel: 8, contextLength: 8192 }}
    models:
      - {{ name: "qwen3:8b", aliases: [default] }}
      - {{ name: all-minilm, role: embedding }}
    consumers:
      - name: default
      - name: chat
      - {{ name: ci, scopes: [chat] }}
      - {{ name: slow, concurrentStreams: 1 }}
      - {{ name: settled, concurrentStreams: 2, requestsPerMinute: 60 }}
      - {{ name: search, scopes: [embeddings] }}
"""
ALONE = Box().prompt + Box().tokens * (Box().fixed + Box().each)
"""Seconds of an answer of the machine when nobody else asks."""


@cache
def answered() -> Sized:
    return sized.size("dev", "", Asked(), runs=[run()])


def platform(**limits: Any) -> Platform:
    tree = yaml.safe_load(TEXT)["config"][KEY]
    if limits:
        tree["gateway"] = {"limits": {"api": limits}}
    return parse_platform(tree, "Pulumi.dev.yaml")


def proposed(**limits: Any) -> dict[str, dict[str, int]]:
    """Consumer -> what is proposed for it."""
    one = platform(**limits)
    found: dict[str, dict[str, int]] = {}
    for path, value in proposal.changes(one, answered(), KEY).items():
        if path[2] == "consumers" and isinstance(path[3], int):
            found.setdefault(one.consumers[path[3]].name, {})[str(path[4])] = value
    return found


def test_a_program_that_keeps_its_streams_at_work_is_never_stopped_and_one_run_wild_is() -> None:
    """30 a minute, the usual rate, would have stopped a program that ends 58 a minute in one stream."""
    told = proposed()
    for name, streams in (("default", 4), ("ci", 4), ("slow", 1)):
        could = streams * 60 / ALONE
        assert 2 * could <= told[name]["requestsPerMinute"] <= 6 * could
    assert told["ci"] == {"concurrentStreams": 4, "requestsPerMinute": 500}
    assert told["slow"] == {"requestsPerMinute": 200}


def test_who_has_a_rate_or_does_not_chat_keeps_what_it_has() -> None:
    assert set(proposed()) == {"default", "ci", "slow"}


@pytest.mark.parametrize(
    ("events", "names"), [(199, {"default", "ci", "slow"}), (200, {"default", "ci"}), (500, set())]
)
def test_nothing_is_proposed_where_the_usual_rate_lets_as_much_through(events: int, names: set[str]) -> None:
    told = proposed(events=events, per="1m")
    assert {name for name, limits in told.items() if "requestsPerMinute" in limits} == names


def test_what_is_proposed_is_a_configuration_and_is_not_proposed_again() -> None:
    after = edit.edited(TEXT, proposal.changes(platform(), answered(), KEY), "Pulumi.dev.yaml")
    made = parse_platform(yaml.safe_load(after)["config"][KEY], "Pulumi.dev.yaml")
    assert {one.name: one.requests_per_minute for one in made.consumers} == {
        "default": 500, "chat": None, "ci": 500, "slow": 200, "settled": 60, "search": None,
    }  # fmt: skip
    assert not any("consumers" in path for path in proposal.changes(made, answered(), KEY))


@pytest.mark.parametrize(("value", "rounded"), [(0.3, 1), (1, 1), (1.1, 2), (9, 10), (50, 50), (51, 100), (201, 500)])
def test_numbers_are_rounded_up_to_ones_that_people_choose(value: float, rounded: int) -> None:
    assert proposal._round(value) == rounded
