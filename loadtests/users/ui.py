"""A person at the chat's page: messages go to Open WebUI, answers come back over its socket.

What the page shows is what is measured: a piece counts when its event is read from the socket, from the moment of
sending. The chat keeps the history itself, so only the new message is sent; for each new chat it also asks the model
for a title, as for real people. Chats and documents are removed when a session ends.
"""

from __future__ import annotations

import time
import uuid
from array import array
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import gevent
from gevent.queue import Empty

from loadtests.client.parser import MANY
from loadtests.client.secret import Secrets
from loadtests.client.stream import Client
from loadtests.records import Outcome, Record
from loadtests.users.base import Person
from loadtests.users.page import Account, Accounts, Refused, reason
from loadtests.users.rag import document, wanted
from loadtests.users.sockets import LOST, Event, SocketError
from loadtests.workload.profiles import Conversation, Turn

SECOND: Final = 1_000_000_000
TIDY_S: Final = 5.0
"""For tidying up behind a session (seconds): an end of a load waits for it, and the chat may not answer any more."""
ANSWER: Final = "response.output_text.delta"
THOUGHT: Final = "response.reasoning_text.delta"
LIMITED: Final = ("429", "too many", "this key may", "as many requests", "wait for one to end", "requests a minute")
NAME: Final = "notes.txt"


class Ui:
    """Several messages in one chat. With `upload` the person brings a document first, and asks about it."""

    early = True

    def __init__(self, name: str = "ui", *, upload: bool = False, accounts: Accounts | None = None) -> None:
        self.name = name
        self._upload = upload
        self._accounts = accounts or Accounts()

    def session(self, client: Client, person: Person) -> Generator[float, None, None]:
        """One chat. It ends early when a message has no answer.

        Who is met in the middle of a conversation goes on in a new chat: it has as many messages as were left.
        """
        conversation, first = person.conversation()
        with closing(self._talk(client, person)) as talk:
            if self._upload and not talk.bring(document(person)):
                return
            for index in range(first, conversation.turns):
                turn = conversation.turn(index)
                if index > first:
                    yield turn.think_s
                if not talk.say(self._words(turn), turn):
                    return

    def once(self, client: Client, person: Person, intended_ns: int) -> None:
        """The first message of a new chat: an earlier history could only come about by asking for it."""
        turn = Conversation(person.profile, person.seed, person.number).turn(0)
        with closing(self._talk(client, person)) as talk:
            talk.ready()
            # What is ready early does not leave early.
            gevent.sleep(max(0.0, (intended_ns - time.monotonic_ns()) / SECOND))
            if self._upload and not talk.bring(document(person), intended_ns):
                return
            talk.say(self._words(turn), turn, None if self._upload else intended_ns)

    def _words(self, turn: Turn) -> str:
        """The new message: what came before it, and the passages of a document, are the chat's to add."""
        return wanted(turn) if self._upload else turn.messages[-1]["content"]

    def _talk(self, client: Client, person: Person) -> Talk:
        place = person.number if person.place is None else person.place
        return Talk(self.name, self._accounts.at(person.target, place), person, client.total_s)


class Talk:
    """One chat, from its first message to when it is removed. `total_s`: the longest that a message may take."""

    def __init__(self, scenario: str, account: Account, person: Person, total_s: float) -> None:
        self._scenario, self._account, self._person, self._total_s = scenario, account, person, total_s
        self._chat = ""
        self._last: str | None = None
        self._files: list[dict[str, str]] = []
        self._open = False

    def ready(self) -> None:
        """Opens the page's socket, where it is not open yet. What hinders it is told of the message."""
        with suppress(SocketError):
            self._account.channel()

    def bring(self, passages: Sequence[str], intended_ns: int | None = None) -> bool:
        """Uploads a document, until its passages are embedded; kept as a record without tokens. Did it work?"""
        heard = Heard(self._account.api.secrets, intended_ns)
        try:
            with self._person.flight, gevent.Timeout(self._total_s, Empty):
                file = self._account.api.upload(NAME, "\n\n".join(passages))
            self._files = [{"type": "file", "id": file, "url": file, "name": NAME, "status": "uploaded"}]
            heard.done(200)
        except Empty:
            heard.failed(Outcome.TIMEOUT, f"not taken in within {self._total_s:g} s")
        except Refused as error:
            heard.refused(error)
        finally:
            self._person.keep(heard.record(f"{self._scenario} upload", self._account.model, self._person))
        return heard.outcome is Outcome.OK

    def say(self, text: str, turn: Turn, intended_ns: int | None = None) -> bool:
        """Sends a message and listens until its answer is over; kept as a record. Is there an answer?"""
        message, heard = str(uuid.uuid4()), Heard(self._account.api.secrets, intended_ns)
        try:
            channel = self._account.channel()  # opens it where it is not: as a page that was just opened
            timeout = gevent.Timeout(self._total_s, Empty)
            with channel.listening(message) as events, self._person.flight, timeout:
                heard.sent_ns = time.monotonic_ns()
                body = self._body(text, turn, message, channel.session)
                told = self._account.api.json("POST", "/api/chat/completions", body)
                heard.accepted()
                self._chat, self._open = str(told["chat_id"]), True
                while not heard.take(events.get()):
                    pass
                self._last, self._open = message, False
        except Empty:
            heard.failed(Outcome.TIMEOUT, f"not done within {self._total_s:g} s")
        except (Refused, SocketError) as error:
            heard.refused(error)
        except (KeyError, TypeError):
            heard.failed(Outcome.ERROR, "the chat took the message without saying which chat it is in")
        finally:
            record = heard.record(self._scenario, self._account.model, self._person, turn)
            self._person.keep(record)
        return record.outcome is Outcome.OK

    def close(self) -> None:
        """Stops what is still being answered, and removes the chat and its document."""
        with gevent.Timeout(TIDY_S, False):
            self._tidy()

    def _tidy(self) -> None:
        chat = quote(self._chat, errors="replace")
        for method, path in (
            ("POST", f"/api/tasks/chat/{chat}/stop" if self._open else ""),
            ("DELETE", f"/api/v1/chats/{chat}" if chat else ""),
            *(("DELETE", f"/api/v1/files/{one['id']}") for one in self._files),
        ):
            if path:
                with suppress(Refused):  # the session is over, whatever becomes of it
                    self._account.api.text(method, path)

    def _body(self, text: str, turn: Turn, message: str, session: str) -> dict[str, Any]:
        """A message as the page sends it; the first one makes the chat."""
        model = self._account.model
        files = {"files": self._files} if self._files else {}
        return {
            "stream": True, "stream_options": {"include_usage": True}, "model": model, "session_id": session,
            "id": message, "message_ids": [{"model_id": model, "message_id": message, "modelIdx": 0}],
            "parent_id": self._last, "params": {"max_tokens": turn.asked_tokens},
            "user_message": {
                "id": str(uuid.uuid4()), "parentId": self._last, "childrenIds": [message], "role": "user",
                "content": text, "timestamp": int(time.time()), "models": [model], **files,
            },
            # The page leaves these to what the chat is configured to do.
            "background_tasks": {
                "follow_up_generation": True,
                **({} if self._chat else {"title_generation": True, "tags_generation": True}),
            },
            **({"chat_id": self._chat} if self._chat else {}), **files,
        }  # fmt: skip


