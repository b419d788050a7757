"""What a scenario is: what one person does, told without locust, so that it can be run and tested alone."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Protocol

from loadtests.client.stream import Client, Request
from loadtests.records import Outcome, Record
from loadtests.target import Target
from loadtests.workload.profiles import Conversation, Profile, Turn, picked


class CannotGoOn(Exception):
    """This scenario cannot work here, and no other person's could; the message says why and what to do.

    It ends the run. What only one request met (an error, a refusal) is in that request's record instead.
    """


@dataclass(slots=True)
class Flight:
    """How many requests are under way: each is one for as long as it is in a `with` of this."""

    count: int = 0

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(self, *error: object) -> None:
        self.count -= 1


def _nowhere(_: Record) -> None:
    """For a scenario that is run alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Whose session or request it is. Every session has a person of its own."""

    target: Target
    profile: Profile
    seed: int
    number: int
    """Unique over all workers and the whole load: with the seed it says what this person asks. Goes into the records
    as `session`."""
    place: int | None = None
    """In a closed load: which of its people this is, the same in all of its sessions. None: whoever has this number."""
    midway: bool = False
    """It is met in the middle of its conversation, as most people are when a load begins."""
    worker: int = 0
    keep: Callable[[Record], None] = field(default=_nowhere, compare=False, repr=False)
    """Takes the record of a request that the given client did not make. What `client.ask` made is kept already."""
    flight: Flight = field(default_factory=Flight, compare=False, repr=False)
    """Counts such a request while it is under way."""

    def conversation(self) -> tuple[Conversation, int]:
        """What this person asks, and the turn to begin with: the first, or one in the middle."""
        if self.midway:
            return picked(self.profile, self.seed, self.number)
        return Conversation(self.profile, self.seed, self.number), 0


def conversed(
    client: Client, person: Person, request: Callable[[Person, Turn], Request]
) -> Generator[float, None, None]:
    """One conversation: each question with the answers before it. It ends early when a question has no answer."""
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


class Scenario(Protocol):
    """What people of one kind do. Knows nothing of locust; one object serves all people, so it keeps no state."""

    @property
    def name(self) -> str:
        """What records and reports call it."""

    def session(self, client: Client, person: Person) -> Generator[float, None, None]:
        """One session of one person, in a closed loop: a generator of the seconds to think before each next turn.

        Whoever runs it sleeps for so long and goes on, or closes it when no new turn should begin. It is closed too
        when the person leaves in the middle of an answer: clean up in `finally`.
        """

    def once(self, client: Client, person: Person, intended_ns: int) -> None:
        """One request of an open loop: a random turn of this person's conversation, meant to start at that moment.

        A scenario whose first request goes through the given client, with this moment, says `early = True`: it is then
        called a little before, and the client holds the request back. What is made ready costs no latency so.
        """
