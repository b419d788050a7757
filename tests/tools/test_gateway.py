"""The rendered configuration in our real Caddy, asked over TLS: who gets in, and to what."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest
import requests

from stack.gateway import chat_routes, headers, places
from tests.conftest import recorded
from tests.support import tools
from tests.support.fakes import Fake, fake_chat, fake_engine
from tests.support.gateway import Running, running
from tests.support.samples import SAMPLES

SAMPLE: Final = SAMPLES["dev"]
KEYS: Final = {consumer.name: SAMPLE.canaries[f"key-{consumer.name}"] for consumer in SAMPLE.platform.consumers}
KEY: Final = KEYS["default"]  # chat, embeddings, native
CHAT_KEY: Final = KEYS["chat"]  # chat, embeddings
HELLO: Final = {"model": "default", "messages": [{"role": "user", "content": "hello"}]}
SECURE: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "X-XSS-Protection": "0",
}


@dataclass(frozen=True)
class World:
    """The gateway and the fakes behind it."""

    gateway: Running
    engine: Fake
    chat: Fake


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("gateway")
    with (
        fake_engine([model.name for model in SAMPLE.platform.models]) as engine,
        fake_chat() as chat,
        running(SAMPLE.platform, SAMPLE.parts, KEYS, folder, engine=engine.address, chat=chat.address) as gateway,
    ):
        yield World(gateway, engine, chat)


@pytest.fixture(autouse=True)
def _fresh(world: World) -> None:
    world.engine.asked.clear()
    world.chat.asked.clear()
    world.engine.go_on.set()


def refused(answer: requests.Response, status: int, code: str) -> None:
    """An error that a client of OpenAI's API can read, with the same headers as any answer."""
    assert (answer.status_code, answer.headers.get("Content-Type")) == (status, "application/json"), answer.text
    assert answer.json()["error"]["code"] == code
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Security-Policy"] == headers.API_CSP
    hardened(answer)


def hardened(answer: requests.Response) -> None:
    assert {name: answer.headers.get(name) for name in SECURE} == SECURE
    assert not {"Server", "Via", "X-Powered-By", "Access-Control-Allow-Origin"} & set(answer.headers)


class TestKeys:
    def test_without_a_key_nothing_is_told(self, world: World) -> None:
        answer = world.gateway.ask("/v1/models")
        refused(answer, 401, "missing_api_key")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")

    def test_a_wrong_key_is_told_nothing_more(self, world: World) -> None:
        refused(world.gateway.ask("/v1/models", "canary-of-somebody-else"), 401, "invalid_api_key")

    def test_the_right_key_sees_the_configured_models(self, world: World) -> None:
        answer = world.gateway.ask("/v1/models", KEY)
        assert answer.status_code == 200
        hardened(answer)
        listed = {model["id"] for model in answer.json()["data"]}
        assert listed == {name for m in SAMPLE.platform.models for name in (m.name, *m.aliases)}
        assert world.engine.asked == []

    def test_each_key_opens_its_scopes_alone(self, world: World) -> None:
        refused(world.gateway.ask("/ollama/api/tags", CHAT_KEY), 403, "missing_scope")
        assert world.gateway.ask("/ollama/api/tags", KEY).json()["models"][0]["name"] == "qwen3:0.6b"

    def test_what_holds_system_prompts_has_a_scope_of_its_own(self, world: World) -> None:
        refused(world.gateway.ask("/ollama/api/show", KEY, "POST", json={"model": "default"}), 403, "missing_scope")
        assert world.engine.asked == []

    def test_a_new_key_works_within_seconds_and_the_old_one_no_more(self, world: World) -> None:
        world.gateway.write_consumers(SAMPLE.platform, SAMPLE.parts, KEYS | {"default": "canary-new-key"})
        try:
            assert eventually(lambda: world.gateway.ask("/v1/models", "canary-new-key").status_code, 200) == 200
            assert world.gateway.ask("/v1/models", KEY).status_code == 401
        finally:
            world.gateway.write_consumers(SAMPLE.platform, SAMPLE.parts, KEYS)
            assert eventually(lambda: world.gateway.ask("/v1/models", KEY).status_code, 200) == 200

    def test_no_key_is_ever_logged(self, world: World) -> None:
        world.gateway.ask("/v1/models", KEY)
        world.gateway.ask("/v1/models", "canary-in-the-log")
        for name in ("X-Api-Key", "Api-Key", "x_api_key", "Anthropic-Api-Key", "Ocp-Apim-Subscription-Key"):
            world.gateway.ask("/v1/models", headers={name: f"canary-in-{name}"})
        world.gateway.ask("/v1/models?api_key=canary-in-the-query")
        world.gateway.ask("/logged-last?key=canary-in-another-query")
        assert eventually(lambda: "/logged-last?…" in world.gateway.log, wanted=True)
        assert world.gateway.log.count("/v1/models") >= 8
        assert "canary" not in world.gateway.log


