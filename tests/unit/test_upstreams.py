"""The engines behind the gateway: what handlers are told of them, and how requests and keys reach each."""

from __future__ import annotations

import json
from typing import Any

from stack.config.model import Upstream
from stack.gateway import upstreams
from stack.parts import served
from stack.shape import Endpoint
from tests.support.samples import SAMPLES

OWN = SAMPLES["own"]
TWO = (Endpoint(host="ollama", port=11434), Endpoint(host="ollama-2", port=11434))


def dumped(handler: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(handler.model_dump_json(exclude_none=True))
    return found


def test_own_instances_and_those_elsewhere_are_engines_with_a_bound() -> None:
    found = upstreams.engines(OWN.platform, TWO)
    assert {name: (e.instances, e.kind, e.max_in_flight, e.tls, e.key_file) for name, e in found.items()} == {
        "ollama": (["ollama:11434", "ollama-2:11434"], "ollama", 2 * (4 + 16), None, None),
        "big-box": (["192.168.1.20:8000", "192.168.1.21:8000"], "openai", 64, None, None),
        "cloud": (["api.example.org:443"], "openai", 16, True, "/run/engine-keys/cloud/key"),
    }


def test_without_an_engine_of_its_own_the_platform_names_none() -> None:
    found = upstreams.engines(SAMPLES["elsewhere"].platform, ())
    assert [(name, engine.kind) for name, engine in found.items()] == [("big-box", "ollama")]


def test_the_catalog_says_engine_fallback_and_limits() -> None:
    catalog = {model.id: model for model in upstreams.catalog(served(OWN.platform.models, OWN.parts))}
    own, remote = catalog["qwen3:8b"], catalog["Qwen/Qwen3-32B"]
    assert (own.engine, own.fallback, own.max_in_flight, own.requests_per_minute) == (
        "ollama", "Qwen/Qwen3-32B", 8, 600,
    )  # fmt: skip
    assert (remote.engine, remote.fallback, remote.aliases) == ("big-box", "frontier", ["powerful"])


def test_engines_of_the_same_kind_of_way_share_one_proxy() -> None:
    plain = Upstream(name="box", urls=("http://192.168.1.20:8000",))
    assert upstreams.proxy([plain]) == upstreams.proxy([])


def test_an_engine_by_https_has_a_way_of_its_own_whose_certificate_is_checked() -> None:
    found = dumped(upstreams.proxy([Upstream(name="box", urls=("https://box.home.arpa:8443",))]))
    (apart, rest) = found["routes"]
    assert apart["match"] == [{"vars": {"llm_engine": ["box"]}}]
    assert apart["terminal"] is True
    (proxy,) = apart["handle"]
    assert proxy["transport"]["tls"] == {}
    assert proxy["headers"]["request"]["set"] == {"Host": ["{http.reverse_proxy.upstream.hostport}"]}
    assert "tls" not in rest["handle"][0]["transport"]


def test_the_usual_port_is_not_in_the_host_header() -> None:
    found = dumped(upstreams.proxy([Upstream(name="cloud", urls=("https://api.example.org",))]))
    asked = found["routes"][0]["handle"][0]["headers"]["request"]
    assert asked["set"]["Host"] == ["{http.reverse_proxy.upstream.host}"]


def test_a_key_is_read_from_its_file_and_shown_to_that_engine_alone() -> None:
    keyed = Upstream(name="cloud", urls=("https://api.example.org",), key=True)
    other = Upstream(name="other", urls=("https://api.example.com",))
    routes = dumped(upstreams.proxy([keyed, other]))["routes"]
    asked = [route["handle"][0]["headers"]["request"] for route in routes]
    assert asked[0]["set"]["Authorization"] == ["Bearer {file./run/engine-keys/cloud/key}"]
    # Caddy removes after it sets: the one key that is meant would be removed too.
    assert "Authorization" not in asked[0]["delete"]
    for request in asked[1:]:
        assert "Authorization" in request["delete"]
        assert "Authorization" not in request["set"]
