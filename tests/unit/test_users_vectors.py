"""Whoever asks for vectors says how many, so that an answer without them is no success."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final, cast

import pytest

from loadtests.client.parser import Form, Parser
from loadtests.client.secret import Secrets
from loadtests.client.stream import Client, Reply, Request, _Run
from loadtests.records import Outcome, Record
from loadtests.target import Target
from loadtests.users import SCENARIOS
from loadtests.users.base import Person
from loadtests.workload.profiles import PROFILES, Length

TARGET: Final = Target(url="http://127.0.0.1:1", key="sk-test", ca=None)
SHORT: Final = {"turns": Length.parse("fixed:2"), "input": Length.parse("fixed:40")}


class Server:
    """Answers at once. `widths`: the length of the vectors of each answer; 0 is an answer without any."""

    def __init__(self, *widths: int) -> None:
        self.widths = list(widths)
        self.asked: list[Request] = []
        self.records: list[Record] = []

    def ask(self, request: Request, intended_ns: int | None = None) -> Reply:
        self.asked.append(request)
        said = self.answer(json.loads(request.body))
        run = _Run(request, 0, 0, Secrets())
        run.status, run.complete, run.parser = 200, True, Parser(Form.WHOLE)
        run.parser.feed(json.dumps(said).encode(), 1)
        reply = run.reply()
        self.records.append(reply.record)
        return reply

    def answer(self, body: Any) -> Any:
        if "input" not in body:
            return {"choices": [{"message": {"content": "yes"}}]}
        width = self.widths.pop(0) if self.widths else 2
        return {"data": [{"embedding": [0.5] * width} for _ in body["input"]] if width else []}


def session(name: str, server: Server) -> list[tuple[str, Outcome]]:
    profile = replace(PROFILES["rag" if name == "rag" else "embed"], scenario=name, **SHORT)
    person = Person(target=TARGET, profile=profile, seed=1, number=7)
    list(SCENARIOS[name].session(cast("Client", server), person))
    return [(one.scenario, one.outcome) for one in server.records]


@pytest.mark.parametrize("name", ["embed", "native-embed", "rag"])
def test_every_batch_says_how_many_vectors_it_wants(name: str) -> None:
    server = Server()
    assert {outcome for _, outcome in session(name, server)} == {Outcome.OK}
    batches = [one for one in server.asked if "input" in json.loads(one.body)]
    assert len(batches) > 1
    assert [one.vectors for one in batches] == [len(json.loads(one.body)["input"]) for one in batches]
    assert {one.vectors for one in server.asked if one not in batches} <= {None}


@pytest.mark.parametrize("name", ["embed", "native-embed"])
def test_an_answer_without_vectors_ends_the_session_as_an_error(name: str) -> None:
    assert session(name, Server(0)) == [(name, Outcome.ERROR)]


def test_a_question_has_to_be_as_wide_as_its_document() -> None:
    assert session("rag", Server(0)) == [("rag upload", Outcome.ERROR)]
    server = Server(2, 3)
    assert session("rag", server) == [("rag upload", Outcome.OK), ("rag question", Outcome.ERROR)]
    assert server.records[-1].error == "answered vectors that are not 2 numbers each"


def test_one_request_of_an_open_loop_is_held_to_the_same() -> None:
    profile = replace(PROFILES["rag"], turns=Length.parse("fixed:1"), input=Length.parse("fixed:40"))
    server = Server(2, 3)
    person = Person(target=TARGET, profile=profile, seed=1, number=7)
    SCENARIOS["rag"].once(cast("Client", server), person, 0)
    assert [one.outcome for one in server.records] == [Outcome.OK, Outcome.ERROR]
