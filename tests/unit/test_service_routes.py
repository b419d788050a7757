"""Services of one's own at the gateway: who gets in, what is handed on, what comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stack.config import services
from stack.config.gateway import Gateway
from stack.config.services import OwnService
from stack.gateway import caddy, headers, routes, service_routes
from stack.gateway.routes import Upstreams

REPORTS = OwnService(name="reports", build="services/reports", port=8000, path="/reports", metrics="/metrics")
STATUS = OwnService(name="status", image="r/x@sha256:" + "0" * 64, port=80, path="/status", public=True)


def servers(settings: Gateway | None = None, *, chat: str | None = "chat:8080") -> dict[str, Any]:
    engines = {"ollama": caddy.Engine(instances=["ollama:11434"], kind="ollama")}
    behind = Upstreams(engines=engines, chat=chat, services=(REPORTS, STATUS))
    config = routes.render(settings or Gateway(), (), behind)
    found: dict[str, Any] = json.loads(config.to_json())["apps"]["http"]["servers"]
    return found


def doors(tree: Any, dial: str) -> list[dict[str, Any]]:
    """The routes whose last handler forwards to an address."""
    if isinstance(tree, list):
        return [door for one in tree for door in doors(one, dial)]
    if not isinstance(tree, dict):
        return []
    last = (tree.get("handle") or [{}])[-1]
    here = [tree] if last.get("handler") == "reverse_proxy" and last["upstreams"] == [{"dial": dial}] else []
    return here + [door for value in tree.values() for door in doors(value, dial)]


def door(dial: str, settings: Gateway | None = None, *, chat: str | None = "chat:8080") -> dict[str, Any]:
    (found,) = doors(servers(settings, chat=chat)["https"], dial)
    return found


def handlers(found: dict[str, Any]) -> list[str]:
    return [handler["handler"] for handler in found["handle"]]


def test_a_key_of_scope_services_opens_it_below_its_path() -> None:
    found = door("reports:8000")
    assert found["match"] == [{"llm_path": ["/reports", "/reports/", "/reports/*"], "method": service_routes.METHODS}]
    assert handlers(found) == ["llm_auth", "request_body", "rewrite", "reverse_proxy"]
    auth, body, rewrite, _ = found["handle"]
    assert (auth["scope"], auth["addresses"]["zone"]) == ("services", "api")
    assert body["max_size"] == 32 * 1024 * 1024
    assert rewrite["strip_path_prefix"] == "/reports"


def test_a_public_one_has_a_limit_for_each_address_instead() -> None:
    found = door("status:80")
    assert handlers(found) == ["llm_limit", "request_body", "rewrite", "reverse_proxy"]
    assert found["handle"][0]["zone"] == "services"


def test_it_is_told_who_asks_by_the_gateway_alone() -> None:
    asked = door("reports:8000")["handle"][-1]["headers"]["request"]
    assert asked["set"] == {"X-Consumer": ["{http.vars.llm_consumer}"], "X-Forwarded-Prefix": ["/reports"]}
    public = door("status:80")["handle"][-1]["headers"]["request"]
    assert "X-Consumer" in public["delete"]
    assert "X-Consumer" not in public["set"]


@pytest.mark.parametrize("dial", ["reports:8000", "status:80"])
def test_it_sees_neither_keys_nor_cookies_and_sets_none(dial: str) -> None:
    found = door(dial)["handle"][-1]["headers"]
    assert {"Authorization", *headers.KEY_HEADERS, "Cookie", "Upgrade", "X_*", "X.*"} <= set(found["request"]["delete"])
    assert {"Set-Cookie", "Access-Control-*", "Server"} <= set(found["response"]["delete"])


def test_its_pages_are_apart_from_the_chat_where_they_share_an_origin() -> None:
    def policy(settings: Gateway | None = None, chat: str | None = "chat:8080") -> str:
        (found,) = door("reports:8000", settings, chat=chat)["handle"][-1]["headers"]["response"]["add"].values()
        return " ".join(found)

    apart = Gateway(api_hostnames=("api.home.arpa",))
    assert "sandbox" in policy()
    assert "sandbox" not in policy(apart)
    assert "sandbox" not in policy(chat=None)
    assert "frame-ancestors 'none'" in policy() + policy(apart)
    assert "allow-same-origin" not in policy()


def test_its_figures_are_at_the_inner_listener_alone() -> None:
    found = servers()
    (inner,) = doors(found["inner"], "reports:8000")
    assert inner["match"] == [{"llm_path": ["/services/reports/metrics"], "method": ["GET"]}]
    assert [h.get("uri") for h in inner["handle"] if h["handler"] == "rewrite"] == ["/metrics"]
    text = json.dumps(found["https"])
    shut = '["/reports/metrics", "/reports/metrics/", "/reports/metrics/*"]'
    assert text.index(shut) < text.index('"/reports/*"')
    assert doors(found["inner"], "status:80") == []


def test_other_methods_are_405_with_those_that_are_allowed() -> None:
    refused = [
        r
        for r in servers()["https"]["routes"]
        if r.get("match") == [{"llm_path": ["/reports", "/reports/", "/reports/*"]}]
    ]
    (found,) = refused
    assert found["handle"][0]["response"]["set"]["Allow"] == [", ".join(service_routes.METHODS)]
    assert found["handle"][-1]["status"] == 405


def test_one_that_is_away_is_not_called_the_chat() -> None:
    errors = servers()["https"]["errors"]["routes"]
    said = [r["handle"][-1].get("message", "") for r in errors if "/reports/*" in json.dumps(r.get("match"))]
    assert said[0] == "This service cannot be reached right now. Try again soon."


def test_no_service_can_take_a_path_that_is_the_gateways_or_the_chats() -> None:
    """Every first word that the listener knows, without services, is refused in the configuration."""
    engines = {"ollama": caddy.Engine(instances=["ollama:11434"], kind="ollama")}
    config = json.loads(routes.render(Gateway(), (), Upstreams(engines=engines, chat="chat:8080")).to_json())
    known = set(words(config["apps"]["http"]["servers"]["https"]))
    assert len(known) > 20
    assert {word for word in known if word.replace("-", "").isalnum() and word.islower()} <= services.OWN_PATHS


def words(tree: Any) -> list[str]:
    """First words of all paths that a listener matches."""
    if isinstance(tree, list):
        return [word for one in tree for word in words(one)]
    if not isinstance(tree, dict):
        return []
    here = [path.split("/")[1] for path in tree.get("llm_path", []) if path.split("/")[1]]
    return here + [word for value in tree.values() for word in words(value)]
