"""People whose program speaks Ollama's own API: chats, completions and embeddings, behind the gateway at /ollama."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from types import MappingProxyType
from typing import Any, Final

from loadtests.client.stream import Client, Request
from loadtests.users.base import Person, conversed
from loadtests.workload.profiles import Turn, question

Body = Callable[[Person, Turn], Mapping[str, Any]]


def chat(person: Person, turn: Turn) -> Mapping[str, Any]:
    """For /api/chat: the whole conversation."""
    return {"model": person.target.model, "messages": turn.messages, **_limits(turn)}


def generate(person: Person, turn: Turn) -> Mapping[str, Any]:
    """For /api/generate: one text to go on with, which has no history."""
    return {"model": person.target.model, "prompt": turn.messages[-1]["content"], **_limits(turn)}


def embed(person: Person, turn: Turn) -> Mapping[str, Any]:
    """For /api/embed: one passage."""
    return {"model": person.target.embedding_model, "input": [turn.messages[-1]["content"]]}


CALLS: Final[Mapping[str, Body]] = MappingProxyType({"chat": chat, "generate": generate, "embed": embed})


def _limits(turn: Turn) -> dict[str, Any]:
    return {"stream": True, "options": {"num_predict": turn.asked_tokens}}


class Native:
    """One of Ollama's calls, several turns in a session. The key needs the scope `native`."""

    early = True

    def __init__(self, call: str = "chat") -> None:
        """`call`: chat, generate or embed."""
        self._call, self._body = call, CALLS[call]
        self.name = "native" if call == "chat" else f"native-{call}"

    def session(self, client: Client, person: Person) -> Generator[float, None, None]:
        """One conversation. It ends early when a question has no answer."""
        return conversed(client, person, self.request)

    def once(self, client: Client, person: Person, intended_ns: int) -> None:
        """One turn of one conversation, with the answers before it made up."""
        turn = question(person.profile, person.seed, person.number)
        client.ask(self.request(person, turn), intended_ns)

    def request(self, person: Person, turn: Turn) -> Request:
        """What goes over the wire for a turn."""
        body = self._body(person, turn)
        return Request(
            path=f"/ollama/api/{self._call}", body=json.dumps(body).encode(), scenario=self.name, model=body["model"],
            session=person.number, turn=turn.turn, asked_tokens=0 if self._call == "embed" else turn.asked_tokens,
            vectors=1 if self._call == "embed" else None,
        )  # fmt: skip
