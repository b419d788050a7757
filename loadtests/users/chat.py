"""A person who chats: the context grows with every turn, by the answers that really came."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Final

from loadtests.client.stream import Client, Request
from loadtests.records import Outcome
from loadtests.users.base import Person
from loadtests.workload.profiles import Turn, question

PATH: Final = "/v1/chat/completions"


class Chat:
    """Streamed answers from the OpenAI API, several turns in a session."""

    name = "chat"
    early = True

    def session(self, client: Client, person: Person) -> Generator[float, None, None]:
        """One conversation. It ends early when a question has no answer: there is nothing to go on from."""
        conversation, first = person.conversation()
        answers: list[str] = []
        for index in range(first, conversation.turns):
            turn = conversation.turn(index, answers)
            if index > first:
                yield turn.think_s
            reply = client.ask(request(person, turn))
            if reply.record.outcome is not Outcome.OK:
                return
            answers = [*turn.answers, reply.answer.text]

    def once(self, client: Client, person: Person, intended_ns: int) -> None:
        """One turn of one conversation, with the answers before it made up."""
        client.ask(request(person, question(person.profile, person.seed, person.number)), intended_ns)


def request(person: Person, turn: Turn) -> Request:
    """What goes over the wire for a turn."""
    model = person.target.model
    body = {
        "model": model, "messages": turn.messages, "stream": True, "stream_options": {"include_usage": True},
        "max_tokens": turn.asked_tokens,
    }  # fmt: skip
    return Request(
        path=PATH, body=json.dumps(body).encode(), scenario=Chat.name, model=model, session=person.number,
        turn=turn.turn, asked_tokens=turn.asked_tokens,
    )  # fmt: skip
