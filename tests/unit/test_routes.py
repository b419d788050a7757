"""The gateway's routes: an allow-list in which order is order."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from stack.config.gateway import Gateway
from stack.config.model import Model, Role
from stack.gateway import routes
from stack.gateway.addresses import origin, origins
from stack.parts import served
from tests.support.samples import SAMPLES

MODELS = served((Model(name="m", aliases=("default",)), Model(name="e", role=Role.EMBEDDING)), SAMPLES["dev"].parts)
ENGINE = "ollama:11434"


def rendered(settings: Gateway | None = None, chat: str | None = "chat:8080") -> dict[str, Any]:
    upstreams = routes.Upstreams(engine=ENGINE, chat=chat)
    config: dict[str, Any] = json.loads(routes.render(settings or Gateway(), MODELS, upstreams).to_json())
    return config


def server(name: str, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = rendered(**more)["apps"]["http"]["servers"][name]
    return found


def handlers(tree: Any) -> list[dict[str, Any]]:
    """Every handler, however deep."""
    if isinstance(tree, list):
        return [handler for part in tree for handler in handlers(part)]
    if not isinstance(tree, dict):
        return []
    own = [tree] if "handler" in tree else []
    return own + [handler for part in tree.values() for handler in handlers(part)]


def routes_to(name: str, listener: str = "https") -> list[dict[str, Any]]:
    return [r for r in server(listener)["routes"] if any(h["handler"] == name for h in r["handle"])]


class TestOrder:
    def test_headers_then_host_then_path_come_before_every_door(self) -> None:
        first, second, third, fourth, *_ = server("https")["routes"]
        assert first["handle"][0]["response"]["deferred"] is True
        assert second["handle"][0]["status"] == 421
        assert third["handle"][0]["status"] == 400
        assert "Forwarded" in fourth["handle"][0]["request"]["delete"]

    def test_every_route_ends_the_search_but_those_that_only_change_headers(self) -> None:
        for listener in ("https", "inner"):
            *before, last = server(listener)["routes"]
            assert before
            passing = [r for r in before if not r.get("terminal")]
            assert {h["handler"] for r in passing for h in r["handle"]} <= {"headers"}
            assert (last["handle"][0]["handler"], last["handle"][0]["status"]) == ("llm_error", 404)
            assert "match" not in last

    @pytest.mark.parametrize("listener", ["https", "inner"])
    def test_the_engine_is_never_reached_without_a_key(self, listener: str) -> None:
        doors = routes_to("reverse_proxy", listener)
        assert doors
        for route in doors:
            names = [handler["handler"] for handler in route["handle"]]
            dials = [u["dial"] for h in route["handle"] if h["handler"] == "reverse_proxy" for u in h["upstreams"]]
            if dials != ["chat:8080"]:
                assert names[0] == "llm_auth", f"{route.get('match')} opens the engine before it asks who is there"

    def test_every_door_names_its_methods(self) -> None:
        for route in routes_to("llm_auth"):
            assert all(match.get("method") for match in route["match"]), route["match"]

    def test_models_are_used_and_never_managed(self) -> None:
        paths = [p for r in routes_to("reverse_proxy") for m in r["match"] for p in m.get("path", [])]
        native = {path for path in paths if path.startswith("/ollama")}
        wanted = ("chat", "generate", "embed", "embeddings", "tags", "ps", "version")
        assert native == {f"/ollama/api/{name}" for name in wanted}


@pytest.mark.parametrize(
    "path",
    ["//x", "/a//b", "/a/../b", "/a/..", "/a/./b", "/a;b", "/a\\b", "/%2e%2e/", "/a/.",
     "/%2E/", "/a%2fb", "/%252e", "/%5c", "/%00"],
)  # fmt: skip
def test_an_odd_path_is_noticed(path: str) -> None:
    assert re.search(routes._ODD_PATH, path)


@pytest.mark.parametrize(
    "path",
    ["/", "/v1/models/qwen3:0.6b", "/c/a-b.c", "/..x", "/a..b", "/v1/models?x=//y/../z;%2e", "/%C3%A4", "/.well-known"]
)  # fmt: skip
def test_a_plain_path_is_left_alone(path: str) -> None:
    assert not re.search(routes._ODD_PATH, path)


class TestHosts:
    def test_only_our_names_are_answered(self) -> None:
        settings = Gateway(hostnames=("llm.home.arpa", "localhost"), address="::1")
        (match,) = server("https", settings=settings)["routes"][1]["match"]
        assert match == {"not": [{"host": ["llm.home.arpa", "localhost", "::1"]}]}

    def test_each_name_gets_a_certificate_of_our_own_authority(self) -> None:
        tls = rendered(Gateway(hostnames=("a.example", "b.example")))["apps"]["tls"]
        assert tls["certificates"]["automate"] == ["a.example", "b.example", "127.0.0.1"]
        (policy,) = tls["automation"]["policies"]
        assert policy == {
            "subjects": ["a.example", "b.example", "127.0.0.1"],
            "issuers": [{"module": "internal", "ca": "private-llm"}],
        }

    def test_a_client_without_a_name_gets_the_first_ones_certificate(self) -> None:
        settings = Gateway(hostnames=("a.example", "b.example"))
        assert server("https", settings=settings)["tls_connection_policies"] == [{"default_sni": "a.example"}]

    @pytest.mark.parametrize(
        ("host", "port", "wanted"),
        [
            ("localhost", 8443, "https://localhost:8443"),
            ("localhost", 443, "https://localhost"),
            ("::1", 8443, "https://[::1]:8443"),
            ("127.0.0.1", 443, "https://127.0.0.1"),
        ],
    )
    def test_an_origin_is_written_as_browsers_do(self, host: str, port: int, wanted: str) -> None:
        assert origin(host, port) == wanted

    def test_every_name_is_an_origin_once(self) -> None:
        settings = Gateway(hostnames=("llm.home.arpa", "127.0.0.1"), https_port=443)
        assert origins(settings) == ["https://llm.home.arpa", "https://127.0.0.1"]

    def test_plain_http_leads_to_the_first_name_whatever_was_asked(self) -> None:
        (route,) = server("redirect", settings=Gateway(hostnames=("a.example",), https_port=443))["routes"]
        assert route["handle"][0]["headers"]["Location"] == ["https://a.example{http.request.uri}"]


class TestLimits:
    def test_bodies_are_bounded_everywhere(self) -> None:
        config = rendered(Gateway(max_body="2MiB", max_upload="5MiB"))
        assert {h["max_body"] for h in handlers(config) if h["handler"] == "llm"} == {2 * 1024 * 1024}
        assert {h["max_size"] for h in handlers(config) if h["handler"] == "request_body"} == {5 * 1024 * 1024}

    def test_no_answer_is_held_back(self) -> None:
        proxies = [h for h in handlers(rendered()) if h["handler"] == "reverse_proxy"]
        assert proxies
        assert {proxy["flush_interval"] for proxy in proxies} == {-1}

    def test_slow_headers_are_cut_and_slow_answers_are_not(self) -> None:
        for found in rendered()["apps"]["http"]["servers"].values():
            assert found["read_header_timeout"] == "10s"
            assert "write_timeout" not in found

    def test_one_clients_mistake_marks_no_upstream_down(self) -> None:
        assert not [h for h in handlers(rendered()) if "health_checks" in h]


class TestSecrecy:
    def test_credentials_stop_before_the_engine(self) -> None:
        for proxy in (h for h in handlers(rendered(chat=None)) if h["handler"] == "reverse_proxy"):
            assert {"Authorization", "Cookie"} <= set(proxy["headers"]["request"]["delete"])

    def test_the_administration_is_off_and_nothing_is_saved(self) -> None:
        assert rendered()["admin"] == {"disabled": True, "config": {"persist": False}}

    def test_the_root_is_not_installed_anywhere(self) -> None:
        (authority,) = rendered()["apps"]["pki"]["certificate_authorities"].values()
        assert authority["install_trust"] is False


def test_without_a_chat_there_are_no_pages() -> None:
    assert "chat:8080" not in json.dumps(rendered(chat=None))
    assert len(server("https", chat=None)["routes"]) < len(server("https")["routes"])


def test_the_inner_listener_has_no_pages_and_no_native_api() -> None:
    text = json.dumps(server("inner")["routes"])
    assert "/ollama" not in text
    assert "chat:8080" not in text
    assert "/v1/embeddings" in text


def test_the_same_configuration_gives_the_same_text() -> None:
    assert rendered() == rendered()
