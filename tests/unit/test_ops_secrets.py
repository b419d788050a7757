"""Generated secrets are never lost: not to a checkout of the settings file, another salt, or Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from ops import settings
from ops.errors import OpsError
from ops.pulumi import Pulumi
from stack.config.model import Platform

PLATFORM = {
    "models": [{"name": "tiny", "aliases": ["default"]}, {"name": "all-minilm", "role": "embedding"}],
    "consumers": [{"name": "default"}, {"name": "chat"}],
}
OLD = {"private-llm:admin-password": {"secure": "v1:a:b"}, "private-llm:key-default": {"secure": "v1:c:d"}}


class Stack:
    """A stack file, its copy beside the state, and the calls of the CLI."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "Pulumi.dev.yaml"
        self.puts: list[str] = []
        self.fails_at = ""
        self.as_pulumi = cast("Pulumi", SimpleNamespace(stack="dev", file=self.file, call=self.call))

    @property
    def platform(self) -> Platform:
        return settings.platform(self.file)

    def call(self, *args: str, text: str = "", secret: bool = False) -> str:
        if args[2] == self.fails_at:
            raise KeyboardInterrupt
        self.puts.append(args[2])
        data = yaml.safe_load(self.file.read_text())
        data["config"][args[2]] = {"secure": "v1:new:new"} if secret else text
        self.file.write_text(yaml.safe_dump(data))
        return ""

    def tree(self, salt: str | None, values: dict[str, Any]) -> None:
        self.file.write_text(self.text(salt, values))

    def copy(self, salt: str, values: dict[str, Any]) -> None:
        settings.copy("dev").write_text(self.text(salt, values))

    @staticmethod
    def text(salt: str | None, values: dict[str, Any]) -> str:
        head = {"encryptionsalt": salt} if salt else {}
        return yaml.safe_dump({**head, "config": {settings.PLATFORM: PLATFORM, **values}})

    @property
    def config(self) -> dict[str, Any]:
        return dict(settings.read(self.file).config)


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.setenv("PRIVATE_LLM_STATE", str(tmp_path / "state"))
    return Stack(tmp_path)


def quiet(_line: str) -> None:
    """Nobody listens."""


def test_a_tree_without_salt_gets_salt_and_secrets_back(stack: Stack) -> None:
    stack.tree(None, {})
    stack.copy("v1:old", OLD)
    settings.restore_lost(stack.as_pulumi, stack.platform, quiet)
    assert settings.read(stack.file).salt == "v1:old"
    assert OLD.items() <= stack.config.items()


def test_a_key_that_an_older_checkout_lacks_is_put_back_and_not_made_again(stack: Stack) -> None:
    stack.tree("v1:old", {"private-llm:admin-password": OLD["private-llm:admin-password"]})
    stack.copy("v1:old", {**OLD, "private-llm:key-gone-consumer": {"secure": "v1:e:f"}})
    settings.restore_lost(stack.as_pulumi, stack.platform, quiet)
    assert stack.config["private-llm:key-default"] == OLD["private-llm:key-default"]
    assert "private-llm:key-gone-consumer" not in stack.config
    assert stack.file.read_text().count("encryptionsalt") == 1


def test_secrets_under_another_salt_are_refused_with_both_files_and_left_alone(stack: Stack) -> None:
    stack.tree("v1:new", {})
    stack.copy("v1:old", OLD)
    before = stack.file.read_text()
    with pytest.raises(OpsError, match=r"Pulumi\.dev\.yaml has another encryptionsalt(.|\n)*fix: remove the"):
        settings.restore_lost(stack.as_pulumi, stack.platform, quiet)
    assert stack.file.read_text() == before


def test_the_fix_that_the_refusal_names_works(stack: Stack) -> None:
    stack.tree(None, {})
    stack.copy("v1:old", OLD)
    settings.restore_lost(stack.as_pulumi, stack.platform, quiet)
    settings.restore_lost(stack.as_pulumi, stack.platform, quiet)
    assert OLD.items() <= stack.config.items()


def test_another_salt_with_all_secrets_is_a_changed_passphrase(stack: Stack) -> None:
    stack.tree("v1:new", OLD)
    stack.copy("v1:old", OLD)
    settings.restore_lost(stack.as_pulumi, stack.platform, quiet)
    settings.keep_copy(stack.as_pulumi)
    saved = settings.copy("dev")
    assert settings.read(saved).salt == "v1:new"
    assert settings.read(saved.with_name("dev.yaml.bak")).salt == "v1:old"


def test_the_copy_keeps_keys_that_the_tree_has_no_more(stack: Stack) -> None:
    stack.tree("v1:old", {"private-llm:admin-password": {"secure": "v1:changed:x"}})
    stack.copy("v1:old", OLD)
    settings.keep_copy(stack.as_pulumi)
    kept = settings.read(settings.copy("dev")).config
    assert kept["private-llm:key-default"] == OLD["private-llm:key-default"]
    assert kept["private-llm:admin-password"] == {"secure": "v1:changed:x"}


def test_an_authority_whose_making_was_interrupted_is_made_again(stack: Stack) -> None:
    stack.tree("v1:old", {})
    settings.renew_ca(stack.as_pulumi, stack.platform, quiet)
    stack.fails_at = settings.CA_CERTIFICATE
    with pytest.raises(KeyboardInterrupt):
        settings.renew_ca(stack.as_pulumi, stack.platform, quiet)
    stack.fails_at, stack.puts = "", []
    settings.restore_lost(stack.as_pulumi, stack.platform, quiet)
    settings.ensure_ca(stack.as_pulumi, stack.platform, set(stack.config), quiet)
    assert stack.puts == [settings.CA_KEY, settings.CA_CERTIFICATE]
    stack.puts = []
    settings.ensure_ca(stack.as_pulumi, stack.platform, set(stack.config), quiet)
    assert stack.puts == []


class TestKeysOfEngines:
    """Nobody can generate what somebody else's engine wants."""

    def keyed(self, stack: Stack, **values: object) -> None:
        box: dict[str, Any] = {"name": "box", "urls": ["https://api.example.org"], "key": True}
        wanted: dict[str, Any] = {**PLATFORM, "upstreams": [box]}
        wanted["models"] = [*wanted["models"], {"name": "far", "engine": "box"}]
        data = {settings.PLATFORM: wanted, **OLD, **values}
        stack.file.write_text(yaml.safe_dump({"encryptionsalt": "v1:old", "config": data}))

    def test_one_that_is_missing_is_told_with_the_command(self, stack: Stack) -> None:
        self.keyed(stack)
        (said,) = stack.platform.lacking(lambda key: f"private-llm:{key}" in stack.config)
        assert "`pulumi config set --secret private-llm:engine-key-box`" in said

    def test_one_that_is_there_is_not_asked_for(self, stack: Stack) -> None:
        self.keyed(stack, **{"private-llm:engine-key-box": {"secure": "v1:x:y"}})
        assert stack.platform.lacking(lambda key: f"private-llm:{key}" in stack.config) == []
