"""Names, certificates, other origins and the administrators' listener, in our real Caddy."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import requests
import yaml

from stack.config.explain import parse_platform
from stack.config.model import Platform
from stack.gateway import admin_routes, headers
from tests.support.fakes import Fake, fake_chat, fake_engine
from tests.support.gateway import Running, running
from tests.support.samples import SAMPLES

SAMPLE: Final = SAMPLES["public"]
KEYS: Final = {consumer.name: f"canary-key-{consumer.name}" for consumer in SAMPLE.platform.consumers}
APP: Final = "https://app.example.org"


def platform(**gateway: Any) -> Platform:
    """The public sample with other settings of the gateway."""
    tree = yaml.safe_load(SAMPLE.stack_file.read_text())["config"]["private-llm:platform"]
    tree["gateway"] |= gateway
    return parse_platform(tree, source="test")


@dataclass(frozen=True)
class World:
    gateway: Running
    engine: Fake
    chat: Fake
    pages: Fake

    def admin(self, path: str, method: str = "GET", sent: Mapping[str, str] | None = None, key: str = "boss") -> Any:
        """A browser that signed in by Basic."""
        return requests.request(
            method,
            f"https://localhost:{self.gateway.admin}{path}",
            headers=sent,
            auth=(key, KEYS[key]),
            verify=self.gateway.ca,
            timeout=10,
            allow_redirects=False,
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("public")
    with (
        fake_engine([model.name for model in SAMPLE.platform.models]) as engine,
        fake_chat() as chat,
        fake_chat() as pages,
        running(
            platform(), SAMPLE.parts, KEYS, folder,
            engine=engine.address, chat=chat.address, grafana=pages.address, prometheus=pages.address,
        ) as gateway,
    ):  # fmt: skip
        yield World(gateway, engine, chat, pages)


@pytest.fixture(autouse=True)
def _fresh(world: World) -> None:
    world.chat.asked.clear()
    world.pages.asked.clear()


def code(body: bytes) -> str:
    """The code of an error in OpenAI's shape."""
    return str(json.loads(body)["error"]["code"])


class TestNames:
    """The given certificate is good for each: a client would refuse another."""

    def test_the_chat_is_under_its_own_name_alone(self, world: World) -> None:
        answer, _ = world.gateway.at("chat.example.org", "/")
        assert answer.status == 200
        for host in ("llm.example.org", "api.example.org"):
            answer, body = world.gateway.at(host, "/")
            assert (answer.status, code(body)) == (404, "not_found")

    def test_the_api_is_under_its_own_name_alone(self, world: World) -> None:
        sent = {"Authorization": f"Bearer {KEYS['default']}"}
        answer, body = world.gateway.at("api.example.org", "/v1/models", headers=sent)
        assert answer.status == 200, body
        for host in ("llm.example.org", "chat.example.org"):
            assert world.gateway.at(host, "/v1/models", headers=sent)[0].status == 404

    def test_health_is_under_each(self, world: World) -> None:
        assert {world.gateway.at(f"{name}.example.org", "/health")[0].status for name in ("llm", "chat", "api")} == {
            200
        }

    def test_the_machines_own_name_is_none_of_them(self, world: World) -> None:
        answer, body = world.gateway.at("llm.example.org", "/health", headers={"Host": "localhost"})
        assert (answer.status, code(body)) == (421, "misdirected_request")

    def test_plain_http_leads_to_the_same_name(self, world: World) -> None:
        answer = requests.get(
            f"http://127.0.0.1:{world.gateway.http}/x?y",
            headers={"Host": f"chat.example.org:{world.gateway.http}"},
            timeout=5,
            allow_redirects=False,
        )
        assert answer.headers["Location"] == f"https://chat.example.org:{world.gateway.https}/x?y"

    @pytest.mark.parametrize("path", ["/", "/nonsense", "/v1/models", "/health"])
    def test_whoever_came_once_comes_encrypted_for_a_year(self, world: World, path: str) -> None:
        answer, _ = world.gateway.at("chat.example.org", path)
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


