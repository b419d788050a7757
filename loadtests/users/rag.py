"""A person with a document and a program that answers from it: embed its passages, find those that fit, ask with them.

The passages are found here, by the vectors that came back: so embeddings and chats load the server in the proportion
that such programs have (LangChain's and LlamaIndex's usual chain), and no vector store stands between.

Assumed: a document has 40 passages of 180 words (of 1,000 characters, which is how Open WebUI cuts it), embedded in one
request as LangChain does. A later question carries the questions and answers before it, not their passages.

The record of a question's embedding is called `rag question`, of a document's `rag upload`: neither has text, so only
an objective for the whole time is about them. The time to the first token counts from when the passages were found.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtests.client.stream import Client, Reply, Request
from loadtests.records import Outcome
from loadtests.users.base import Person
from loadtests.workload import prompts
from loadtests.workload.profiles import Message, Turn, question

PASSAGES: Final = 40
PASSAGE_WORDS: Final = 180
QUESTION_WORDS: Final = 20
_DOCUMENT: Final = 3
"""Keeps a document's words apart from those of the conversation with the same number."""

Vectors = NDArray[np.float64]


class Rag:
    """Brings a document, then asks about it."""

    name = "rag"
    early = True

    def session(self, client: Client, person: Person) -> Generator[float, None, None]:
        """One document and the questions about it. It ends early when something has no answer.

        Who is met in the middle of it has brought the document before: passages are then taken without looking.
        """
        conversation, first = person.conversation()
        passages, said = document(person), before(conversation.turn(first))
        vectors = None if first else embedded(client, person, passages, f"{self.name} upload", 0)
        if vectors is None and not first:
            return
        for index in range(first, conversation.turns):
            turn = conversation.turn(index)
            if index > first:
                yield turn.think_s
            asked = wanted(turn)
            width = None if vectors is None else vectors.shape[1]
            looked = embedded(client, person, [asked], f"{self.name} question", index, width=width)
            if looked is None:
                return
            found = passages if vectors is None else best(passages, vectors, looked[0])
            reply = self._ask(client, person, turn, said, found)
            if reply.record.outcome is not Outcome.OK:
                return
            said += [{"role": "user", "content": asked}, {"role": "assistant", "content": reply.answer.text}]

    def once(self, client: Client, person: Person, intended_ns: int) -> None:
        """One question. A conversation's first one comes with its document; for others it was brought long ago.

        What needs an answer first cannot leave at a moment of the schedule: only the first request is counted from it.
        """
        turn = question(person.profile, person.seed, person.number)
        passages, first = document(person), turn.turn == 0
        vectors = embedded(client, person, passages, f"{self.name} upload", 0, intended_ns) if first else None
        if first and vectors is None:
            return
        looked = embedded(
            client, person, [wanted(turn)], f"{self.name} question", turn.turn, None if first else intended_ns,
            width=None if vectors is None else vectors.shape[1],
        )  # fmt: skip
        if looked is None:
            return
        found = passages if vectors is None else best(passages, vectors, looked[0])
        self._ask(client, person, turn, before(turn), found)

    def _ask(self, client: Client, person: Person, turn: Turn, said: Sequence[Message], found: Sequence[str]) -> Reply:
        system = [one for one in turn.messages if one["role"] == "system"]
        messages = [*system, *said, {"role": "user", "content": prompt(turn, found)}]
        body = {
            "model": person.target.model, "messages": messages, "stream": True,
            "stream_options": {"include_usage": True}, "max_tokens": turn.asked_tokens,
        }  # fmt: skip
        return client.ask(Request(
            path="/v1/chat/completions", body=json.dumps(body).encode(), scenario=self.name, model=person.target.model,
            session=person.number, turn=turn.turn, asked_tokens=turn.asked_tokens,
        ))  # fmt: skip


def document(person: Person) -> list[str]:
    """This person's document, in passages; nobody else has one like it."""
    rng = np.random.default_rng((person.profile.nonce, person.seed, person.number, _DOCUMENT))
    return [prompts.filler(PASSAGE_WORDS, rng) for _ in range(PASSAGES)]


def embedded(
    client: Client, person: Person, texts: Sequence[str], scenario: str, turn: int, intended_ns: int | None = None,
    *, width: int | None = None,
) -> Vectors | None:  # fmt: skip
    """The vectors of texts, a row each; None where there is no good answer, which the record tells of.

    `width`: how long a row is, where it is known already.
    """
    body = json.dumps({"model": person.target.embedding_model, "input": list(texts)}).encode()
    reply = client.ask(
        Request(
            path="/v1/embeddings", body=body, scenario=scenario, model=person.target.embedding_model,
            session=person.number, turn=turn, asked_tokens=0, vectors=len(texts), width=width,
        ),
        intended_ns,
    )  # fmt: skip
    return np.array(reply.answer.embeddings, dtype=np.float64) if reply.record.outcome is Outcome.OK else None


def best(passages: Sequence[str], vectors: Vectors, looked: NDArray[np.float64]) -> list[str]:
    """The passages, the nearest by the cosine first."""
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(looked)
    near = vectors @ looked / np.where(lengths > 0, lengths, 1.0)
    return [passages[place] for place in np.argsort(-near, kind="stable")]


def before(turn: Turn) -> list[Message]:
    """The questions and answers before a turn, without passages."""
    return [_short(one) for one in turn.messages[:-1] if one["role"] != "system"]


def wanted(turn: Turn) -> str:
    """The question itself: the end of a message that is as long as question and passages together."""
    return str(_short(turn.messages[-1])["content"])


def prompt(turn: Turn, found: Sequence[str]) -> str:
    """The found passages, as many as the profile's input has room for, and the question behind them."""
    asked = wanted(turn)
    room = len(str(turn.messages[-1]["content"]).split()) - len(asked.split())
    words = " ".join(found).split()[: max(0, room)]
    parts = [" ".join(words[at : at + PASSAGE_WORDS]) for at in range(0, len(words), PASSAGE_WORDS)]
    return "\n\n".join([*parts, asked])


def _short(message: Message) -> Message:
    """A question without its passages. Answers stay as they are."""
    if message["role"] != "user":
        return message
    text, _, task = message["content"].rpartition("\n")
    return {"role": "user", "content": f"{' '.join(text.split()[-QUESTION_WORDS:])}\n{task}".strip()}
