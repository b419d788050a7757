"""The consumers file: hashes, limits, times; the same form that the gateway's Go code reads."""

from __future__ import annotations

import hashlib
import json

import pytest

from stack.config.access import Consumer, Credentials, Scope
from stack.config.gateway import Rate
from stack.config.model import Role
from stack.gateway import consumers
from stack.parts import ServedModel


def model(name: str, *aliases: str) -> ServedModel:
    return ServedModel(
        name=name, role=Role.CHAT, aliases=aliases, origin=name, digest=None, insecure=False, network=None, note=""
    )


def render(people: list[Consumer], keys: dict[str, str], models: list[ServedModel]) -> str:
    return consumers.render(people, {name: Credentials(key=key) for name, key in keys.items()}, models, default=DEFAULT)


DEFAULT = Rate(events=15, per="30s", burst=7)
MODELS = [model("qwen3:0.6b", "default", "fast"), model("gemma3:4b")]
GUEST = Consumer(
    name="guest",
    scopes=(Scope.CHAT,),
    models=("fast",),
    requests_per_minute=10,
    burst=2,
    concurrent_streams=1,
    tokens_per_minute=1000,
    tokens_per_day=50_000,
    max_output_tokens=512,
    max_body="2MiB",
    max_duration="1500ms",
    expires="2027-01-31T01:00:00+01:00",  # type: ignore[arg-type]
)


def test_a_consumer_is_written_with_everything_it_may() -> None:
    (entry,) = json.loads(render([GUEST], {"guest": "its-key"}, MODELS))["consumers"]
    assert entry == {
        "name": "guest",
        "keys": [{"sha256": hashlib.sha256(b"its-key").hexdigest(), "expires": None}],
        "password_bcrypt": None,
        "scopes": ["chat"],
        "models": ["qwen3:0.6b"],
        "requests_per_minute": 10,
        "burst": 2,
        "concurrent_streams": 1,
        "tokens_per_minute": 1000,
        "tokens_per_day": 50_000,
        "max_output_tokens": 512,
        "max_body": 2 * 1024 * 1024,
        "max_duration": 2,
        "expires": "2027-01-31T01:00:00+01:00",
    }


def test_what_is_not_said_is_null() -> None:
    (entry,) = json.loads(render([Consumer(name="default")], {"default": "k"}, MODELS))["consumers"]
    unsaid = {name for name, value in entry.items() if value is None}
    assert unsaid == {
        "password_bcrypt", "concurrent_streams", "tokens_per_minute", "tokens_per_day", "max_output_tokens", "max_body",
        "max_duration", "expires",
    }  # fmt: skip
    assert entry["models"] == ["*"]


@pytest.mark.parametrize(
    ("rate", "wanted"),
    [
        (Rate(events=100_000, per="1s"), 100_000),
        (Rate(events=1, per="40s"), 1),
        (Rate(events=1, per="1m"), 1),
        (Rate(events=1, per="1s"), 60),
    ],
)
def test_the_usual_rate_is_one_that_the_file_can_say(rate: Rate, wanted: int) -> None:
    known = {"default": Credentials(key="k")}
    text = consumers.render([Consumer(name="default")], known, MODELS, default=rate)
    assert json.loads(text)["consumers"][0]["requests_per_minute"] == wanted


@pytest.mark.parametrize(
    ("consumer", "wanted"),
    [
        (Consumer(name="default"), (30, 7)),
        (Consumer(name="default", requests_per_minute=600), (600, 7)),
        (Consumer(name="default", burst=0), (30, 0)),
        (Consumer(name="chat"), (None, None)),
        (Consumer(name="chat", requests_per_minute=600), (600, 7)),
    ],
)
def test_who_names_no_rate_has_the_usual_one_but_for_the_chat(
    consumer: Consumer, wanted: tuple[int | None, int | None]
) -> None:
    (entry,) = json.loads(render([consumer], {consumer.name: "k"}, MODELS))["consumers"]
    assert (entry["requests_per_minute"], entry["burst"]) == wanted


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_key_before_works_until_its_time_and_a_password_beside_it() -> None:
    until = "2027-01-01T00:00:00Z"
    both = Credentials(key="new", previous="old", previous_until=until, password_bcrypt="$2b$10$hash")
    (entry,) = json.loads(consumers.render([GUEST], {"guest": both}, MODELS, default=DEFAULT))["consumers"]
    assert entry["keys"] == [{"sha256": sha256("new"), "expires": None}, {"sha256": sha256("old"), "expires": until}]
    assert entry["password_bcrypt"] == "$2b$10$hash"


def test_a_key_before_without_an_end_is_dead() -> None:
    forever = Credentials(key="new", previous="old")
    (entry,) = json.loads(consumers.render([GUEST], {"guest": forever}, MODELS, default=DEFAULT))["consumers"]
    assert [key["sha256"] for key in entry["keys"]] == [sha256("new")]


def test_a_rotation_that_was_interrupted_names_its_key_once() -> None:
    """The gateway refuses a file that has a key twice, and would stay with the last good one."""
    twice = Credentials(key="old", previous="old", previous_until="2999-01-01T00:00:00Z")
    text = consumers.render([GUEST], {"guest": twice}, MODELS, default=DEFAULT)
    assert len(json.loads(text)["consumers"][0]["keys"]) == 1


def test_who_has_no_key_cannot_come_in() -> None:
    (entry,) = json.loads(consumers.render([GUEST], {"guest": Credentials()}, MODELS, default=DEFAULT))["consumers"]
    assert (entry["keys"], entry["password_bcrypt"]) == ([], None)


def test_a_key_is_never_written() -> None:
    assert "its-key" not in render([GUEST], {"guest": "its-key"}, MODELS)


def test_the_order_and_the_version_stay() -> None:
    names = ["zoe", "adam"]
    file = json.loads(render([Consumer(name=n) for n in names], {n: n for n in names}, MODELS))
    assert (file["version"], [c["name"] for c in file["consumers"]]) == (1, names)


def test_a_consumer_that_was_forgotten_is_an_error() -> None:
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
