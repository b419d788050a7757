"""A program that turns passages into vectors: one batch after the other, no token to wait for."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Final

from loadtests.client.stream import Client, Request
from loadtests.records import Outcome
from loadtests.users.base import Person
from loadtests.workload.profiles import Conversation

PATH: Final = "/v1/embeddings"
BATCH: Final = 16
"""Passages in a request: a document of a few pages, cut."""


class Embed:
    """Batches to the OpenAI API. Records have neither TTFT nor output tokens; what counts is the whole answer."""

    name = "embed"
    early = True

    def session(self, client: Client, person: Person) -> Generator[float, None, None]:
        """As many batches as the profile has turns, with its pauses between them."""
        plan = Conversation(person.profile, person.seed, person.number)
        for index in range(plan.turns):
            if index:
                yield plan.turn(index).think_s
            if client.ask(request(person, index)).record.outcome is not Outcome.OK:
                return

    def once(self, client: Client, person: Person, intended_ns: int) -> None:
        """One batch."""
        client.ask(request(person), intended_ns)


def request(person: Person, index: int = 0) -> Request:
    """What goes over the wire for a batch. No passage is in two of them: a server may keep what it has seen."""
    model = person.target.embedding_model
    passages = [
        Conversation(person.profile, person.seed, person.number * BATCH + place, turns=index + 1).turn(index)
        for place in range(BATCH)
    ]
    body = {"model": model, "input": [one.messages[-1]["content"] for one in passages]}
    return Request(
        path=PATH, body=json.dumps(body).encode(), scenario=Embed.name, model=model, session=person.number, turn=index,
        asked_tokens=0, vectors=BATCH,
    )  # fmt: skip
