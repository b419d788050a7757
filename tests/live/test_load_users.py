"""People of each kind on the real platform: one short session each, with real answers.

Sessions run in a process of its own, as a load's workers do: gevent must have patched it.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any, Final

import pytest

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
    "ui": ["ui", "ui"],
    "ui-file": ["ui-file upload", "ui-file", "ui-file"],
    "mixed": ["embed"],
}
SILENT: Final = ("embed", "native-embed", "rag upload", "rag question", "ui-file upload")


@pytest.fixture(scope="module")
def left(webui: WebUI) -> dict[str, int]:
    """What the administrator had before: chats and documents."""
    return has(webui)


def has(webui: WebUI) -> dict[str, int]:
    chats = webui.json("GET", "/api/v1/chats/list")
    return {"chats": len(chats), "files": len(webui.json("GET", "/api/v1/files/"))}


@pytest.fixture(scope="module")
def came(platform: Platform, webui: WebUI, left: dict[str, int]) -> dict[str, dict[str, Any]]:
    """What came of a session of each profile. One session of the chat for all: passwords are not tried twice."""
    assert left["chats"] >= 0
    token = str(webui.http.headers["Authorization"]).removeprefix("Bearer ")
    models = {model["role"]: model["id"] for model in platform.outputs()["models"]}
    usual = {
        "url": platform.url, "key": platform.key(), "ca": platform.ca, "embedding_model": models["embedding"],
        "environment": {"LOAD_CHAT_TOKEN": token, "LOAD_MIX": "embed=1"}, "patience": 120, "leave": 300,
        "lengths": {"input": "fixed:120", "output": "fixed:8", "turns": "fixed:2", "think": "fixed:0.1"},
    }  # fmt: skip
    asked = [{**usual, "profile": name} for name in PROFILES]
    done = subprocess.run(
        [*people.PATCHED, "tests.support.people"], cwd=ROOT, input=json.dumps(asked), capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert platform.key() not in done.stdout + done.stderr
    assert token not in done.stdout + done.stderr
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


def test_nothing_of_it_stays_in_the_chat(came: dict[str, dict[str, Any]], webui: WebUI, left: dict[str, int]) -> None:
    assert came["ui"]["records"]
    assert has(webui) == left
