"""The consumers file: hashes, limits, times; the same form that the gateway's Go code reads."""

from __future__ import annotations

import hashlib
import json

import pytest

from stack.config.access import Consumer, Scope
from stack.config.model import Role
from stack.gateway.consumers import render
from stack.parts import ServedModel


def model(name: str, *aliases: str) -> ServedModel:
    return ServedModel(
        name=name, role=Role.CHAT, aliases=aliases, origin=name, digest=None, insecure=False, network=None, note=""
    )


MODELS = [model("qwen3:0.6b", "default", "fast"), model("gemma3:4b")]
GUEST = Consumer(
    name="guest",
    scopes=(Scope.CHAT,),
    models=("fast",),
    requests_per_minute=10,
    concurrent_streams=1,
    expires="2027-01-31T01:00:00+01:00",  # type: ignore[arg-type]
)


def test_a_consumer_is_written_with_everything_it_may() -> None:
    (entry,) = json.loads(render([GUEST], {"guest": "its-key"}, MODELS))["consumers"]
    assert entry == {
        "name": "guest",
        "keys": [{"sha256": hashlib.sha256(b"its-key").hexdigest(), "expires": None}],
        "scopes": ["chat"],
        "models": ["qwen3:0.6b"],
        "requests_per_minute": 10,
        "concurrent_streams": 1,
        "expires": "2027-01-31T01:00:00+01:00",
    }


def test_no_limit_and_no_end_are_null() -> None:
    (entry,) = json.loads(render([Consumer(name="default")], {"default": "k"}, MODELS))["consumers"]
    assert (entry["requests_per_minute"], entry["concurrent_streams"], entry["expires"]) == (None, None, None)
    assert entry["models"] == ["*"]


def test_a_key_is_never_written() -> None:
    assert "its-key" not in render([GUEST], {"guest": "its-key"}, MODELS)


def test_the_order_and_the_version_stay() -> None:
    names = ["zoe", "adam"]
    file = json.loads(render([Consumer(name=n) for n in names], {n: n for n in names}, MODELS))
    assert (file["version"], [c["name"] for c in file["consumers"]]) == (1, names)


def test_a_consumer_without_a_key_is_an_error() -> None:
    with pytest.raises(KeyError, match="guest"):
        render([GUEST], {}, MODELS)


@pytest.mark.parametrize(
    ("names", "allowed"),
    [
        (("default",), ["qwen3:0.6b"]),
        (("qwen3:0.6b", "fast"), ["qwen3:0.6b"]),
        (("gemma3:4b", "fast"), ["qwen3:0.6b", "gemma3:4b"]),
        (("gemma3:4b", "*"), ["*"]),
    ],
)
def test_who_may_use_a_model_by_one_name_may_by_all(names: tuple[str, ...], allowed: list[str]) -> None:
    (entry,) = json.loads(render([Consumer(name="ab", models=names)], {"ab": "k"}, MODELS))["consumers"]
    assert entry["models"] == allowed
