"""The consumers file: hashes, limits, times; the same form that the gateway's Go code reads."""

from __future__ import annotations

import hashlib
import json

import pytest

from stack.config.model import Consumer, Scope
from stack.gateway.consumers import render

GUEST = Consumer(
    name="guest",
    scopes=(Scope.CHAT,),
    models=("fast",),
    requests_per_minute=10,
    concurrent_streams=1,
    expires="2027-01-31T01:00:00+01:00",  # type: ignore[arg-type]
)


def test_a_consumer_is_written_with_everything_it_may() -> None:
    (entry,) = json.loads(render([GUEST], {"guest": "its-key"}))["consumers"]
    assert entry == {
        "name": "guest",
        "keys": [{"sha256": hashlib.sha256(b"its-key").hexdigest(), "expires": None}],
        "scopes": ["chat"],
        "models": ["fast"],
        "requests_per_minute": 10,
        "concurrent_streams": 1,
        "expires": "2027-01-31T01:00:00+01:00",
    }


def test_no_limit_and_no_end_are_null() -> None:
    (entry,) = json.loads(render([Consumer(name="default")], {"default": "k"}))["consumers"]
    assert (entry["requests_per_minute"], entry["concurrent_streams"], entry["expires"]) == (None, None, None)
    assert entry["models"] == ["*"]


def test_a_key_is_never_written() -> None:
    assert "its-key" not in render([GUEST], {"guest": "its-key"})


def test_the_order_and_the_version_stay() -> None:
    names = ["zoe", "adam"]
    file = json.loads(render([Consumer(name=n) for n in names], {n: n for n in names}))
    assert (file["version"], [c["name"] for c in file["consumers"]]) == (1, names)


def test_a_consumer_without_a_key_is_an_error() -> None:
    with pytest.raises(KeyError, match="guest"):
        render([GUEST], {})