class TestOrigins:
    def ask(self, world: World, method: str, origin: str, **sent: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in sent.items()}
        return world.gateway.at("api.example.org", "/v1/models", method, {"Origin": origin, **named})[0]

    def test_a_listed_page_is_told_what_it_may_send(self, world: World) -> None:
        answer = self.ask(
            world, "OPTIONS", APP, Access_Control_Request_Method="POST", Access_Control_Request_Headers="authorization"
        )
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (204, APP)
        assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
        assert answer.headers["Vary"] == "Origin"
        assert "Access-Control-Allow-Credentials" not in answer.headers

    def test_a_listed_page_may_read_answers_and_errors(self, world: World) -> None:
        for sent, status in (({"Authorization": f"Bearer {KEYS['default']}"}, 200), ({}, 401)):
            answer = self.ask(world, "GET", APP, **sent)
            assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (status, APP)
            assert answer.headers["Vary"] == "Origin"

    @pytest.mark.parametrize(
        "origin", ["https://evil.example", "null", f"{APP}.evil.example", APP.upper(), f"{APP}:443"]
    )
    def test_any_other_page_may_not(self, world: World, origin: str) -> None:
        for method in ("OPTIONS", "GET"):
            answer = self.ask(world, method, origin, Access_Control_Request_Method="POST")
            assert "Access-Control-Allow-Origin" not in answer.headers
            assert answer.headers["Vary"] == "Origin"

    def test_an_engine_that_fails_is_told_too(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        folder = tmp_path_factory.mktemp("gone")
        closed = "127.0.0.1:1"
        with running(platform(), SAMPLE.parts, KEYS, folder, engine=closed, chat=closed) as gateway:
            sent = {"Authorization": f"Bearer {KEYS['default']}", "Origin": APP, "Content-Type": "application/json"}
            answer, _ = gateway.at("api.example.org", "/v1/chat/completions", "POST", sent)
            assert answer.headers["Access-Control-Allow-Origin"] == APP
            answer, body = gateway.at("chat.example.org", "/api/config")
            assert (answer.status, code(body)) == (502, "unavailable")
            assert answer.headers["Strict-Transport-Security"]
            assert answer.headers[headers.CSP] == headers.API_CSP


class TestAdministrators:
    def test_a_browser_is_asked_for_name_and_key(self, world: World) -> None:
        answer = requests.get(f"https://localhost:{world.gateway.admin}/grafana/", verify=world.gateway.ca, timeout=5)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "missing_api_key")
        assert "Basic" in answer.headers["WWW-Authenticate"]
        assert world.pages.asked == []

    def test_the_scope_opens_it_and_no_other(self, world: World) -> None:
        assert world.admin("/grafana/d/x").status_code == 200
        assert world.admin("/grafana/", key="default").status_code == 403
        assert [asked.path for asked in world.pages.asked] == ["/grafana/d/x"]

    def test_grafana_has_its_own_cookie_and_never_our_key(self, world: World) -> None:
        assert world.admin("/grafana/", sent={"Cookie": "grafana_session=x"}).ok
        seen = {name.lower(): value for name, value in world.pages.last.headers.items()}
        assert seen["cookie"] == "grafana_session=x"
        assert "authorization" not in seen
        assert "canary" not in str(seen)

    def test_prometheus_does_not_know_of_its_path(self, world: World) -> None:
        answer = world.admin("/prometheus/api/v1/query?query=up")
        assert answer.status_code == 200
        assert world.pages.last.path == "/api/v1/query?query=up"
        assert answer.headers[headers.CSP] == admin_routes.CSP
        assert "Strict-Transport-Security" not in answer.headers

    def test_its_root_leads_to_grafana(self, world: World) -> None:
        for path in ("/", "/grafana"):
            assert world.admin(path).headers["Location"] == "/grafana/"

    @pytest.mark.parametrize(
        ("method", "sent"),
        [
            ("POST", {"Origin": "https://evil.example"}),
            ("GET", {"Origin": "https://evil.example"}),
            ("POST", {"Origin": "null"}),
            ("POST", {"Sec-Fetch-Site": "cross-site"}),
            ("GET", {"Origin": "https://evil.example", "Upgrade": "websocket", "Connection": "Upgrade"}),
        ],
    )
    def test_another_sites_page_cannot_use_the_browsers_sign_in(
        self, world: World, method: str, sent: dict[str, str]
    ) -> None:
        answer = world.admin("/grafana/api/x", method, sent)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "origin_not_allowed")
        assert world.pages.asked == []

    def test_its_own_pages_can(self, world: World) -> None:
        origin = f"https://localhost:{world.gateway.admin}"
        assert world.admin("/grafana/api/x", "POST", {"Origin": origin, "Sec-Fetch-Site": "same-origin"}).ok

    def test_it_has_nothing_of_the_others(self, world: World) -> None:
        for path in ("/v1/models", "/api/config", "/metrics", "/nonsense"):
            assert world.admin(path).status_code == 404

    def test_a_foreign_name_is_misdirected(self, world: World) -> None:
        assert world.admin("/grafana/", sent={"Host": "evil.example"}).status_code == 421


class TestCertificates:
    def test_a_given_one_is_shown(self, world: World, tmp_path: Path) -> None:
        answer, _ = world.gateway.at("api.example.org", "/health")
        assert answer.status == 200

    def test_our_own_authority_vouches_for_no_public_name(self, world: World) -> None:
        config = json.loads((world.gateway.folder / "caddy.json").read_text())["apps"]
        assert config["tls"]["certificates"]["automate"] == ["localhost", "127.0.0.1"]