def eventually(look: object, wanted: object, seconds: float = 5) -> object:
    """What a look says, asked again until it is what is wanted or the time is over."""
    deadline = time.monotonic() + seconds
    while (seen := look()) != wanted and time.monotonic() < deadline:  # type: ignore[operator]
        time.sleep(0.05)
    return seen


class TestModels:
    def test_a_chat_reaches_the_engine_under_the_models_own_name(self, world: World) -> None:
        answer = world.gateway.ask("/v1/chat/completions", KEY, "POST", json=HELLO)
        assert answer.json()["choices"][0]["message"]["content"] == "whole"
        assert world.engine.last.path == "/v1/chat/completions"
        assert b'"qwen3:0.6b"' in world.engine.last.body

    def test_credentials_stay_at_the_gateway(self, world: World) -> None:
        sent = {
            "Cookie": "token=canary-cookie",
            "X-Forwarded-User": "root",
            "Remote-User": "root",
            "X-Real-Ip": "1.2.3.4",
            "X-Forwarded-For": "1.2.3.4",
        }
        for path in ("/v1/chat/completions", "/ollama/api/chat"):
            assert world.gateway.ask(path, KEY, "POST", json=HELLO, headers=sent).ok
            seen = {name.lower(): value for name, value in world.engine.last.headers.items()}
            assert not {"authorization", "cookie", "x-forwarded-user", "remote-user", "x-real-ip"} & set(seen)
            assert "canary" not in str(seen)
            assert seen["x-forwarded-for"] == "127.0.0.1"

    def test_keys_of_the_api_stay_out_of_the_chat(self, world: World) -> None:
        for path, method in (("/api/config", "GET"), ("/api/v1/chats/new", "POST"), ("/ws/socket.io/", "GET")):
            refused(world.gateway.ask(path, "sk-canary", method), 401, "wrong_credential")
        assert world.chat.asked == []
        sent = {"Cookie": "token=its-own", "X-Api-Key": "canary-1", "Api-Key": "canary-2", "X-Goog-Api-Key": "canary-3"}
        assert world.gateway.ask("/api/config", "eyJ.its.own", headers=sent).ok
        seen = {name.lower(): value for name, value in world.chat.last.headers.items()}
        assert (seen["authorization"], seen["cookie"]) == ("Bearer eyJ.its.own", "token=its-own")
        assert "canary" not in str(seen)

    def test_odd_paths_are_refused_inside_too(self, world: World) -> None:
        request = requests.Request("GET", world.gateway.inside).prepare()
        request.url = f"{world.gateway.inside}/v1//models"
        with requests.Session() as session:
            assert session.send(request, timeout=5).status_code == 400

    def test_the_engine_sees_its_own_name(self, world: World) -> None:
        world.gateway.ask("/v1/chat/completions", KEY, "POST", json=HELLO)
        assert world.engine.last.headers["Host"] == world.engine.address

    @pytest.mark.parametrize("path", ["/v1/chat/completions", "/ollama/api/chat"])
    def test_a_streamed_answer_is_not_held_back(self, world: World, path: str) -> None:
        world.engine.go_on.clear()
        with world.gateway.ask(path, KEY, "POST", json=HELLO | {"stream": True}, stream=True) as answer:
            lines = answer.iter_lines(chunk_size=1)
            assert b"first" in next(lines)  # the engine has not sent the rest: it waits for us
            world.engine.go_on.set()
            rest = b"\n".join(lines).rstrip()
        assert b"second" in rest
        assert rest.endswith((b"data: [DONE]", b'"done": true}'))

    def test_embeddings(self, world: World) -> None:
        body = {"model": "embedding", "input": "a text"}
        answer = world.gateway.ask("/v1/embeddings", KEY, "POST", json=body)
        assert answer.json()["data"][0]["embedding"] == [0.5, 0.25]

    def test_an_unknown_model_is_named(self, world: World) -> None:
        answer = world.gateway.ask("/v1/chat/completions", KEY, "POST", json=HELLO | {"model": "gpt-4"})
        refused(answer, 404, "model_not_found")
        assert "gpt-4" in answer.json()["error"]["message"]

    def test_a_body_beyond_the_limit_is_refused(self, world: World) -> None:
        body = b'{"model":"default","messages":[{"role":"user","content":"' + b"a" * (33 * 1024 * 1024) + b'"}]}'
        try:
            answer = world.gateway.ask("/v1/chat/completions", KEY, "POST", data=body)
        except requests.ConnectionError:  # closed while we were still sending: refused as well
            assert world.engine.asked == []
        else:
            refused(answer, 413, "request_too_large")

    def test_health_needs_no_key_and_tells_only_yes(self, world: World) -> None:
        answer = world.gateway.ask("/health")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})

    @pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings"])
    def test_another_method_is_not_allowed(self, world: World, path: str) -> None:
        refused(world.gateway.ask(path, KEY), 405, "method_not_allowed")


