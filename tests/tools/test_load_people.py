"""Whole runs of people before the chat's page: whatever becomes of a run, none of its accounts is left in the chat."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.support import chat
from tests.support.samples import ROOT

ADMIN: Final = {"LOAD_CHAT_EMAIL": chat.EMAIL, "LOAD_CHAT_PASSWORD": chat.PASSWORD}
NAMES: Final = [f"load-{number}@load.invalid" for number in (1, 2, 3)]
PROFILE: Final = "name: quick\nscenario: ui\ninput: fixed:9\noutput: fixed:5\nturns: fixed:3\nthink: fixed:0.2\n"
END: Final = 60.0


@pytest.fixture
def url() -> Iterator[str]:
    with chat.serving() as address:
        yield address


def there(url: str) -> list[str]:
    return [one for one in chat.told(url, "accounts") if one not in {chat.EMAIL, chat.MEMBER}]


@contextmanager
def started(folder: Path, url: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    (folder / "quick.yaml").write_text(PROFILE)
    environment = {
        "PATH": os.defpath, "HOME": str(folder), "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "sk-test",
        "LOAD_PROFILE": str(folder / "quick.yaml"), "LOAD_OUT": str(folder / "out"), "LOAD_USERS": "3", **ADMIN, **more,
    }  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "loadtests.run"], cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def test_a_run_has_accounts_while_it_lasts_and_tells_nobody_their_secrets(url: str, tmp_path: Path) -> None:
    with started(tmp_path, url, LOAD_FOR="3s", LOAD_PROCESSES="2") as run:
        out, _ = run.communicate(timeout=END)
    assert run.returncode in {0, 1}, out
    assert there(url) == []
    seen = chat.told(url, "seen")
    assert Counter(one["who"] for one in seen if one["method"] == "JOIN") == dict.fromkeys(NAMES, 1)
    assert {one["who"] for one in seen if one["path"] == "/api/chat/completions"} == set(NAMES)
    files = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert json.loads(files["result.json"])["environment"]["configuration"]["ACCOUNTS"] == "3, made for the run"
    assert "the load's people get accounts in the chat: making 3\n" in out
    made = [json.loads(one["body"])["password"] for one in seen if one["path"] == "/api/v1/auths/add"]
    secrets = [chat.PASSWORD, "session-of-", *made]
    assert len(secrets) == 5
    assert [one for one in secrets if any(one in text for text in (out, *files.values()))] == []


def test_a_run_that_shares_an_account_says_so(url: str, tmp_path: Path) -> None:
    with started(tmp_path, url, LOAD_FOR="1s", LOAD_CHAT_EMAIL=chat.MEMBER) as run:
        out, _ = run.communicate(timeout=END)
    assert out.count("ACCOUNTS: that of the sign-in, shared by all people") == 1
    told = json.loads((tmp_path / "out" / "result.json").read_text())
    assert told["environment"]["configuration"]["ACCOUNTS"] == "that of the sign-in, shared by all people"
    asking = {one["who"] for one in chat.told(url, "seen") if one["path"] == "/api/chat/completions"}
    assert asking == {chat.MEMBER}


@pytest.mark.parametrize(
    "signals", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT] * 2], ids=["Ctrl-C", "SIGTERM", "Ctrl-C twice"]
)
def test_a_run_that_is_stopped_leaves_no_accounts(url: str, tmp_path: Path, signals: list[signal.Signals]) -> None:
    with started(tmp_path, url, LOAD_FOR="10m") as run:
        words = [" answered | "] + ["once more ends it at once"] * (len(signals) - 1)
        assert run.stdout is not None
        for number, until in zip(signals, words, strict=True):
            assert next((one for one in run.stdout if until in one), None), "it ended before"
            assert there(url) == NAMES
            run.send_signal(number)
        out, _ = run.communicate(timeout=END)
    assert run.returncode == 130, out
    assert there(url) == []
    assert ("there is no report" in out) == (len(signals) == 2)


def test_what_a_killed_run_left_the_next_one_removes(url: str, tmp_path: Path) -> None:
    with started(tmp_path, url, LOAD_FOR="10m") as run:
        assert run.stdout is not None
        assert next((one for one in run.stdout if " answered | " in one), None)
        run.kill()
        run.wait(END)
    assert there(url) == NAMES
    with started(tmp_path, url, LOAD_USERS="1", LOAD_FOR="1s") as run:
        out, _ = run.communicate(timeout=END)
    assert "removed 3 accounts that an earlier load left in the chat\n" in out
    assert there(url) == []
