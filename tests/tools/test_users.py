"""Sessions that ask documents and that speak Ollama's own API, through the gateway to the fake engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from loadtests.analysis.metrics import ttft
from loadtests.client.stream import Client
from loadtests.records import Outcome, Record
from loadtests.target import Target
from loadtests.users import SCENARIOS
from loadtests.users.base import Person
from loadtests.users.rag import PASSAGE_WORDS, PASSAGES, best, document, prompt, wanted
from loadtests.workload.profiles import PROFILES, Conversation, Length, Profile
from stack.config.explain import parse_platform
from tests.support.engine import Engine, engine
from tests.support.gateway import Running, running
from tests.support.samples import SAMPLES

CHAT, EMBEDDING = "qwen3:0.6b", "all-minilm"
KEY = "sk-" + "u" * 40


@dataclass(frozen=True)
class Place:
    """The gateway, and the engine behind it."""

    front: Running
    engine: Engine


@pytest.fixture(scope="module")
def _place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    tree = {
        "models": [
            {"name": CHAT, "aliases": ["default"]}, {"name": EMBEDDING, "role": "embedding", "aliases": ["embedding"]},
        ],
        "consumers": [{"name": "load", "scopes": ["chat", "embeddings", "native"], "requestsPerMinute": 100_000}],
        "chat": {"enabled": False}, "memory": {"enabled": False},
    }  # fmt: skip
    platform, parts = parse_platform(tree, source="users.yaml"), SAMPLES["dev"].parts
    folder = tmp_path_factory.mktemp("gateway")
    with (
        engine((CHAT, EMBEDDING)) as behind,
        running(platform, parts, {"load": KEY}, folder, engine=behind.address, chat=None) as front,
    ):
        yield Place(front, behind)


@pytest.fixture
def place(_place: Place) -> Place:
    _place.engine.reset()
    _place.engine.forget()
    _place.engine.play(ttft_ms=5, itl_ms=1, tokens=6)
    return _place


def profile(name: str) -> Profile:
    lengths = {"turns": "fixed:2", "think": "fixed:0.5", "input": "fixed:500", "output": "fixed:6"}
    return replace(PROFILES[name], **{key: Length.parse(value) for key, value in lengths.items()})


def person(place: Place, name: str, number: int = 7) -> Person:
    target = Target(url=place.front.url, key=KEY, ca=Path(place.front.ca))
    return Person(target=target, profile=profile(name), seed=1, number=number)


def client(someone: Person, kept: list[Record]) -> Client:
    return Client(someone.target.url, key=someone.target.key, ca=someone.target.ca, keep=kept.append)


def session(place: Place, name: str) -> tuple[list[Record], list[float]]:
    """The records of a session, and how long it wanted to think."""
    someone, kept = person(place, name), list[Record]()
    with client(someone, kept) as asks:
        return kept, list(SCENARIOS[someone.profile.scenario].session(asks, someone))


def once(place: Place, name: str, number: int, intended_ns: int) -> list[Record]:
    someone, kept = person(place, name, number), list[Record]()
    with client(someone, kept) as asks:
        SCENARIOS[someone.profile.scenario].once(asks, someone, intended_ns)
    return kept


def test_a_document_is_embedded_then_each_question_then_asked(place: Place) -> None:
    kept, thought = session(place, "rag")
    assert [(r.scenario, r.turn) for r in kept] == [
        ("rag upload", 0), ("rag question", 0), ("rag", 0), ("rag question", 1), ("rag", 1),
    ]  # fmt: skip
    assert thought == [0.5]
    assert {r.outcome for r in kept} == {Outcome.OK}
    assert {r.session for r in kept} == {7}
    assert [r.asked_tokens for r in kept] == [0, 0, 6, 0, 6]
    assert all((ttft(r) is None) == (r.asked_tokens == 0) for r in kept)
    upload, first, ask, second, again = (request.json for request in place.engine.seen())
    assert (len(upload["input"]), len(first["input"]), len(second["input"])) == (PASSAGES, 1, 1)
    assert first["input"] != second["input"]
    assert (upload["model"], ask["model"]) == (EMBEDDING, CHAT)
    # Passages from the document, as many as the input has room for; an earlier question comes back without its own.
    asked = ask["messages"][-1]["content"]
    assert len(asked.split()) == len(Conversation(profile("rag"), 1, 7).turn(0).messages[-1]["content"].split())
    assert asked.split("\n\n")[0] in upload["input"]
    assert asked.endswith(first["input"][0])
    assert [m["role"] for m in again["messages"]] == ["user", "assistant", "user"]
    assert again["messages"][0]["content"] == first["input"][0]


def test_who_is_met_midway_has_brought_the_document_before(place: Place) -> None:
    for number in range(20):
        someone, kept = replace(person(place, "rag", number), midway=True), list[Record]()
        if (first := someone.conversation()[1]) == 0:
            continue
        with client(someone, kept) as asks:
            list(SCENARIOS["rag"].session(asks, someone))
        assert [(r.scenario, r.turn) for r in kept[:2]] == [("rag question", first), ("rag", first)]
        said = place.engine.seen()[1].json["messages"]
        assert [one["role"] for one in said] == ["user", "assistant"] * first + ["user"]
        return
    raise AssertionError("nobody was met midway")


def test_the_nearest_passages_are_found() -> None:
    vectors = np.array([[1.0, 0.0], [0.0, 0.0], [2.0, 2.0], [0.1, 0.9]])
    assert best(["a", "b", "c", "d"], vectors, np.array([0.0, 5.0])) == ["d", "c", "a", "b"]


def test_a_prompt_is_as_long_as_the_profile_says(place: Place) -> None:
    turn = Conversation(profile("rag"), 1, 7).turn(0)
    passages = document(person(place, "rag"))
    assert {len(text.split()) for text in passages} == {PASSAGE_WORDS}
    assert len(prompt(turn, passages).split()) == len(turn.messages[-1]["content"].split())
    assert wanted(turn) in prompt(turn, passages)
    assert document(person(place, "rag", 8)) != passages


def test_what_fails_ends_the_session_of_a_document(place: Place) -> None:
    place.engine.next({"fault": "status", "status": 429})
    kept, _ = session(place, "rag")
    assert [(r.scenario, r.outcome) for r in kept] == [("rag upload", Outcome.LIMIT)]


def test_in_an_open_loop_only_the_first_request_has_the_moment_of_the_schedule(place: Place) -> None:
    intended = time.monotonic_ns() - 10_000_000
    seen = set()
    for number in range(12):
        kept = once(place, "rag", number, intended)
        names = [r.scenario for r in kept]
        seen.add(tuple(names))
        assert names[-2:] == ["rag question", "rag"]
        assert [r.intended_ns == intended for r in kept] == [True, *[False] * (len(kept) - 1)]
    # The first question of a conversation comes with its document.
    assert seen == {("rag question", "rag"), ("rag upload", "rag question", "rag")}


@pytest.mark.parametrize(("name", "call"), [("native", "chat"), ("native-generate", "generate")])
def test_ollamas_own_answers_are_read_as_they_stream(place: Place, name: str, call: str) -> None:
    kept, thought = session(place, name)
    assert thought == [0.5]
    assert [(r.scenario, r.turn, r.outcome, r.output_tokens) for r in kept] == [
        (name, 0, Outcome.OK, 6), (name, 1, Outcome.OK, 6),
    ]  # fmt: skip
    assert all(len(r.pieces_ns) == 6 and r.first_ns is not None for r in kept)
    sent = place.engine.seen()
    assert {request.target for request in sent} == {f"/api/{call}"}
    assert sent[0].json["options"] == {"num_predict": 6}
    if call == "chat":
        first, _, third = sent[1].json["messages"]
        assert (first["role"], third["role"]) == ("user", "user")


def test_ollamas_embeddings_have_no_tokens(place: Place) -> None:
    kept, _ = session(place, "native-embed")
    assert [(r.scenario, r.outcome, r.asked_tokens, r.first_ns) for r in kept] == [
        ("native-embed", Outcome.OK, 0, None), ("native-embed", Outcome.OK, 0, None),
    ]  # fmt: skip
    assert place.engine.last.json["model"] == EMBEDDING


def test_a_request_of_an_open_loop_is_counted_from_its_moment(place: Place) -> None:
    intended = time.monotonic_ns() - 1_000_000
    for name in ("native", "native-generate", "native-embed"):
        (record,) = once(place, name, 3, intended)
        assert (record.intended_ns, record.outcome) == (intended, Outcome.OK)
