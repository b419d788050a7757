"""What goes up and what comes down: no credential, no forged claim, nothing that another page could use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

import pytest

from tests.contract.expect import hardened
from tests.contract.target import NO_MODEL, Client
from tests.contract.world import HELLO, World, parsed, started

CHAT: Final = "/v1/chat/completions"
CLAIMS: Final = [
    "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Preferred-Username", "X-Real-IP",
    "True-Client-IP", "CF-Connecting-IP", "Forwarded", "Remote-User", "Remote-Email", "X-Remote-User", "X-Webauth-User",
    "X-Auth-Request-User", "Tailscale-User-Login", "X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override",
    "X-Method-Override", "X-Original-Host", "X-Host", "X-Client-IP", "X-Cluster-Client-IP", "X-Consumer",
]  # fmt: skip
TRUE: Final = ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"]


def spellings(name: str) -> list[str]:
    return [name, name.lower(), name.upper(), name.replace("-", "_"), name.replace("-", ".")]


def sent(world: World, path: str, lines: str, body: bytes = b"") -> None:
    """Asks with these header lines exactly."""
    client = world.client()
    key = f"Authorization: Bearer {client.key}\n" if path.startswith(("/v1", "/ollama")) else ""
    method = "POST" if body else "GET"
    kind = f"Content-Type: application/json\nContent-Length: {len(body)}\n" if body else ""
    head = f"{method} {path} HTTP/1.1\nHost: {client.host}\n{key}{kind}{lines}\nConnection: close"
    assert client.raw(head, body).status == 200


def seen(world: World, path: str, lines: str) -> list[tuple[str, str]]:
    """The headers that the upstream of a path sees, in lower case."""
    sent(world, path, lines, json.dumps(HELLO).encode() if path == CHAT else b"")
    [request] = world.asked
    return [(name.lower(), value) for name, value in request.headers]


@pytest.mark.parametrize("path", [CHAT, "/api/config"], ids=["engine", "chat"])
class TestClaims:
    @pytest.mark.parametrize("name", CLAIMS)
    def test_who_one_is_cannot_be_claimed(self, world: World, path: str, name: str) -> None:
        lines = "\n".join(f"{spelling}: forged" for spelling in spellings(name))
        assert [pair for pair in seen(world, path, lines) if "forged" in pair[1]] == []

    @pytest.mark.parametrize("name", TRUE)
    @pytest.mark.parametrize("hidden", [False, True], ids=["plain", "named-by-connection"])
    def test_there_is_one_true_address_host_and_protocol(
        self, world: World, path: str, name: str, *, hidden: bool
    ) -> None:
        lines = "\n".join(f"{spelling}: 1.2.3.4" for spelling in spellings(name))
        if hidden:
            lines += f"\nConnection: {name}"
        got = seen(world, path, lines)
        values = {one.lower(): [value for n, value in got if n == one.lower()] for one in TRUE}
        [address] = values["x-forwarded-for"]
        assert address.startswith("127.")
        assert values["x-forwarded-proto"] == ["https"]
        assert values["x-forwarded-host"] == [f"localhost:{world.gateway.https}"]
        assert len([value for n, value in got if n == "host"]) == 1
        assert "1.2.3.4" not in str(got)


class TestCredentials:
    @pytest.mark.parametrize("path", [CHAT, "/ollama/api/show"])
    def test_none_reaches_an_engine(self, world: World, path: str) -> None:
        client = world.client("shower")
        more = {"Cookie": "token=canary-cookie"}
        assert client.ask(path, "POST", json=HELLO, headers=more).status_code == 200
        [request] = world.asked
        assert "canary" not in request.head + request.body

    @pytest.mark.parametrize("name", ["X-Api-Key", "Api-Key", "Proxy-Authorization", "X-Goog-Api-Key", "Api_Key"])
    def test_a_second_one_is_not_handed_on(self, world: World, name: str) -> None:
        answer = world.client().ask(CHAT, "POST", json=HELLO, headers={name: "canary-of-another-service"})
        assert answer.status_code in (200, 400)
        assert "canary" not in "".join(request.head for request in world.asked)

    def test_the_chat_sees_its_own_and_no_other(self, world: World) -> None:
        lines = "Authorization: Bearer eyJ.its.own\nCookie: token=its-own\nX-Api-Key: canary-1\nApi-Key: canary-2\n"
        got = seen(world, "/api/config", lines + "X-Goog-Api-Key: canary-3\nProxy-Authorization: Basic canary-4")
        assert ("authorization", "Bearer eyJ.its.own") in got
        assert ("cookie", "token=its-own") in got
        assert "canary" not in str(got)

    def test_an_engine_sees_its_own_name(self, world: World) -> None:
        got = dict(seen(world, CHAT, "X-Nothing: x"))
        assert got["host"] == world.engine.address

    def test_cookies_of_the_chat_come_out(self, world: World) -> None:
        answer = world.client().ask("/api/config", key=None)
        assert answer.headers["Set-Cookie"].startswith("token=t")
        hardened(answer)


class TestOtherPages:
    """A page of another origin may ask only if the configuration names it; here it names none."""

    @pytest.mark.parametrize(
        "origin", ["https://evil.example", "null", "https://localhost.evil.example", "http://localhost", "file://"]
    )
    def test_they_may_not_read_answers(self, client: Client, origin: str) -> None:
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "a"}
        answers = [
            client.ask("/v1/models", headers={"Origin": origin}),
            client.ask(CHAT, "OPTIONS", key=None, headers=asked),
            client.ask(CHAT, "POST", json={"model": NO_MODEL}, headers={"Origin": origin}),
        ]
        for answer in answers:
            assert [name for name in answer.headers if name.lower().startswith("access-control-")] == []

    def test_what_an_engine_allows_does_not_come_out(self, world: World) -> None:
        world.engine.play(headers=[["Access-Control-Allow-Origin", "*"], ["Server", "engine"], ["Set-Cookie", "a=b"]])
        answer = world.client().ask(CHAT, "POST", json=HELLO, headers={"Origin": "https://evil.example"})
        assert answer.status_code == 200
        assert "Access-Control-Allow-Origin" not in answer.headers
        hardened(answer)


ORIGIN: Final = "https://app.example.org"


@pytest.fixture(scope="module")
def open_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A gateway that knows a page."""
    with started(tmp_path_factory.mktemp("cors"), parsed(cors={"origins": [ORIGIN]})) as world:
        yield world


@pytest.mark.own
class TestPagesThatTheConfigurationNames:
    def test_a_browser_is_told_what_they_may_send(self, open_world: World) -> None:
        asked = {
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang",
        }
        answer = open_world.client().ask(CHAT, "OPTIONS", key=None, headers=asked)
        assert answer.status_code == 204
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        allowed = {name.strip().lower() for name in answer.headers["Access-Control-Allow-Headers"].split(",")}
        assert {"authorization", "content-type", "x-stainless-lang"} <= allowed
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert open_world.asked == []

    def test_they_may_read_answers_and_errors(self, open_world: World) -> None:
        client, sent = open_world.client(), {"Origin": ORIGIN}
        for answer in (client.ask("/v1/models", headers=sent), client.ask("/v1/files", headers=sent)):
            assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
            assert "Origin" in answer.headers["Vary"]
            hardened(answer)

    def test_others_may_not(self, open_world: World) -> None:
        for origin in ("https://evil.example", f"{ORIGIN}.evil.example", "http://app.example.org"):
            answer = open_world.client().ask("/v1/models", headers={"Origin": origin})
            assert "Access-Control-Allow-Origin" not in answer.headers
            assert "Origin" in answer.headers["Vary"]
