"""A person who chats: the context grows with every turn, by the answers that really came."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Final

from loadtests.client.stream import Client, Request
from loadtests.users.base import Person, conversed
from loadtests.workload.profiles import Turn, question

PATH: Final = "/v1/chat/completions"


class Chat:
    """Streamed answers from the OpenAI API, several turns in a session."""

    name = "chat"
    early = True

    def session(self, client: Client, person: Person) -> Generator[float, None, None]:
        """One conversation. It ends early when a question has no answer: there is nothing to go on from."""
        return conversed(client, person, request)

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
