"""A team, of whom some chat, some complete code, some ask documents: each session is of one kind, by its number."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from loadtests.client.stream import Client
from loadtests.users.base import CannotGoOn, Person, Scenario
from loadtests.workload import mix
from loadtests.workload.profiles import PROFILES

_KIND: Final = 5
"""Keeps this draw apart from those of the conversation with the same number."""


class Mixed:
    """Hands each session (of an open loop: each request) to another scenario, under that one's name in the records.

    Args:
        scenarios: all there are; asked when the first session begins.
        environment: LOAD_MIX has the shares, as `chat=70,code=15,rag=10,embed=5`: profiles and their weights.
    """

    name = mix.MIXED
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
            shares = mix.shares(self._environment.get(mix.WORD) or mix.USUAL)
        except ValueError as error:
            raise CannotGoOn(str(error)) from None
        ends = np.cumsum(list(shares.values()))
        drawn = np.random.default_rng((person.seed, person.number, _KIND)).random() * ends[-1]
        profile = PROFILES[list(shares)[int(np.searchsorted(ends, drawn, side="right"))]]
        own = replace(profile, ruler=person.profile.ruler, nonce=person.profile.nonce)
        return self._scenarios()[profile.scenario], replace(person, profile=own)
