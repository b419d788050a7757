"""The chat UI's routes: what its pages need, and nothing that runs code on the server."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from stack.config.gateway import Gateway
from stack.gateway import chat_routes
from tests.support.patterns import among

RENDERED: list[dict[str, Any]] = json.loads(
    json.dumps(
        [
            route.model_dump(exclude_none=True, by_alias=True)
            for route in chat_routes.render(Gateway(), "chat:8080", own_keys=False)
            if route.handle[-1].handler == "reverse_proxy"
        ]
    )
)


def opened(method: str, path: str, **headers: str) -> bool:
    """Whether some route takes the request; a pattern is a path or a prefix that ends in `/*`."""
    return any(_matches(match, method, path, headers) for route in RENDERED for match in route["match"])


def _matches(match: dict[str, Any], method: str, path: str, headers: dict[str, str]) -> bool:
    if method not in match["method"]:
        return False
    if not among(match["llm_path"], path):
        return False
    return all(
        headers.get(name) is None if wanted is None else headers.get(name) in wanted
        for name, wanted in match.get("header", {}).items()
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"), ("GET", "/c/some-chat"), ("GET", "/_app/immutable/x.js"), ("GET", "/api/config"),
        ("POST", "/api/chat/completions"), ("POST", "/api/v1/auths/signin"), ("POST", "/api/v1/files/"),
        ("POST", "/api/v1/chats/new"), ("DELETE", "/api/v1/chats/x"), ("POST", "/api/v1/knowledge/create"),
        ("GET", "/api/v1/tools/"), ("GET", "/manifest.json"),
        # With these a load makes and removes the accounts of its people.
        ("POST", "/api/v1/auths/add"), ("GET", "/api/v1/users/"), ("DELETE", "/api/v1/users/x"),
        ("GET", "/api/v1/files/"), ("DELETE", "/api/v1/files/x"),
    ],
)  # fmt: skip
def test_what_the_pages_need_is_open(method: str, path: str) -> None:
    assert opened(method, path)


@pytest.mark.parametrize("own_keys", [False, True])
@pytest.mark.parametrize(
    ("credential", "whose"),
    [
        ("Bearer eyJhbGciOi.eyJpZCI6.x_sk-y", "the chat"),
        ("Basic YTpi", "nobody"),
        ("basic\tYTpi", "nobody"),
        ("Bearer sk-key", "either"),
        ("bearer sk-key", "either"),
        ("bearer\tsk-key", "nobody"),
        ("sk-key", "nobody"),
        ("Bearer eyJ.x.y, sk-key", "nobody"),
        ("Bearer eyJ.x.y Basic YTpi", "nobody"),
        ("Bearer", "the chat"),
        ("Bearer undefined", "the chat"),
        ("", "nobody"),
        ("Bear eyJ.x.y", "nobody"),
        ("Bearers eyJ.x.y", "nobody"),
        ("Token eyJ.x.y", "nobody"),
        ("Digest username=x", "nobody"),
        ("Negotiate YTpi", "nobody"),
        ("eyJ.x.y", "nobody"),
    ],
)
def test_credentials_of_the_gateway_are_refused_unless_the_chat_has_such_itself(
    own_keys: bool, credential: str, whose: str
) -> None:
    first = chat_routes.render(Gateway(), "chat:8080", own_keys=own_keys)[0]
    assert first.match
    assert first.match[0].header_regexp
    assert first.handle[0].handler == "llm_error"
    pattern = first.match[0].header_regexp["Authorization"]["pattern"]
    refused = whose == "nobody" or (whose == "either" and not own_keys)
    assert bool(re.search(pattern, credential)) is refused


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/functions/create", "/api/v1/tools/create", "/api/v1/tools/id/x/update", "/api/v1/skills/create",
        "/api/v1/pipelines/upload", "/api/v1/scim/v2/Users", "/ollama/api/tags", "/openai/models", "/docs",
        "/openapi.json", "/v1/models", "/metrics", "/health", "/api/v1/terminals/x/ws", "/api/v1/audio/transcriptions",
        "/api/v1/images/generations", "/api/webhook", "/nonsense",
    ],
)  # fmt: skip
def test_what_runs_code_or_goes_round_the_gateway_is_closed(method: str, path: str) -> None:
    assert not opened(method, path)


@pytest.mark.parametrize(
    "path", ["/api/v1/tools/", "/api/v1/functions/", "/api/v1/skills/list", "/auth", "/admin/users"]
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_lists_and_pages_can_only_be_read(method: str, path: str) -> None:
    assert opened("GET", path)
    assert not opened(method, path)


@pytest.mark.parametrize("path", ["/api/v1/chats/x/y/z", "/api/v1/chats//pin", "/api/v1/chats/x/", "/API/v1/chats/x"])
def test_a_parameter_is_one_segment(path: str) -> None:
    assert opened("GET", "/api/v1/chats/x")
    assert not opened("GET", path)


def test_what_the_pages_ask_for_and_is_not_set_there_is_answered_here() -> None:
    answers = {route.match[0].llm_path[0]: route.handle for route in chat_routes.blank(Gateway()) if route.match}
    assert "/openai/config" in answers
    for path, (limit, answer) in answers.items():
        assert (limit.handler, answer.handler) == ("llm_limit", "static_response")
        assert not opened("GET", path)


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "OPTIONS", "PROPFIND"])
def test_other_methods_are_closed(method: str) -> None:
    assert not opened(method, "/")
    assert not opened(method, "/api/config")


SOCKET = "/ws/socket.io/"
OURS = "https://localhost:8443"


@pytest.mark.parametrize("ours", [OURS, "https://127.0.0.1:8443"])
def test_a_socket_opens_for_our_own_pages(ours: str) -> None:
    assert opened("GET", SOCKET, Origin=ours, Upgrade="websocket")


@pytest.mark.parametrize(
    "headers", [{}, {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": f"{OURS}.evil"}]
)
def test_a_socket_opens_for_nobody_else(headers: dict[str, str]) -> None:
    assert not opened("GET", SOCKET, Upgrade="websocket", **headers)


def test_where_sockets_are_shut_off_our_own_pages_may_ask_again_and_again() -> None:
    assert opened("GET", SOCKET)
    assert opened("POST", SOCKET, Origin=OURS)
    assert not opened("POST", SOCKET)
    assert not opened("GET", SOCKET, Origin="https://evil.example")
    assert not opened("GET", SOCKET, Upgrade="h2c", Origin=OURS)


def test_only_sockets_are_upgraded() -> None:
    socket, *others = RENDERED
    assert "Upgrade" not in socket["handle"][-1]["headers"]["request"]["delete"]
    assert socket["match"][0]["header"]["Upgrade"] == ["websocket", "WebSocket"]
    assert others
    for route in others:
        assert "Upgrade" in route["handle"][-1]["headers"]["request"]["delete"]
