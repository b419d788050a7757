"""Accounts for the people of a load: each person has one, and whatever becomes of the run, none is left in the chat."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import pytest

from loadtests.target import Target
from loadtests.users import accounts, signed_in
from loadtests.users.accounts import MOST, Crew, pool
from loadtests.users.base import CannotGoOn
from loadtests.users.page import Api
from loadtests.workload.profiles import PROFILES
from tests.support import chat, people
from tests.support.samples import ROOT

ADMIN: Final = {"LOAD_CHAT_EMAIL": chat.EMAIL, "LOAD_CHAT_PASSWORD": chat.PASSWORD}
THEIRS: Final = [chat.EMAIL, chat.MEMBER]
"""Who has an account whatever loads there are."""
END: Final = 60.0


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with chat.serving() as address:
        yield address


@pytest.fixture
def target(url: str, monkeypatch: pytest.MonkeyPatch) -> Target:
    monkeypatch.setattr(accounts, "AGAIN_S", 0.01)
    chat.changed(url)
    with Crew() as crew:
        crew.make(target := Target(url=url, key="sk-test"), chat.TOKEN, 0)  # removes what another test left
    assert chat.told(url, "accounts") == THEIRS
    chat.changed(url)
    return target


def there(target: Target) -> list[str]:
    return [one for one in chat.told(target.url, "accounts") if one not in THEIRS]


def asked(target: Target, path: str) -> list[dict[str, Any]]:
    return [json.loads(one["body"]) for one in chat.told(target.url, "seen") if one["path"] == path]


# --- how many --------------------------------------------------------------------------------------------------------


def test_everybody_has_an_account_of_their_own_as_far_as_there_are_enough() -> None:
    assert [pool(people, 2) for people in (1, 5, MOST, MOST + 1, 1000)] == [1, 5, MOST, MOST, MOST]


@pytest.mark.parametrize("people", [5, 33, 100])
@pytest.mark.parametrize("workers", [1, 2, 3, 5, 7])
def test_no_account_has_people_in_two_workers(people: int, workers: int) -> None:
    count = pool(people, workers)
    homes = {(place % count, place % workers) for place in range(people)}
    assert len(homes) == count
    assert MOST - workers < count <= MOST or count == people


# --- making and removing ---------------------------------------------------------------------------------------------


def test_accounts_have_no_rights_and_end_with_the_run(target: Target) -> None:
    with Crew() as crew:
        tokens = crew.make(target, chat.TOKEN, 4)
        assert there(target) == [f"load-{number}@load.invalid" for number in (1, 2, 3, 4)]
        assert len(set(tokens)) == crew.made == 4
        for token in tokens:
            assert Api(target.url, token=token).json("GET", "/api/models")["data"]
    assert there(target) == []
    made = asked(target, "/api/v1/auths/add")
    assert {one["role"] for one in made} == {"user"}
    assert len({one["password"] for one in made}) == 4
    for one in made:
        assert 40 < len(one["password"]) <= 72, "bcrypt takes no more"
        assert all(any(map(kind, one["password"])) for kind in (str.islower, str.isupper, str.isdigit))


def test_they_are_removed_after_a_failure(target: Target) -> None:
    def fails() -> None:
        with Crew() as crew:
            crew.make(target, chat.TOKEN, 2)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert len(asked(target, "/api/v1/auths/add")) == 2
    assert there(target) == []


def test_a_run_that_is_stopped_meanwhile_makes_no_more(target: Target) -> None:
    stops = iter([False, False, True])
    with pytest.raises(KeyboardInterrupt), Crew(stopped=lambda: next(stops)) as crew:
        crew.make(target, chat.TOKEN, 9)
    assert len(asked(target, "/api/v1/auths/add")) == 2
    assert there(target) == []


def test_what_an_earlier_run_left_is_removed_and_nothing_else(target: Target) -> None:
    left = Crew()
    api, tokens = Api(target.url, token=chat.TOKEN), left.make(target, chat.TOKEN, chat.PAGE + 2)
    for token in (*tokens, *tokens, chat.TOKEN):
        Api(target.url, token=token).upload("notes.txt", "about owls")
    near = ["load-1@load.invalid.org", "payload-1@load.invalid", "load-x@load.invalid"]
    for email in near:
        api.json("POST", "/api/v1/auths/add", {"email": email, "role": "user", "password": "x"})
    said: list[str] = []
    with Crew(said.append) as crew:
        crew.make(target, chat.TOKEN, 1)
        assert said[0] == f"removed {chat.PAGE + 2} accounts that an earlier load left in the chat"
        assert there(target) == [*near, "load-1@load.invalid"]
    assert there(target) == near
    assert [one["user_id"] for one in chat.told(target.url, "files")] == ["1"], "the administrator's own"
    for one in api.json("GET", "/api/v1/users/?query=load&page=1")["users"]:
        api.json("DELETE", f"/api/v1/users/{one['id']}")


def test_an_account_whose_making_was_not_answered_is_removed(target: Target) -> None:
    chat.changed(target.url, lost=True)
    with pytest.raises(CannotGoOn, match=r"makes no accounts.*the gateway gave up.*All can share one"), Crew() as crew:
        crew.make(target, chat.TOKEN, 2)
    assert len(asked(target, "/api/v1/auths/add")) == 1
    assert there(target) == []


def test_the_gateways_limit_is_waited_for(target: Target) -> None:
    chat.changed(target.url, limit=5)
    with Crew() as crew:
        assert len(crew.make(target, chat.TOKEN, 1)) == 1
        chat.changed(target.url, limit=5)
    assert there(target) == []


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"granted": ["thinking"]}, "without any rights.*does not offer the model 'good'; there are: thinking.*grants"),
        ({"granted": []}, "does not offer the model 'good'; there are: none"),
        ({"factor": True}, "no session without a second factor.*all can share one"),
        ({"form": True}, "in another form than Open WebUI 0.12 does"),
        ({"limit": accounts.TRIES}, "Too many requests from this address"),
    ],
)
def test_what_cannot_be_is_said_in_words(target: Target, how: dict[str, Any], words: str) -> None:
    chat.changed(target.url, **how)
    with pytest.raises(CannotGoOn, match=words) as told, Crew() as crew:
        crew.make(target, chat.TOKEN, 2)
    assert there(target) == []
    for one in asked(target, "/api/v1/auths/add"):
        assert one["password"][:9] not in str(told.value)


def test_what_could_not_be_removed_is_said(target: Target) -> None:
    said: list[str] = []
    with Crew(said.append) as crew:
        crew.make(target, chat.TOKEN, 1)
        chat.changed(target.url, stays=True)
    assert said[-1].startswith("accounts load-…@load.invalid are left in the chat (DELETE /api/v1/users/…: ")
    assert said[-1].endswith("the next load that signs in as an administrator removes them")


# --- who signs in ----------------------------------------------------------------------------------------------------


def test_an_administrators_sign_in_makes_accounts_for_so_many_people(target: Target) -> None:
    with Crew() as crew:
        told = signed_in(PROFILES["ui"], target, ADMIN, crew, people=3)
        assert len(there(target)) == 3
        assert len(set(told["LOAD_CHAT_TOKEN"].split())) == 3
        assert chat.TOKEN not in told["LOAD_CHAT_TOKEN"]


def test_anybody_elses_is_shared(target: Target) -> None:
    member = ADMIN | {"LOAD_CHAT_EMAIL": chat.MEMBER}
    with Crew() as crew:
        assert signed_in(PROFILES["ui"], target, member, crew, people=3) == {"LOAD_CHAT_TOKEN": "session-of-member"}
        assert crew.made == 0
        assert there(target) == []


def test_each_person_asks_as_somebody_else_over_a_socket_of_their_own(target: Target) -> None:
    with Crew() as crew:
        tokens = crew.make(target, chat.TOKEN, 3)
        chat.changed(target.url)
        what = {
            "url": target.url, "environment": {"LOAD_CHAT_TOKEN": " ".join(tokens)}, "people": 7, "patience": 5,
            "leave": 20,
            "lengths": {"turns": "fixed:2", "think": "fixed:0.01", "input": "fixed:9", "output": "fixed:5"},
        }  # fmt: skip
        done = subprocess.run(
            [*people.PATCHED, "tests.support.people"], cwd=ROOT, input=json.dumps([what]), capture_output=True,
            text=True, timeout=END, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (came,) = json.loads(done.stdout)
        seen = chat.told(target.url, "seen")
    assert came["stopped"] == ""
    assert [(one["outcome"], len(one["pieces_ns"])) for one in came["records"]] == [("ok", 5)] * 14
    names = [f"load-{number}@load.invalid" for number in (1, 2, 3)]
    assert Counter(one["who"] for one in seen if one["method"] == "JOIN") == dict.fromkeys(names, 1)
    messages = Counter(one["who"] for one in seen if one["path"] == "/api/chat/completions")
    assert messages == dict(zip(names, (6, 4, 4), strict=True))