def _times() -> array[int]:
    return array("q")


@dataclass(slots=True)
class Heard:
    """What came of one message, as far as it was heard. `intended_ns`: None for when it is sent."""

    secrets: Secrets
    intended_ns: int | None = None
    sent_ns: int = field(default_factory=time.monotonic_ns)
    headers_ns: int | None = None
    visible_ns: int | None = None
    done_ns: int | None = None
    pieces_ns: array[int] = field(default_factory=_times)
    pieces_chars: array[int] = field(default_factory=_times)
    coalesced: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    outcome: Outcome = Outcome.CANCELLED
    """Until it is known better: who is stopped has nothing more to say."""
    status: int | None = None
    error: str = ""

    def accepted(self) -> None:
        """The chat has taken the message."""
        self.status, self.headers_ns = 200, time.monotonic_ns()

    def done(self, status: int, at_ns: int | None = None) -> None:
        """It is over, and went well."""
        self.status, self.outcome, self.done_ns = status, Outcome.OK, at_ns or time.monotonic_ns()

    def failed(self, outcome: Outcome, error: str) -> None:
        """It is over, and did not go well."""
        self.outcome, self.error, self.done_ns = outcome, error, time.monotonic_ns()

    def refused(self, error: Refused | SocketError) -> None:
        """The chat, or the gateway before it, did not take it."""
        self.status = error.status if self.status is None else self.status
        self.failed(Outcome.LIMIT if error.status == 429 or limited(str(error)) else Outcome.ERROR, str(error))

    def take(self, event: Event) -> bool:
        """Takes an event; True: the answer is over."""
        data = event.data if isinstance(event.data, dict) else {}
        if event.kind == LOST:
            self.failed(Outcome.TRUNCATED, str(event.data))
            return True
        if event.kind not in {"response:completion", "chat:completion", "chat:message:error"}:
            return False
        if error := data.get("error"):
            why = reason(error, self.secrets)
            self.failed(Outcome.LIMIT if limited(why) else Outcome.ERROR, why)
            return True
        if data.get("type") in {ANSWER, THOUGHT}:
            self._piece(str(data.get("delta") or ""), event.at_ns, visible=data["type"] == ANSWER)
        if isinstance(usage := data.get("usage"), dict):
            self.input_tokens = _count(usage.get("prompt_tokens"), usage.get("input_tokens"))
            self.output_tokens = _count(usage.get("completion_tokens"), usage.get("output_tokens"))
        if data.get("done") is True:
            self.done(200, event.at_ns)
            return True
        return False

    def record(self, scenario: str, model: str, person: Person, turn: Turn | None = None) -> Record:
        """The record of it. Without a turn it asked for no text."""
        return Record(
            scenario=scenario, model=model, session=person.number, turn=turn.turn if turn else 0, worker=person.worker,
            intended_ns=self.sent_ns if self.intended_ns is None else self.intended_ns, sent_ns=self.sent_ns,
            headers_ns=self.headers_ns,
            first_ns=self.pieces_ns[0] if self.pieces_ns else None, visible_ns=self.visible_ns,
            last_ns=self.pieces_ns[-1] if self.pieces_ns else None, done_ns=self.done_ns or time.monotonic_ns(),
            pieces_ns=self.pieces_ns, pieces_chars=self.pieces_chars, coalesced=self.coalesced,
            asked_tokens=turn.asked_tokens if turn else 0, input_tokens=self.input_tokens,
            output_tokens=self.output_tokens, outcome=self.outcome, status=self.status, error=self.error,
        )  # fmt: skip

    def _piece(self, text: str, at_ns: int, *, visible: bool) -> None:
        if not text:
            return
        self.coalesced += bool(self.pieces_ns) and self.pieces_ns[-1] == at_ns
        self.pieces_ns.append(at_ns)
        self.pieces_chars.append(len(text))
        if visible:
            self.visible_ns = self.visible_ns or at_ns


def limited(why: str) -> bool:
    """Whether the gateway refused what the chat asked of it: the chat passes on the words, not the status."""
    return any(word in why.lower() for word in LIMITED)


def _count(*values: object) -> int | None:
    return next((one for one in values if type(one) is int and 0 <= one <= MANY), None)