class TestClosedDoors:
    @pytest.mark.parametrize(
        "path",
        ["pull", "push", "create", "delete", "copy", "blobs/sha256:0", "signout", "experimental/web_search"],
    )
    @pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "HEAD"])
    def test_models_cannot_be_managed(self, world: World, method: str, path: str) -> None:
        answer = world.gateway.ask(f"/ollama/api/{path}", KEY, method, json={"model": "x"})
        assert answer.status_code == 404
        assert world.engine.asked == []
        assert world.chat.asked == []

    @pytest.mark.parametrize(
        "path",
        [
            "/nonsense", "/metrics", "/live", "/config/", "/v1", "/v1/", "/v1/files", "/v1/fine_tuning/jobs", "/ollama",
            "/ollama/", "/ollama/v1/models", "/docs", "/openapi.json", "/openai/chat/completions",
            "/api/v1/functions/create", "/api/v1/tools/id/x/valves", "/api/v1/pipelines/add", "/api/v1/scim/v2/Users",
            "/api/v1/skills/create", "/api/v1/functions/%66ree", "/.env",
            "/api/pull",
        ],
    )  # fmt: skip
    def test_what_is_not_listed_is_not_there(self, world: World, path: str) -> None:
        for method in ("GET", "POST"):
            refused(world.gateway.ask(path, KEY, method), 404, "not_found")
        assert world.engine.asked == []
        assert world.chat.asked == []

    @pytest.mark.parametrize(
        "path",
        [
            "//v1/models", "/v1//models", "/ollama/api/../api/pull", "/ollama/api/chat/../pull", "/ollama/./api/pull",
            "/ollama/api/%2e%2e/pull", "/ollama/api%2fpull", "/ollama/api%2Fpull", "/ollama/api/tags/%2E%2E/pull",
            "/ollama%5capi%5cpull", "/ollama\\api\\pull", "/ollama/api/tags;/pull", "/ollama/api/tags%3b/pull",
            "/ollama/api/%252e%252e/pull", "/v1/models%00", "/static/..;/api/v1/functions/", "/..", "/v1/models/..",
        ],
    )  # fmt: skip
    def test_odd_paths_are_refused_before_anything_reads_them(self, world: World, path: str) -> None:
        head = f"GET {path} HTTP/1.1\r\nHost: localhost:{world.gateway.https}\r\nAuthorization: Bearer {KEY}\r\n"
        answer = world.gateway.raw(head + "Connection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 "), answer[:200]
        assert world.engine.asked == []
        assert world.chat.asked == []

    @pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "gateway", "ollama", ""])
    def test_another_host_name_is_misdirected(self, world: World, host: str) -> None:
        answer = world.gateway.raw(f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
        assert answer.startswith((b"HTTP/1.1 421 ", b"HTTP/1.1 400 ")), answer[:200]
        assert b"x-frame-options: deny" in answer.lower() or answer.startswith(b"HTTP/1.1 400 ")

    def test_the_administration_of_caddy_is_off(self, world: World) -> None:
        with pytest.raises(requests.ConnectionError):
            requests.get("http://127.0.0.1:2019/config/", timeout=2)
        assert '"disabled": true' in (world.gateway.folder / "caddy.json").read_text()


class TestChat:
    def test_pages_pass_with_the_chats_own_cookie(self, world: World) -> None:
        sent = {"Cookie": "token=of-the-chat", "Authorization": "Bearer jwt-of-the-chat", "X-Forwarded-Email": "root@x"}
        answer = world.gateway.ask("/api/config", headers=sent)
        assert answer.json() == {"page": "/api/config"}
        assert answer.headers["Content-Security-Policy"] == chat_routes.CSP
        assert answer.headers["Set-Cookie"].startswith("token=t")
        hardened(answer)
        seen = {name.lower(): value for name, value in world.chat.last.headers.items()}
        assert seen["cookie"] == "token=of-the-chat"
        assert seen["authorization"] == "Bearer jwt-of-the-chat"
        assert "x-forwarded-email" not in seen
        assert seen["x-forwarded-proto"] == "https"

    @pytest.mark.parametrize("path", ["/", "/auth", "/c/some-chat", "/_app/version.json", "/static/favicon.png"])
    def test_pages_can_be_read_and_not_written(self, world: World, path: str) -> None:
        assert world.gateway.ask(path).status_code == 200
        refused(world.gateway.ask(path, method="POST"), 405, "method_not_allowed")

    @pytest.mark.parametrize("kind", ["functions", "tools", "skills"])
    def test_what_runs_code_on_the_server_can_be_listed_and_not_changed(self, world: World, kind: str) -> None:
        assert world.gateway.ask(f"/api/v1/{kind}/").status_code == 200
        world.chat.asked.clear()
        refused(world.gateway.ask(f"/api/v1/{kind}/", method="POST", json={}), 405, "method_not_allowed")
        refused(world.gateway.ask(f"/api/v1/{kind}/create", method="POST", json={}), 404, "not_found")
        assert world.chat.asked == []

    def test_a_foreign_page_cannot_open_a_socket(self, world: World) -> None:
        for upgrade in ({}, {"Upgrade": "websocket", "Connection": "Upgrade"}):
            sent = {"Origin": "https://evil.example", **upgrade}
            refused(world.gateway.ask("/ws/socket.io/", headers=sent), 403, "origin_not_allowed")
        assert world.chat.asked == []
        assert world.gateway.ask("/ws/socket.io/", headers={"Origin": world.gateway.url}).status_code == 200


class TestListeners:
    def test_plain_http_only_leads_to_https(self, world: World) -> None:
        for host in ("localhost", "127.0.0.1"):
            answer = requests.get(f"http://{host}:{world.gateway.http}/c/x?y=z", timeout=5, allow_redirects=False)
            wanted = f"https://{host}:{world.gateway.https}/c/x?y=z"
            assert (answer.status_code, answer.headers["Location"]) == (308, wanted)
            hardened(answer)
        foreign = requests.get(
            f"http://127.0.0.1:{world.gateway.http}/",
            headers={"Host": "evil.example"},
            timeout=5,
            allow_redirects=False,
        )
        refused(foreign, 421, "misdirected_request")

    def test_the_certificate_is_good_for_name_and_address(self, world: World) -> None:
        for host in ("localhost", "127.0.0.1"):
            url = f"https://{host}:{world.gateway.https}/health"
            assert requests.get(url, verify=world.gateway.ca, timeout=5).status_code == 200

    def test_the_inner_listener_has_the_api_with_a_key_and_no_pages(self, world: World) -> None:
        inside = world.gateway.inside
        assert requests.get(f"{inside}/v1/models", timeout=5).status_code == 401
        headers = {"Authorization": f"Bearer {CHAT_KEY}"}
        assert requests.get(f"{inside}/v1/models", headers=headers, timeout=5).status_code == 200
        assert requests.get(f"{inside}/", headers=headers, timeout=5).status_code == 404
        assert requests.get(f"{inside}/ollama/api/tags", headers=headers, timeout=5).status_code == 404

    def test_health_checks_and_scrapes_are_not_logged(self, world: World) -> None:
        for path in ("/live", "/metrics", "/logged-after"):
            requests.get(world.gateway.inside + path, timeout=5)
        assert eventually(lambda: "/logged-after" in world.gateway.log, wanted=True)
        inside = [line for line in world.gateway.log.splitlines() if f'"127.0.0.1:{world.gateway.inner}"' in line]
        assert [line for line in inside if '"/logged-after"' in line]
        assert [line for line in inside if '"/live"' in line or '"/metrics"' in line] == []

    def test_the_health_check_of_the_container_tells_up_from_down(self, world: World) -> None:
        check = recorded("dev").one("gateway-container").clear("healthcheck")["tests"]
        assert check[:2] == ["CMD", "caddy"]
        inner = f":{places.INNER_PORT}/"
        assert inner in check[-1]
        for port, up in ((world.gateway.inner, True), (1, False)):
            words = [word.replace(inner, f":{port}/") for word in check[2:]]
            done = subprocess.run([tools.caddy(), *words], capture_output=True, text=True, timeout=10, check=False)
            assert (done.returncode == 0) is up, done.stderr

    def test_metrics_count_tokens_by_consumer(self, world: World) -> None:
        world.gateway.ask("/v1/chat/completions", KEY, "POST", json=HELLO)
        text = requests.get(f"{world.gateway.inside}/metrics", timeout=5).text
        assert 'consumer="default"' in text
        assert "canary" not in text


def test_an_engine_that_is_gone_is_told_in_the_usual_form(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("alone")
    with running(SAMPLE.platform, SAMPLE.parts, KEYS, folder, engine="127.0.0.1:1", chat="127.0.0.1:1") as gateway:
        refused(gateway.ask("/v1/chat/completions", KEY, "POST", json=HELLO), 502, "engine_unreachable")
        refused(gateway.ask("/api/config"), 502, "unavailable")
        refused(gateway.ask("/ollama/api/tags", KEY), 502, "engine_unreachable")
        assert gateway.ask("/health").status_code == 503
        assert gateway.ask("/v1/models", KEY).status_code == 200
