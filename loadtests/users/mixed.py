"""A team, of whom some chat, some complete code, some ask documents: each session is of one kind, by its number."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from loadtests.client.stream import Client
from loadtests.users.base import CannotGoOn, Person, Scenario
from loadtests.workload.profiles import PROFILES, Profile

WORD: Final = "LOAD_MIX"
USUAL: Final = "chat=70,code=15,rag=10,embed=5"
"""Assumed; sessions, not requests. Nothing public tells what small teams do."""
_KIND: Final = 5
"""Keeps this draw apart from those of the conversation with the same number."""


class Mixed:
    """Hands each session (of an open loop: each request) to another scenario, under that one's name in the records.

    Args:
        scenarios: all there are; asked when the first session begins.
        environment: LOAD_MIX has the shares, as `chat=70,code=15,rag=10,embed=5`: profiles and their weights.
    """

    name = "mixed"
    early = True  # as all that it hands on to are

    def __init__(
        self, scenarios: Callable[[], Mapping[str, Scenario]], environment: Mapping[str, str] = os.environ
    ) -> None:
        self._scenarios, self._environment = scenarios, environment

    def session(self, client: Client, person: Person) -> Generator[float, None, None]:
        """One session of this person's kind. Raises CannotGoOn for shares that are none."""
        scenario, someone = self.kind(person)
        yield from scenario.session(client, someone)

    def once(self, client: Client, person: Person, intended_ns: int) -> None:
        """One request of this person's kind. Raises CannotGoOn for shares that are none."""
        scenario, someone = self.kind(person)
        scenario.once(client, someone, intended_ns)

    def kind(self, person: Person) -> tuple[Scenario, Person]:
        """What this person does, and as whom: the same seed and number are always of one kind."""
        try:
            shares = parse(self._environment.get(WORD) or USUAL)
        except ValueError as error:
            raise CannotGoOn(str(error)) from None
        ends = np.cumsum(list(shares.values()))
        drawn = np.random.default_rng((person.seed, person.number, _KIND)).random() * ends[-1]
        profile = PROFILES[list(shares)[int(np.searchsorted(ends, drawn, side="right"))]]
        own = replace(profile, ruler=person.profile.ruler, nonce=person.profile.nonce)
        return self._scenarios()[profile.scenario], replace(person, profile=own)


def kinds(profile: Profile, environment: Mapping[str, str]) -> set[str]:
    """The scenarios that a profile comes to. Raises ValueError for shares that are none."""
    if profile.scenario != Mixed.name:
        return {profile.scenario}
    return {PROFILES[name].scenario for name in parse(environment.get(WORD) or USUAL)}


def parse(text: str) -> dict[str, float]:
    """Profile to weight. Raises ValueError, in words, for what is none."""
    allowed = [name for name, one in PROFILES.items() if one.scenario != Mixed.name]
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = (one.strip() for one in part.partition("="))
        if name not in allowed or name in shares:
            raise ValueError(f"{WORD}={text}: {part.strip()!r}: allowed, once each, are {', '.join(allowed)}")
        try:
            shares[name] = float(weight)
        except ValueError:
            shares[name] = 0.0
        if not 0 < shares[name] < float("inf"):
            raise ValueError(f"{WORD}={text}: {part.strip()!r}: a share is a number above 0, for example {name}=10")
    return shares
