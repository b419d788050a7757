"""The gateway's routes: an allow-list in which order is order."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from stack.config.gateway import AdminListener, Cors, Exposure, Gateway, Limits, Rate, Tls, TlsMode
from stack.config.model import Model, Role
from stack.gateway import caddy, chat_routes, chat_table, headers, routes
from stack.gateway.addresses import api_names, chat_names, names, origin, origins
from stack.parts import served
from tests.support.samples import SAMPLES

MODELS = served((Model(name="m", aliases=("default",)), Model(name="e", role=Role.EMBEDDING)), SAMPLES["dev"].parts)
ENGINE: Final = caddy.Engine(instances=["ollama:11434"], kind="ollama", max_in_flight=68)
PUBLIC: Final = {"exposure": Exposure.PUBLIC, "tls": Tls(mode=TlsMode.CERTIFICATE), "hostnames": ("llm.example.org",)}


def rendered(
    settings: Gateway | None = None, chat: str | None = "chat:8080", grafana: str | None = "grafana:3000"
) -> dict[str, Any]:
    upstreams = routes.Upstreams(engines={"ollama": ENGINE}, chat=chat, grafana=grafana, prometheus="prometheus:9090")
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


def every_route(tree: Any) -> list[dict[str, Any]]:
    """Every route, however deep."""
    if isinstance(tree, list):
        return [route for part in tree for route in every_route(part)]
    if not isinstance(tree, dict):
        return []
    own = [tree] if "handle" in tree else []
    return own + [route for part in tree.values() for route in every_route(part)]


def of(path: str, listener: str = "https", settings: Gateway | None = None) -> list[dict[str, Any]]:
    """The routes that name this very path, in order."""
    found = every_route(server(listener, settings=settings)["routes"])
    return [r for r in found if any(path in m.get("llm_path", []) for m in r.get("match", []))]


def kinds(route: dict[str, Any]) -> list[str]:
    return [handler["handler"] for handler in route["handle"]]


A_COLD_PAGE: Final = 217  # requests that a browser with nothing stored makes for the chat's first page
LISTENERS: Final = ["https", "redirect", "inner", "admin"]
ALL: Final = Gateway(admin="local")


class TestOrder:
    @pytest.mark.parametrize("listener", LISTENERS)
    def test_the_edge_comes_before_every_door_and_only_headers_of_the_answer_before_it(self, listener: str) -> None:
        first, *_ = server(listener, settings=ALL)["routes"]
        assert "match" not in first
        assert kinds(first) == ["headers", "headers", "headers", "llm_edge"]
        assert all(set(h) == {"handler", "response"} for h in first["handle"][:-1])

    @pytest.mark.parametrize(
        ("listener", "hosts", "proto"),
        [
            ("https", ["localhost:8443", "127.0.0.1:8443"], "https"),
            ("redirect", ["localhost:8080", "127.0.0.1:8080"], "http"),
            ("inner", None, "http"),
            ("admin", ["localhost:9443", "127.0.0.1:9443"], "https"),
        ],
    )
    def test_only_our_names_are_answered(self, listener: str, hosts: list[str] | None, proto: str) -> None:
        edge = server(listener, settings=ALL)["routes"][0]["handle"][-1]
        assert (edge.get("hosts"), edge["proto"]) == (hosts, proto)

    def test_a_proxy_in_front_is_believed_at_the_public_listener_alone(self) -> None:
        settings = Gateway(trusted_proxies=("172.16.0.0/12", "::1"), admin=AdminListener.LOCAL)
        edges = {name: server(name, settings=settings)["routes"][0]["handle"][-1] for name in LISTENERS}
        believed = {name: edge["trusted_proxies"] for name, edge in edges.items() if "trusted_proxies" in edge}
        assert believed == {"https": ["172.16.0.0/12", "::1"]}

    @pytest.mark.parametrize("listener", LISTENERS)
    def test_every_route_ends_the_search_but_those_that_only_change_something(self, listener: str) -> None:
        _, *before, last = server(listener, settings=ALL)["routes"]
        assert before
        passing = [r for r in before if not r.get("terminal")]
        assert {kind for r in passing for kind in kinds(r)} <= {"vars", "rewrite"}
        assert (last["handle"][0]["handler"], last["handle"][0]["status"]) == ("llm_error", 404)
        assert "match" not in last

    @pytest.mark.parametrize("listener", LISTENERS)
    def test_no_route_uses_the_matcher_that_ignores_case(self, listener: str) -> None:
        matches = [m for r in every_route(server(listener, settings=ALL)) for m in r.get("match", [])]
        assert matches
        assert not [m for m in matches if "path" in m]

    @pytest.mark.parametrize("listener", ["https", "inner"])
    def test_the_engine_is_never_reached_without_a_key(self, listener: str) -> None:
        doors = [r for r in every_route(server(listener)["routes"]) if "reverse_proxy" in kinds(r)]
        assert doors
        for route in doors:
            dials = [u["dial"] for h in route["handle"] if h["handler"] == "reverse_proxy" for u in h["upstreams"]]
            if dials != ["chat:8080"]:
                assert kinds(route)[0] == "llm_auth", f"{route.get('match')} opens the engine before it asks who it is"
                assert "llm" in kinds(route)

    def test_every_door_names_its_methods(self) -> None:
        doors = [r for r in every_route(server("https")["routes"]) if {"reverse_proxy", "llm_auth"} & set(kinds(r))]
        unnamed = [m["llm_path"] for r in doors for m in r["match"] if not m.get("method")]
        assert unnamed == [["/m/*"]], "what is not a model's path is refused there, whatever the method"

    def test_models_are_used_and_never_managed(self) -> None:
        doors = [r for r in every_route(server("https")["routes"]) if {"reverse_proxy", "llm_native"} & set(kinds(r))]
        native = {p for r in doors for m in r["match"] for p in m["llm_path"] if p.startswith("/ollama")}
        wanted = ("chat", "generate", "embed", "embeddings", "tags", "ps", "version", "show")
        assert native == {f"/ollama/api/{name}" for name in wanted}

    def test_what_holds_system_prompts_has_a_scope_of_its_own(self) -> None:
        show, refused = of("/ollama/api/show")
        assert (kinds(show)[0], show["handle"][0]["scope"]) == ("llm_auth", "show")
        assert kinds(refused)[-1] == "llm_error"

    @pytest.mark.parametrize(
        ("path", "allow"),
        [
            ("/v1/models", "GET, HEAD"),
            ("/v1/chat/completions", "POST"),
            ("/ollama/api/chat", "POST"),
            ("/ollama/api/tags", "GET, HEAD"),
            ("/health", "GET, HEAD"),
            ("/", "GET, HEAD"),
            ("/_app/*", "GET, HEAD"),
            ("/ws/*", "GET, POST"),
        ],
    )
    def test_a_wrong_method_is_told_the_right_ones(self, path: str, allow: str) -> None:
        last = of(path)[-1]
        assert "method" not in last["match"][0]
        headers_, error = last["handle"]
        assert headers_["response"]["set"] == {"Allow": [allow]}
        assert (error["status"], error["code"]) == (405, "method_not_allowed")


class TestPins:
    def test_a_path_names_its_model(self) -> None:
        (route, *_) = of("/m/default/v1/chat/completions")
        variables, rewrite = route["handle"]
        assert (variables["handler"], variables["llm_pinned"]) == ("vars", "default")
        assert rewrite["strip_path_prefix"] == "/m/default"
        assert not route.get("terminal")

    def test_names_that_are_none_are_told_to_those_with_a_key_alone(self) -> None:
        *pins, last = [
            r for r in server("https")["routes"] if r.get("match", [{}])[0].get("llm_path", [""])[0][:3] == "/m/"
        ]
        assert len(pins) == 3
        assert (last["match"][0]["llm_path"], kinds(last)) == (["/m/*"], ["llm_auth", "subroute", "llm_error"])


class TestHosts:
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

    def test_plain_http_leads_to_the_same_name(self) -> None:
        routes_ = server("redirect", settings=Gateway(hostnames=("a.example",), https_port=443))["routes"][1:-1]
        where = {r["match"][0]["host"][0]: r["handle"][0]["headers"]["Location"][0] for r in routes_}
        assert where == {
            "a.example": "https://a.example{http.request.uri}",
            "127.0.0.1": "https://127.0.0.1{http.request.uri}",
        }

    def test_without_names_of_their_own_chat_and_api_share_all(self) -> None:
        assert not [r for r in server("https")["routes"] if "host" in r.get("match", [{}])[0]]
        assert chat_names(Gateway()) == api_names(Gateway()) == names(Gateway()) == ["localhost", "127.0.0.1"]

    def test_a_service_with_a_name_of_its_own_has_no_place_under_the_others(self) -> None:
        settings = Gateway(hostnames=("llm.x.org",), chat_hostnames=("chat.x.org",), api_hostnames=("api.x.org",))
        below = [r for r in server("https", settings=settings)["routes"] if "subroute" in kinds(r)]
        texts = {tuple(r["match"][0]["host"]): json.dumps(r) for r in below}
        assert set(texts) == {("api.x.org",), ("chat.x.org",)}
        assert "/v1/models" in texts["api.x.org",]
        assert "chat:8080" not in texts["api.x.org",]
        assert "/api/v1/auths/signin" in texts["chat.x.org",]
        assert "llm_auth" not in texts["chat.x.org",]
        assert origins(settings) == ["https://chat.x.org:8443"]

    def test_an_unlisted_address_is_no_name(self) -> None:
        assert names(Gateway(**PUBLIC, address="0.0.0.0")) == ["llm.example.org"]


class TestCertificates:
    def test_from_a_public_authority(self) -> None:
        acme = Tls(mode=TlsMode.ACME, email="me@example.org")
        apps = rendered(Gateway(hostnames=("llm.example.org",), tls=acme, http_port=80))["apps"]
        assert apps["tls"]["certificates"] == {"automate": ["llm.example.org"]}
        (policy,) = apps["tls"]["automation"]["policies"]
        (issuer,) = policy["issuers"]
        assert issuer == {
            "module": "acme", "ca": "https://acme-v02.api.letsencrypt.org/directory", "email": "me@example.org",
        }  # fmt: skip
        assert "pki" not in apps
        assert (apps["http"]["http_port"], apps["http"]["https_port"]) == (8080, 8443)

    def test_from_another_authority(self) -> None:
        acme = Tls(mode=TlsMode.ACME, directory="https://ca.home.arpa/acme/directory")
        tls = rendered(Gateway(hostnames=("llm.home.arpa",), tls=acme, http_port=80))["apps"]["tls"]
        (policy,) = tls["automation"]["policies"]
        assert policy["issuers"] == [{"module": "acme", "ca": "https://ca.home.arpa/acme/directory"}]

    def test_given(self) -> None:
        apps = rendered(Gateway(**PUBLIC))["apps"]
        assert apps["tls"] == {
            "certificates": {
                "load_files": [
                    {"certificate": "/etc/gateway-tls/certificate.pem", "key": "/run/gateway-tls-key/key.pem"}
                ]
            }
        }
        assert "pki" not in apps

    def test_the_admin_listener_always_has_one_of_our_own(self) -> None:
        apps = rendered(Gateway(**PUBLIC, admin="local"))["apps"]
        (policy,) = apps["tls"]["automation"]["policies"]
        assert policy["subjects"] == apps["tls"]["certificates"]["automate"] == ["localhost", "127.0.0.1"]
        assert apps["pki"]


class TestHeaders:
    @pytest.mark.parametrize("listener", LISTENERS)
    @pytest.mark.parametrize("part", ["routes", "errors"])
    def test_every_answer_has_them_errors_too(self, listener: str, part: str) -> None:
        found = server(listener, settings=ALL)[part]
        fixed, policy, errors, *_ = (found["routes"] if part == "errors" else found)[0]["handle"]
        assert all(h["response"]["deferred"] for h in (fixed, policy, errors))
        assert set(fixed["response"]["set"]) == {
            "X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy", "X-XSS-Protection",
        }  # fmt: skip
        assert {"Server", "Via"} <= set(fixed["response"]["delete"])
        assert policy["response"]["set"] == {headers.CSP: ["default-src 'none'; frame-ancestors 'none'"]}
        assert policy["response"]["require"] == {"headers": {headers.CSP: None}}
        assert errors["response"]["set"] == {"Cache-Control": ["no-store"]}

    def test_only_what_is_public_is_pinned_to_https(self) -> None:
        def pinned(tree: Any) -> bool:
            return "Strict-Transport-Security" in json.dumps(
                [h["response"].get("set") for h in handlers(tree) if "response" in h]
            )

        assert not pinned(rendered(ALL))
        public = rendered(Gateway(**PUBLIC, admin="local"))["apps"]["http"]["servers"]
        assert pinned(public["https"]["routes"][0])
        assert pinned(public["https"]["errors"])
        # It would hold for everything else on this machine's own name.
        assert not pinned(public["admin"])

    def test_no_upstream_speaks_for_us(self) -> None:
        proxies = [h for h in handlers(rendered(ALL)) if h["handler"] == "reverse_proxy"]
        assert len(proxies) > 8
        for proxy in proxies:
            assert {"Access-Control-*", headers.CSP, "Server"} <= set(proxy["headers"]["response"]["delete"])

    def test_the_chats_pages_have_a_policy_that_they_work_with(self) -> None:
        for route in (r for r in every_route(server("https")["routes"]) if "chat:8080" in json.dumps(r)):
            policies = [
                h["response"]["set"] for h in route["handle"] if headers.CSP in json.dumps(h.get("response", {}))
            ]
            if route["match"][0]["llm_path"] != ["/ws/*"]:
                assert policies == [{headers.CSP: [chat_routes.CSP]}]
        for directive in ("object-src 'none'", "base-uri 'self'", "form-action 'self'", "frame-ancestors 'none'"):
            assert directive in chat_routes.CSP


class TestCors:
    def test_no_other_page_may_read_answers_unless_it_is_listed(self) -> None:
        assert "Access-Control-Allow-Origin" not in json.dumps(rendered())

    def test_a_listed_page_may_and_is_told_before_it_asks(self) -> None:
        settings = Gateway(cors=Cors(origins=("https://app.example.org",)))
        for found in (
            server("https", settings=settings)["routes"],
            server("https", settings=settings)["errors"]["routes"],
        ):
            vary, answer, before, *_ = found[1:]
            assert vary["handle"][0]["response"]["add"] == {"Vary": ["Origin"]}
            assert answer["match"][0]["header"] == {"Origin": ["https://app.example.org"]}
            told = answer["handle"][0]["response"]["set"]
            assert told["Access-Control-Allow-Origin"] == ["{http.request.header.Origin}"]
            assert before["match"][0]["method"] == ["OPTIONS"]
            assert before["match"][0]["header"]["Origin"] == ["https://app.example.org"]
            (preflight,) = before["handle"]
            assert preflight["status_code"] == "204"
            asked = preflight["headers"]["Access-Control-Allow-Headers"][0].split(", ")
            assert {"Authorization", "Content-Type", "X-Stainless-Retry-Count"} <= set(asked)
        text = json.dumps(rendered(settings))
        assert "Allow-Credentials" not in text
        assert '"Access-Control-Allow-Origin": ["*"]' not in text

    def test_the_chat_has_none(self) -> None:
        settings = Gateway(cors=Cors(origins=("https://app.example.org",)))
        paths = {
            p for r in server("https", settings=settings)["routes"][1:4] for m in r["match"] for p in m["llm_path"]
        }
        assert paths == {"/v1/*", "/ollama/*", "/m/*"}


class TestAdmin:
    def test_it_is_there_only_when_asked_for(self) -> None:
        assert "admin" not in rendered()["apps"]["http"]["servers"]

    def test_its_pages_are_for_administrators_who_sign_in_by_basic(self) -> None:
        doors = [r for r in server("admin", settings=ALL)["routes"] if "reverse_proxy" in kinds(r)]
        assert [r["match"][0]["llm_path"] for r in doors] == [
            ["/grafana/", "/grafana/*"],
            ["/prometheus/", "/prometheus/*"],
        ]
        for route in doors:
            auth = route["handle"][0]
            assert (auth["handler"], auth["scope"], auth["keep_cookies"]) == ("llm_auth", "admin", True)
            assert auth["addresses"]["zone"] == "admin"
            assert {"Authorization", "Upgrade"} <= set(route["handle"][-1]["headers"]["request"]["delete"])

    def test_cookies_go_to_the_page_that_signs_in_by_them_alone(self) -> None:
        grafana, prometheus = (r for r in server("admin", settings=ALL)["routes"] if "reverse_proxy" in kinds(r))
        assert "Cookie" not in grafana["handle"][-1]["headers"]["request"]["delete"]
        assert "Cookie" in prometheus["handle"][-1]["headers"]["request"]["delete"]

    def test_pages_of_other_sites_may_not_use_a_browsers_sign_in(self) -> None:
        foreign, cross = server("admin", settings=ALL)["routes"][1:3]
        assert foreign["match"][0]["not"] == [
            {"header": {"Origin": ["https://localhost:9443", "https://127.0.0.1:9443"]}}
        ]
        assert cross["match"][0]["not"] == [{"method": ["GET", "HEAD"]}]
        assert {r["handle"][0]["status"] for r in (foreign, cross)} == {403}

    def test_grafana_keeps_its_path_and_prometheus_does_not_know_of_it(self) -> None:
        grafana, prometheus = (r for r in server("admin", settings=ALL)["routes"] if "reverse_proxy" in kinds(r))
        assert "rewrite" not in kinds(grafana)
        assert prometheus["handle"][-2]["strip_path_prefix"] == "/prometheus"

    def test_without_grafana_prometheus_comes_first(self) -> None:
        admin = rendered(ALL, grafana=None)["apps"]["http"]["servers"]["admin"]
        assert "/grafana" not in json.dumps(admin)
        assert {"Location": ["/prometheus/"]} in [h.get("headers") for r in admin["routes"] for h in r["handle"]]


class TestLimits:
    def test_every_address_has_a_limit_before_a_key_is_looked_at(self) -> None:
        limits = Limits(
            api=Rate(events=5, per="2m", burst=3), failures=Rate(events=4, per="10m"), ban="2m", longest_ban="1d"
        )
        auths = [h for h in handlers(rendered(Gateway(limits=limits, admin="local"))) if h["handler"] == "llm_auth"]
        assert {h["addresses"]["zone"] for h in auths} == {"api", "inner", "admin"}
        for auth in auths:
            assert auth["addresses"]["rate"] == {"events": 5, "per": "120s", "burst": 3}
            assert auth["addresses"]["failures"] == {
                "rate": {"events": 4, "per": "600s", "burst": 0}, "ban": "120s", "longest_ban": "86400s",
            }  # fmt: skip

    def test_everything_of_the_chat_has_a_limit(self) -> None:
        doors = [r for r in every_route(server("https")["routes"]) if "chat:8080" in json.dumps(r)]
        zones = {
            path: [h["zone"] for h in r["handle"] if h["handler"] == "llm_limit"]
            for r in reversed(doors) for m in r["match"] for path in m["llm_path"]
        }  # fmt: skip
        assert {path for path, limits in zones.items() if limits == ["static"]} == set(chat_table.STATIC)
        assert [path for path, limits in zones.items() if not limits] == []
        assert zones["/"] == zones["/api/chat/completions"] == zones["/ws/*"] == ["chat"]
        assert zones["/api/config"] == zones["/api/v1/users/{user_id}/groups"] == ["chat_reads"]
        assert {zones[path][0] for path in chat_table.SIGN_IN} == {"sign_in"}

    def test_the_chats_pages_may_read_four_times_as_much(self) -> None:
        rates = {h["zone"]: h["rate"] for h in handlers(rendered()) if h["handler"] == "llm_limit"}
        assert rates["chat"] == {"events": 10, "per": "1s", "burst": 20}
        assert rates["chat_reads"] == {"events": 40, "per": "1s", "burst": 80}

    def test_a_page_that_is_new_to_a_browser_never_meets_the_limit_of_static_files(self) -> None:
        (rate,) = {json.dumps(h["rate"]) for h in handlers(rendered()) if h.get("zone") == "static"}
        assert json.loads(rate)["burst"] >= 4 * A_COLD_PAGE

    def test_attempts_to_sign_in_are_counted_and_failures_banned(self) -> None:
        signing = [h for h in handlers(rendered()) if h.get("zone") == "sign_in"]
        assert signing
        assert signing[0]["rate"] == {"events": 10, "per": "60s", "burst": 5}
        assert signing[0]["failures"]["statuses"] == [400, 401, 403]

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
            assert (found["read_header_timeout"], found["read_idle_timeout"]) == ("10s", "10s")
            assert found["read_min_rate"] == 500
            assert found["write_idle_timeout"] == "1m"
            assert not {"read_timeout", "write_min_rate"} & set(found)
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
    assert "/_app/*" not in json.dumps(rendered(chat=None))


def test_the_inner_listener_has_no_pages_and_no_native_api() -> None:
    text = json.dumps(server("inner")["routes"])
    assert "/ollama" not in text
    assert "chat:8080" not in text
    assert "/v1/embeddings" in text


def test_the_same_configuration_gives_the_same_text() -> None:
    assert rendered() == rendered()
