"""A team: which session is of which kind, and shares that are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from dataclasses import replace
from typing import Final

import pytest

from loadtests.client.stream import Client
from loadtests.target import Target
from loadtests.users import SCENARIOS, SIGNED_IN, signed_in
from loadtests.users.accounts import Crew
from loadtests.users.base import CannotGoOn, Person, Scenario
from loadtests.users.mixed import Mixed
from loadtests.workload.mix import USUAL, kinds, shares
from loadtests.workload.profiles import PROFILES, Ruler
from loadtests.workload.profiles import SCENARIOS as NAMES

TARGET: Final = Target(url="http://127.0.0.1:1", key="sk-test", ca=None)


class Noted:
    """A scenario that only notes whose turn it was."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.came: list[Person] = []

    def session(self, client: Client, person: Person) -> Generator[float, None, None]:
        self.came.append(person)
        yield 1.5

    def once(self, client: Client, person: Person, intended_ns: int) -> None:
        self.came.append(person)


def person(number: int, seed: int = 1) -> Person:
    return Person(target=TARGET, profile=PROFILES["mixed"], seed=seed, number=number)


def team(shares: str = "") -> tuple[Mixed, dict[str, Noted]]:
    parts = {name: Noted(name) for name in ("chat", "rag", "embed", "ui")}
    scenarios: dict[str, Scenario] = dict(parts)
    return Mixed(lambda: scenarios, {"LOAD_MIX": shares}), parts


def test_sessions_have_the_shares_that_were_asked_for() -> None:
    mixed, _ = team("chat=60,code=20,rag=20")
    found = Counter(mixed.kind(person(number))[1].profile.name for number in range(5000))
    assert {name: round(count / 5000, 1) for name, count in found.items()} == {"chat": 0.6, "code": 0.2, "rag": 0.2}


def test_the_same_number_is_always_of_one_kind() -> None:
    mixed, _ = team()
    first, again, other = (
        [mixed.kind(person(number, seed))[1].profile.name for number in range(200)] for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_a_session_is_the_other_scenarios_with_its_profile() -> None:
    mixed, parts = team("code=1")
    someone = replace(person(3), profile=replace(PROFILES["mixed"], ruler=Ruler(2.0), nonce=9))
    with Client(TARGET.url) as client:
        assert list(mixed.session(client, someone)) == [1.5]
        mixed.once(client, someone, 1)
    for came in parts["chat"].came:
        assert (came.profile.name, came.profile.nonce, came.profile.ruler) == ("code", 9, Ruler(2.0))
        assert (came.number, came.seed) == (3, 1)
    assert len(parts["chat"].came) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("chat=1,chta=2", r"^MIX=chat=1,chta=2: 'chta=2': allowed, once each, are chat, code"),
        ("chat=1,chat=2", "'chat=2': allowed, once each"),
        ("mixed=1", "'mixed=1': allowed, once each"),
        ("chat=0", "'chat=0': a share is a number above 0"),
        ("chat=nan", "above 0"),
        ("chat=inf", "above 0"),
        ("chat", "'chat': a share is a number above 0, for example chat=10"),
    ],
)
def test_wrong_shares_are_refused_in_words(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        shares(text)
    mixed, _ = team(text)
    with pytest.raises(CannotGoOn, match=said):
        mixed.kind(person(1))


def test_the_usual_shares_need_nobody_to_sign_in() -> None:
    assert sum(shares(USUAL).values()) == 100
    assert kinds(PROFILES["mixed"], {}) == {"chat", "rag", "embed"}
    assert kinds(PROFILES["ui"], {}) == {"ui"}
    assert signed_in(PROFILES["mixed"], TARGET, {}, Crew()) == {}


def test_who_is_given_a_session_tries_no_password() -> None:
    environment = {"LOAD_MIX": "chat=1,ui=1", "LOAD_CHAT_TOKEN": "a-session"}
    assert signed_in(PROFILES["mixed"], TARGET, environment, Crew()) == {"LOAD_CHAT_TOKEN": "a-session"}
    with pytest.raises(CannotGoOn, match="LOAD_CHAT_EMAIL"):
        signed_in(PROFILES["ui"], TARGET, {}, Crew())


def test_every_name_of_a_scenario_has_one() -> None:
    assert set(SCENARIOS) == set(NAMES) == {one.name for one in SCENARIOS.values()}
    assert {one.scenario for one in PROFILES.values()} <= set(SCENARIOS)
    assert set(SCENARIOS) > SIGNED_IN
