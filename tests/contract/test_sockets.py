"""WebSockets: only where the chat has them, and only for its own pages."""

from __future__ import annotations

import base64
import os
from typing import Final

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.contract.target import Answer, Client
from tests.contract.world import World

SOCKET: Final = "/ws/socket.io/"


def asked(client: Client, path: str, origin: str | None, method: str = "GET") -> Answer:
    """The answer to a request for an upgrade."""
    nonce = base64.b64encode(os.urandom(16)).decode()
    line = f"\nOrigin: {origin}" if origin else ""
    upgrade = f"Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: {nonce}"
    return client.raw(f"{method} {path} HTTP/1.1\nHost: {client.host}{line}\n{upgrade}")


def test_a_page_of_the_chat_talks_over_one(world: World) -> None:
    client = world.client()
    address = client.url.replace("https", "wss") + SOCKET + "?EIO=4&transport=websocket"
    with connect(address, ssl=client.trust, origin=client.url, proxy=None) as socket:  # type: ignore[arg-type]
        for text in ("hello", "wörld"):
            socket.send(text)
            assert socket.recv(timeout=10) == text
    [seen] = world.asked
    assert seen.target.startswith(SOCKET)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost", "https://localhost:1", None])
def test_no_other_page_can_open_one(client: Client, origin: str | None) -> None:
    answer = asked(client, SOCKET, origin)
    assert answer.status == 403
    assert answer.json()["error"]["code"] == "origin_not_allowed"


@pytest.mark.parametrize("path", ["/", "/api/config", "/v1/models", "/health", "/ollama/api/tags", "/nonsense"])
def test_nothing_else_is_upgraded(client: Client, path: str) -> None:
    assert asked(client, path, client.url).status not in (0, 101)


def test_a_post_is_not_upgraded(client: Client) -> None:
    assert asked(client, SOCKET, client.url, "POST").status not in (0, 101)


def test_upstreams_hear_of_no_upgrade(world: World) -> None:
    client = world.client()
    for path in ("/", "/api/config", "/v1/models"):
        asked(client, path, client.url)
    assert [seen.target for seen in world.asked] == ["/", "/api/config"]
    assert [value for seen in world.asked for value in seen.values("Upgrade")] == []


def test_a_key_of_the_gateway_opens_none(world: World) -> None:
    client = world.client()
    address = client.url.replace("https", "wss") + SOCKET
    key = {"Authorization": f"Bearer {client.key}"}
    with (
        pytest.raises(InvalidStatus) as caught,
        connect(address, ssl=client.trust, origin=client.url, additional_headers=key, proxy=None),  # type: ignore[arg-type]
    ):
        pass
    assert caught.value.response.status_code == 401
    assert world.asked == []
