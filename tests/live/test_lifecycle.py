"""A day in a platform's life: nothing to do, a container killed, a file edited, a key changed, destroyed, back again.

The tests stand in the order of that day and share one platform; each leaves it up and answering.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.live import sweep
from tests.support.live.bystander import Bystander
from tests.support.live.platform import DATA, Ended, Platform
from tests.support.live.waits import until
from tests.support.live.webui import WebUI

pytestmark = pytest.mark.usefixtures("bystander")

TITLE = "A chat that must survive"


def made(ended: Ended) -> str:
    """The key that a command printed, alone on its line."""
    (key,) = [line for line in ended.text.splitlines() if line.startswith("sk-")]
    return key


def changes(text: str) -> dict[str, int]:
    """The change summary of `pulumi preview --json`, without what stays as it is."""
    found: dict[str, Any] = json.loads(text)["changeSummary"]
    assert found.pop("same") > 40, "it compared next to nothing"
    return found


def starts(platform: Platform) -> dict[str, str]:
    """When each running container was started."""
    return {name: platform.inspect(name)["State"]["StartedAt"] for name in platform.running()}


def chats(webui: WebUI) -> list[str]:
    """Titles of the saved chats."""
    return [chat["title"] for chat in webui.json("GET", "/api/v1/chats/")]


@pytest.fixture(scope="module")
def saved_chat(webui: WebUI) -> str:
    """A chat saved by the chat's own API; its id."""
    messages = [{"id": "1", "role": "user", "content": "Remember the glacier."}]
    chat = {"title": TITLE, "models": [webui.model], "messages": messages, "history": {"messages": {}}}
    return str(webui.json("POST", "/api/v1/chats/new", json={"chat": chat})["id"])


class TestNothingToDo:
    def test_a_second_up_changes_nothing(self, platform: Platform) -> None:
        before = starts(platform)
        said = platform.up().text
        assert "unchanged" in said
        assert not [word for word in ("created", "updated", "replaced", "deleted") if f" {word}\n" in said], said
        assert starts(platform) == before

    def test_there_is_no_drift(self, platform: Platform) -> None:
        assert changes(platform.pulumi("preview", "--refresh", "--json")) == {}

    def test_a_change_would_be_seen(self, platform: Platform) -> None:
        """The control: the same command with something to find."""
        platform.configure(lambda config: config.update(chat={"title": "Another title"}))
        try:
            assert changes(platform.pulumi("preview", "--json"))
        finally:
            platform.configure(lambda config: config.pop("chat"))

    def test_looking_changes_nothing_either(self, platform: Platform) -> None:
        for command in ("preview", "status", "doctor"):
            platform.ops(command).good()


class TestRepair:
    def test_a_killed_container_is_started_again(self, platform: Platform) -> None:
        platform.docker.run(["kill", platform.name("ollama")])
        until("ollama is down", lambda: "ollama" not in platform.running(), 20)
        platform.up()
        platform.wait_healthy("ollama")
        platform.wait_answering()

    def test_a_removed_container_and_an_edited_file_are_put_right_in_one_go(self, platform: Platform) -> None:
        """The file is the gateway's configuration, edited in its volume as a person with root would."""
        platform.docker.run(["rm", "-f", platform.name("prometheus")])
        volume = platform.name("gateway-config-files")
        script = "sed -i 's#/v1/models#/v1/secret#g' /v/caddy.json && grep -c /v1/secret /v/caddy.json"
        platform.docker.run(
            [
                "run",
                "--rm",
                "--user=0:0",
                "--network=none",
                "-v",
                f"{volume}:/v",
                platform.image("base"),
                "sh",
                "-c",
                script,
            ]
        )
        platform.docker.run(["restart", platform.name("gateway")], limit=60)
        session = platform.session(platform.key())
        refused = until(
            "the edited file is in force", lambda: session.get(f"{platform.url}/v1/models", timeout=5).status_code, 30
        )
        assert refused == 404
        said = platform.up().text
        assert "drift" in said
        assert "caddy.json" in said
        assert session.get(f"{platform.url}/v1/models", timeout=20).status_code == 200
        platform.wait_healthy("prometheus")
        assert changes(platform.pulumi("preview", "--refresh", "--json")) == {}


class TestKeys:
    """A consumer comes, gets another key, and goes; the gateway follows within seconds and is never restarted."""

    def test_a_key_is_made_rotated_and_revoked_without_a_restart(self, platform: Platform) -> None:
        platform.configure(lambda settings: settings["consumers"].append({"name": "ann"}))
        first = made(platform.ops("key", NAME="ann").good())
        said = platform.up().text
        gateway = platform.inspect("gateway")
        session = platform.session()

        def status(key: str) -> int:
            headers = {"Authorization": f"Bearer {key}"}
            return session.get(f"{platform.url}/v1/models", headers=headers, timeout=5).status_code

        def within_5_s(**wanted: tuple[str, int]) -> None:
            for what, (key, answer) in wanted.items():
                until(what, lambda key=key, answer=answer: status(key) == answer, 5)

        within_5_s(the_key_is_taken=(first, 200))
        second = made(platform.ops("key", NAME="ann", ROTATE="1").good())
        said += platform.up().text
        within_5_s(the_new_key_is_taken=(second, 200), the_old_one_too=(first, 200))
        platform.ops("key", NAME="ann", REVOKE="1").good()
        said += platform.up().text
        within_5_s(neither_is_taken=(second, 401), nor_the_old=(first, 401), others_are=(platform.key(), 200))
        assert platform.inspect("gateway")["State"]["StartedAt"] == gateway["State"]["StartedAt"]
        assert platform.inspect("gateway")["Id"] == gateway["Id"]
        assert not [key for key in (first, second) if key in platform.ops("keys").good().text + said]


class TestDownAndDestroy:
    def test_down_stops_and_up_starts_again(self, platform: Platform) -> None:
        before = platform.running()
        platform.ops("down").good()
        assert platform.running() == {}
        platform.up()
        platform.wait_answering()
        assert platform.running().keys() == before.keys()
        assert platform.running()["chat"] == before["chat"]

    def test_destroy_keeps_the_data(self, platform: Platform, saved_chat: str) -> None:
        assert saved_chat
        said = platform.ops("destroy").good().text
        left = sweep.what_is_left(platform.docker, platform.stack)
        assert left == sorted(f"volume {platform.name(kind)}" for kind in DATA)
        assert all(platform.name(kind) in said for kind in DATA)

    def test_up_finds_the_chat_and_the_password_again(self, platform: Platform, saved_chat: str) -> None:
        password = platform.secret("admin-password")
        platform.up()
        platform.wait_answering()
        assert platform.secret("admin-password") == password
        webui = WebUI(platform).sign_in()
        assert TITLE in chats(webui)
        assert webui.json("GET", f"/api/v1/chats/{saved_chat}")["chat"]["title"] == TITLE
        assert webui.ask("Say hello.").text


def test_another_stack_on_the_same_host_notices_nothing(bystander: Bystander) -> None:
    """Containers, networks and volumes of another stack are as they were before all of this."""
    assert bystander.now() == bystander.before
