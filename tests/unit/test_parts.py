"""The lock: what can be had, and which model answers to which name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stack.config.model import Model, Role
from stack.parts import MissingPart, Parts, parse, served
from tests.support.samples import SAMPLES

CHAT = Model(name="qwen3:0.6b", aliases=("default", "fast"))
SMART = Model(name="qwen3:8b", aliases=("smart",), digest="sha256:" + "1" * 64)
EMBEDDING = Model(name="all-minilm", role=Role.EMBEDDING)


def lock(**models: dict[str, Any]) -> str:
    return json.dumps({"source": "mirror", "images": {"base": "r/base@sha256:0"}, "models": models})


def test_the_official_source_serves_what_is_configured() -> None:
    models = served((CHAT, SMART), SAMPLES["dev"].parts)
    assert [(m.name, m.origin, m.aliases, m.digest, m.network, m.insecure) for m in models] == [
        ("qwen3:0.6b", "qwen3:0.6b", ("default", "fast"), None, None, False),
        ("qwen3:8b", "qwen3:8b", ("smart",), "sha256:" + "1" * 64, None, False),
    ]


def test_a_stand_in_answers_to_every_name_of_its_role() -> None:
    chat, embedding = served((CHAT, SMART, EMBEDDING), SAMPLES["mirror"].parts)
    assert chat.aliases == ("default", "fast", "qwen3:0.6b", "smart", "qwen3:8b")
    assert (chat.name, chat.origin, chat.insecure) == ("tiny-chat", "mirror-models:5006/library/tiny-chat:latest", True)
    assert chat.note
    assert embedding.aliases == ("all-minilm",)


def test_a_role_nobody_configured_gets_no_stand_in() -> None:
    assert [model.role for model in served((CHAT,), SAMPLES["mirror"].parts)] == [Role.CHAT]


def test_no_name_is_lost_and_none_is_there_twice() -> None:
    for sample in SAMPLES.values():
        models = sample.platform.models
        answered = [name for m in served(models, sample.parts) for name in (m.name, *m.aliases)]
        assert len(answered) == len(set(answered))
        assert {name for m in models for name in (m.name, *m.aliases)} <= set(answered)


def test_a_configured_model_named_like_the_stand_in_is_not_its_own_alias() -> None:
    twin = Model(name="tiny-chat", aliases=("default",))
    (chat,) = served((twin,), SAMPLES["mirror"].parts)
    assert (chat.name, chat.aliases) == ("tiny-chat", ("default",))


REMOTE = Model(name="Qwen/Qwen3-32B", aliases=("powerful",), engine="box", fallback="fast")


@pytest.mark.parametrize("sample", ["dev", "mirror"])
def test_a_model_of_an_engine_elsewhere_is_what_it_is_whatever_the_source(sample: str) -> None:
    own, remote = served((CHAT, REMOTE), SAMPLES[sample].parts)
    assert (own.own, own.engine, remote.own, remote.engine) == (True, "ollama", False, "box")
    assert (remote.name, remote.aliases, remote.note) == ("Qwen/Qwen3-32B", ("powerful",), "")
    assert remote.fallback == own.name


def test_a_stand_in_has_the_narrowest_limits_of_those_it_stands_for() -> None:
    limited = CHAT.model_copy(update={"requests_per_minute": 60, "concurrent_requests": 3})
    stricter = SMART.model_copy(update={"requests_per_minute": 30})
    (chat,) = served((limited, stricter), SAMPLES["mirror"].parts)
    assert (chat.requests_per_minute, chat.concurrent_requests) == (30, 3)


def test_a_stand_in_does_not_answer_for_itself() -> None:
    smart = SMART.model_copy(update={"fallback": "fast"})
    (chat,) = served((CHAT, smart), SAMPLES["mirror"].parts)
    assert chat.fallback is None
    assert served((CHAT, smart), SAMPLES["dev"].parts)[1].fallback == "qwen3:0.6b"


def test_a_stand_in_closes_no_circle_that_the_configuration_has_not() -> None:
    smart = SMART.model_copy(update={"fallback": "powerful"})
    official = served((CHAT, smart, REMOTE), SAMPLES["dev"].parts)
    assert [model.fallback for model in official] == [None, "Qwen/Qwen3-32B", "qwen3:0.6b"]
    mirror = served((CHAT, smart, REMOTE), SAMPLES["mirror"].parts)
    assert [model.fallback for model in mirror] == [None, "tiny-chat"]


@pytest.mark.parametrize(
    ("parts", "fix"),
    [
        (SAMPLES["mirror"].parts, r"cannot be made from packages.*SOURCE=official"),
        (Parts(source="official", images={"base": "x"}), "make lock"),
        (Parts(source="official", images={}), r"make -s env"),
    ],
    ids=["packages", "official", "a shell without the stack's environment"],
)
def test_a_missing_image_says_what_to_do(parts: Parts, fix: str) -> None:
    assert not parts.has("grafana")
    with pytest.raises(MissingPart, match=rf"`grafana`.*{fix}"):
        parts.image("grafana")


@pytest.mark.parametrize("text", ["{}", '{"source": "elsewhere"}', "not json"])
def test_another_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"official|Expecting"):
        parse(text)


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(ValueError, match="singing"):
        parse(lock(singing={"name": "x", "from": "y"}))


def test_the_committed_lock_can_be_read() -> None:
    from tests.support.samples import ROOT

    assert parse((ROOT / "locks" / "official.json").read_text()).source == "official"
