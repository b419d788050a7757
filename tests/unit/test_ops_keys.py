"""Keys are shown once, rotated with an overlap, revoked for good, and never told by a list."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import bcrypt
import pytest
import yaml

from ops import keys, paths, repair, settings
from ops.errors import OpsError
from ops.pulumi import Pulumi
from ops.request import Request, parse

PLATFORM: dict[str, Any] = {
    "models": [{"name": "tiny", "aliases": ["default"]}, {"name": "all-minilm", "role": "embedding"}],
    "consumers": [
        {"name": "default"},
        {"name": "chat"},
        {"name": "ann", "requestsPerMinute": 60},
        {"name": "bob", "expires": "2027-01-31T00:00:00Z"},
    ],
}
PREFIX = "private-llm:"


class Stack:
    """A stack file and the three verbs of `pulumi config`, as the CLI does them (values in clear, marked secure)."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "Pulumi.dev.yaml"
        self.write({"key-default": "sk-own", "key-chat": "sk-chat"})
        self.argv: list[tuple[str, ...]] = []
        self.as_pulumi = cast("Pulumi", SimpleNamespace(stack="dev", file=self.file, call=self.call, keeps_files=False))

    def write(self, secrets: dict[str, str]) -> None:
        config = {PREFIX + name: {"secure": value} for name, value in secrets.items()}
        self.file.write_text(
            yaml.safe_dump({"encryptionsalt": "v1:salt", "config": {settings.PLATFORM: PLATFORM, **config}})
        )

    def call(self, *args: str, text: str = "", secret: bool = False) -> str:
        self.argv.append(args)
        data = yaml.safe_load(self.file.read_text())
        verb, name = args[1], args[2]
        if verb == "get":
            return str(data["config"][name]["secure"]) + "\n"
        if verb == "rm":
            del data["config"][name]
        else:
            data["config"][name] = {"secure": text} if secret else text
        self.file.write_text(yaml.safe_dump(data))
        return ""

    def __getitem__(self, name: str) -> Any:
        found = settings.read(self.file).config.get(PREFIX + name)
        return found["secure"] if isinstance(found, dict) else found


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.setenv("PRIVATE_LLM_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    made = Stack(tmp_path)
    monkeypatch.setattr(keys, "opened", lambda _request: made.as_pulumi)
    settings.keep_copy(made.as_pulumi)
    return made


def ask(**words: Any) -> Request:
    return replace(Request(command="key"), **{"named": "name" in words} | words)


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.strip()


def test_a_new_key_is_printed_once_and_kept_secret(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    keys.key(ask(name="ann"))
    made = printed(capsys)
    assert made == stack["key-ann"]
    assert len(made) == len("sk-") + 43  # 32 bytes, base64
    with pytest.raises(OpsError, match=r"shown when it was made(.|\n)*ROTATE=1(.|\n)*REVOKE=1"):
        keys.key(ask(name="ann"))
    assert printed(capsys) == ""
    assert made not in repr(stack.argv)


def test_this_machines_own_key_is_shown_whenever_asked(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    keys.key(ask())
    keys.key(ask())
    assert printed(capsys) == "sk-own\nsk-own"
    assert stack["key-default"] == "sk-own"


def test_a_rotation_keeps_the_old_key_until_the_overlap_ends(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    keys.key(ask(name="ann"))
    old = printed(capsys)
    before = datetime.now(UTC)
    keys.key(ask(name="ann", rotate=True, overlap="2h"))
    assert (stack["previous-key-ann"], stack["key-ann"]) == (old, printed(capsys))
    ends = settings.overlap_ends(settings.read(stack.file).config, "ann")
    assert ends is not None
    assert abs(ends - before - timedelta(hours=2)) < timedelta(seconds=10)


def test_a_rotation_within_a_rotation_is_refused_unless_it_ends_both(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    keys.key(ask(name="ann"))
    keys.key(ask(name="ann", rotate=True))
    before = {name: stack[name] for name in ("key-ann", "previous-key-ann", "overlap-ann")}
    with pytest.raises(OpsError, match=r"is being rotated(.|\n)*OVERLAP=0s"):
        keys.key(ask(name="ann", rotate=True))
    assert {name: stack[name] for name in before} == before
    printed(capsys)
    keys.key(ask(name="ann", rotate=True, overlap="0s"))
    assert (stack["key-ann"], stack["previous-key-ann"]) == (printed(capsys), None)


def test_the_next_up_removes_a_key_whose_overlap_is_over(stack: Stack) -> None:
    stack.write({"key-ann": "sk-new", "previous-key-ann": "sk-old", "key-default": "sk-own"})
    settings.put(stack.as_pulumi, settings.overlap_name("ann"), "2020-01-01T00:00:00Z", secret=False)
    settings.keep_copy(stack.as_pulumi)
    settings.end_overlaps(stack.as_pulumi, settings.platform(stack.file), lambda _line: None)
    assert (stack["previous-key-ann"], stack["overlap-ann"], stack["key-ann"]) == (None, None, "sk-new")
    assert "sk-old" not in settings.copy("dev").read_text()


def test_no_overlap_ends_the_old_key_at_once(stack: Stack) -> None:
    keys.key(ask(name="ann"))
    keys.key(ask(name="ann", rotate=True, overlap="0s"))
    assert (stack["previous-key-ann"], stack["overlap-ann"]) == (None, None)


def test_a_revoked_key_does_not_come_back_from_the_copy(stack: Stack) -> None:
    keys.key(ask(name="ann"))
    keys.key(ask(name="ann", rotate=True))
    assert "key-ann" in settings.copy("dev").read_text()
    keys.key(ask(name="ann", revoke=True))
    settings.restore_lost(stack.as_pulumi, settings.platform(stack.file), lambda _line: None)
    settings.keep_copy(stack.as_pulumi)
    assert [stack[name.removeprefix(PREFIX)] for name in settings.names_of("ann")] == [None] * 4
    assert "-ann" not in settings.copy("dev").read_text()


@pytest.mark.parametrize("name", ["default", "chat"])
def test_the_platforms_own_keys_cannot_be_revoked(stack: Stack, name: str) -> None:
    with pytest.raises(OpsError, match=r"cannot do without a key(.|\n)*OVERLAP=0s"):
        keys.key(ask(name=name, revoke=True))
    assert stack[f"key-{name}"]


def test_somebody_unknown_is_told_what_to_write(stack: Stack) -> None:
    with pytest.raises(OpsError, match=r"no consumer named eve; there are: default, chat, ann, bob(.|\n)*name: eve"):
        keys.key(ask(name="eve"))


def test_up_makes_the_platforms_own_keys_alone(stack: Stack) -> None:
    assert settings.machine_consumers(settings.platform(stack.file)) == ("default", "chat")


def test_a_second_command_waits_its_turn(stack: Stack) -> None:
    with repair.alone(stack.as_pulumi, lambda _line: None), pytest.raises(OpsError, match="being changed right now"):
        keys.key(ask(name="ann"))
    assert stack["key-ann"] is None


class TestPasswords:
    def test_only_a_hash_is_kept(self, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO("a long enough password\n"))
        keys.basic(ask(name="ann"))
        assert bcrypt.checkpw(b"a long enough password", stack["basic-ann"].encode())
        assert stack["basic-ann"].startswith("$2b$10$")
        keys.basic(ask(name="ann", remove=True))
        assert stack["basic-ann"] is None

    @pytest.mark.parametrize("password", ["", "short", "x" * 73, "é" * 37])
    def test_bad_ones_change_nothing(self, stack: Stack, monkeypatch: pytest.MonkeyPatch, password: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{password}\n"))
        with pytest.raises(OpsError, match="12 to 72 bytes"):
            keys.basic(ask(name="ann"))
        assert stack["basic-ann"] is None

    def test_it_must_be_said_whose(self, stack: Stack) -> None:
        with pytest.raises(OpsError, match="NAME="):
            keys.basic(ask())
        assert stack.argv == []


class TestList:
    def test_it_tells_who_and_never_what(self, stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
        stack.write({"key-ann": "sk-secret", "previous-key-ann": "sk-older", "basic-bob": "$2b$10$hash"})
        settings.put(stack.as_pulumi, settings.overlap_name("ann"), "2999-01-01T00:00:00Z", secret=False)
        keys.keys(ask())
        text = capsys.readouterr().out
        lines = {line.split()[0]: line for line in text.splitlines()}
        assert "the old one until 2999-01-01 00:00 UTC" in lines["ann"]
        assert "60/min" in lines["ann"]
        assert lines["bob"].split()[1:3] == ["no", "yes"]
        assert "2027-01-31" in lines["bob"]
        assert "sk-" not in text
        assert "$2b$" not in text

    def test_it_warns_of_what_ends_and_of_what_is_nobodys(self, stack: Stack) -> None:
        consumers = settings.platform(stack.file).consumers
        config = {settings.key_name("gone"): {"secure": "x"}, settings.key_name("bob"): {"secure": "x"}}
        assert keys.notes(consumers, config, datetime(2026, 1, 1, tzinfo=UTC)) == [
            "gone: has a key and is not configured; `make key NAME=gone REVOKE=1` removes it"
        ]
        assert "bob: expires on 2027-01-31" in keys.notes(consumers, config, datetime(2027, 1, 20, tzinfo=UTC))
        assert "bob: expired on 2027-01-31" in keys.notes(consumers, config, datetime(2027, 2, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("words", "said"), [({"OVERLAP": "soon"}, "OVERLAP=soon: not a duration"), ({"ROTATE": "yes"}, "ROTATE=yes")]
)
def test_words_out_of_form_are_refused(words: dict[str, str], said: str) -> None:
    with pytest.raises(OpsError, match=said):
        parse("key", words)


def test_rotating_and_revoking_at_once_is_refused(stack: Stack) -> None:
    with pytest.raises(OpsError, match="one of them"):
        keys.key(ask(name="ann", rotate=True, revoke=True))
    assert stack.argv == []
