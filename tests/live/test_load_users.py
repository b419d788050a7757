"""People of each kind on the real platform: one short session each, with real answers.

Sessions run in a process of its own, as a load's workers do: gevent must have patched it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from loadtests.target import Target
from loadtests.users.accounts import Crew
from tests.support import people
from tests.support.live.platform import Platform
from tests.support.live.webui import WebUI
from tests.support.samples import ROOT

PROFILES: Final = ("chat", "embed", "rag", "native", "native-generate", "native-embed", "ui", "ui-file", "mixed")
ROWS: Final = {
    "chat": ["chat", "chat"],
    "embed": ["embed", "embed"],
    "rag": ["rag upload", "rag question", "rag", "rag question", "rag"],
    "native": ["native", "native"],
    "native-generate": ["native-generate", "native-generate"],
    "native-embed": ["native-embed", "native-embed"],
    "ui": ["ui"] * 4,
    "ui-file": ["ui-file upload", "ui-file", "ui-file"],
    "mixed": ["embed"],
}
PEOPLE: Final = 2
SILENT: Final = ("embed", "native-embed", "rag upload", "rag question", "ui-file upload")


@pytest.fixture(scope="module")
def left(webui: WebUI) -> dict[str, int]:
    """What there was before: the administrator's chats, and everybody's documents and accounts."""
    return has(webui)


def has(webui: WebUI) -> dict[str, int]:
    chats = webui.json("GET", "/api/v1/chats/list")
    files, users = (webui.json("GET", f"/api/v1/{name}/")["total"] for name in ("files", "users"))
    return {"chats": len(chats), "files": files, "users": users}


@dataclass(frozen=True)
class Made:
    """Accounts as a run makes them for its people."""

    crew: Crew
    tokens: tuple[str, ...]


@pytest.fixture(scope="module")
def made(platform: Platform, webui: WebUI, left: dict[str, int]) -> Iterator[Made]:
    token = str(webui.http.headers["Authorization"]).removeprefix("Bearer ")
    target = Target(url=platform.url, key=platform.key(), ca=Path(platform.ca))
    assert left["users"] >= 1
    with Crew() as crew:
        yield Made(crew, crew.make(target, token, PEOPLE))


@pytest.fixture(scope="module")
def came(platform: Platform, made: Made) -> dict[str, dict[str, Any]]:
    """What came of a session of each profile."""
    models = {model["role"]: model["id"] for model in platform.outputs()["models"]}
    usual = {
        "url": platform.url, "key": platform.key(), "ca": platform.ca, "embedding_model": models["embedding"],
        "environment": {"LOAD_CHAT_TOKEN": " ".join(made.tokens), "LOAD_MIX": "embed=1"}, "patience": 120, "leave": 300,
        "lengths": {"input": "fixed:120", "output": "fixed:8", "turns": "fixed:2", "think": "fixed:0.1"},
    }  # fmt: skip
    asked = [{**usual, "profile": name, "people": PEOPLE if name == "ui" else 1} for name in PROFILES]
    done = subprocess.run(
        [*people.PATCHED, "tests.support.people"], cwd=ROOT, input=json.dumps(asked), capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for secret in (platform.key(), *made.tokens):
        assert secret not in done.stdout + done.stderr
    return dict(zip(PROFILES, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("profile", PROFILES)
def test_a_session_has_real_answers(came: dict[str, dict[str, Any]], profile: str) -> None:
    assert came[profile]["stopped"] == ""
    records = came[profile]["records"]
    assert [(one["outcome"], one["error"]) for one in records] == [("ok", "")] * len(records)
    assert [one["scenario"] for one in records] == ROWS[profile]
    for one in records:
        if one["scenario"] in SILENT:
            assert (one["asked_tokens"], one["first_ns"]) == (0, None)
        else:
            # A stand-in model may end after a word, but it says one.
            assert 1 <= len(one["pieces_ns"]) <= one["output_tokens"] <= one["asked_tokens"]
            assert one["intended_ns"] <= one["sent_ns"] < one["first_ns"] <= one["last_ns"] <= one["done_ns"]


def test_each_person_is_somebody_without_rights_and_has_tidied_up(
    came: dict[str, dict[str, Any]], made: Made, webui: WebUI, left: dict[str, int]
) -> None:
    assert came["ui-file"]["records"]
    people = [WebUI(webui.platform) for _ in made.tokens]
    for one, token in zip(people, made.tokens, strict=True):
        one.http.headers["Authorization"] = f"Bearer {token}"
        assert one.json("GET", "/api/v1/chats/list") == []
    found = [one.json("GET", "/api/v1/auths/") for one in people]
    assert [(one["email"], one["role"]) for one in found] == [
        (f"load-{number}@load.invalid", "user") for number in range(1, PEOPLE + 1)
    ]
    assert has(webui) == left | {"users": left["users"] + PEOPLE}


def test_nothing_of_them_stays_in_the_chat(made: Made, webui: WebUI, left: dict[str, int]) -> None:
    made.crew.remove()
    assert has(webui) == left
    assert webui.json("GET", "/api/v1/users/?query=load.invalid")["total"] == 0
