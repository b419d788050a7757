"""Engines elsewhere and own services behind our real Caddy: keys, certificates, who is told what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import pytest
import requests

from ops import ca
from stack.config.explain import parse_platform
from tests.support.certificates import issued
from tests.support.engine import Engine, engine, web_application
from tests.support.gateway import Running, running
from tests.support.samples import SAMPLES

KEYS: Final = {name: f"sk-{name}" + "0" * 40 for name in ("default", "app", "writer")}
ENGINE_KEY: Final = "what-the-other-box-wants"
HELLO: Final = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}


@dataclass(frozen=True)
class World:
    """The gateway, the engines and the services behind it."""

    gateway: Running
    own: tuple[Engine, Engine]
    keyed: Engine
    secure: Engine
    reports: Engine
    status: Engine

    def chat(self, model: str) -> requests.Response:
        return self.gateway.ask("/v1/chat/completions", KEYS["default"], "POST", json={"model": model, **HELLO})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("upstreams")
    other_key, other = ca.create("The other box", ("localhost",), "127.0.0.1")
    certificate, key = issued(("localhost",), other, other_key)
    files = {name: folder / name for name in ("other.pem", "box.pem", "box.key")}
    for path, text in zip(files.values(), (other, certificate, key), strict=True):
        path.write_text(text)
    with ExitStack() as behind:
        first, second = (behind.enter_context(engine(("near",))) for _ in range(2))
        keyed = behind.enter_context(engine(("keyed-model",), "-key", ENGINE_KEY))
        tls = ("-tls-certificate", str(files["box.pem"]), "-tls-key", str(files["box.key"]))
        secure = behind.enter_context(engine(("secure-model", "stranger-model"), *tls))
        reports, status = (behind.enter_context(web_application()) for _ in range(2))
        platform = parse_platform(configuration(keyed, secure), "test")
        gateway = behind.enter_context(
            running(
                # The configuration refuses this machine's own loopback, where all of this is.
                platform.model_copy(update={"upstreams": moved(platform.upstreams, keyed, secure)}),
                SAMPLES["dev"].parts,
                KEYS,
                folder,
                engine=[first.address, second.address],
                chat=None,
                environment={"SSL_CERT_FILE": str(files["other.pem"])},
                files={"engine-keys/keyed/key": ENGINE_KEY},
                services={"reports": reports.address, "status": status.address},
            )
        )
        yield World(gateway, (first, second), keyed, secure, reports, status)


def configuration(keyed: Engine, secure: Engine) -> dict[str, Any]:
    service = {"image": "r/x@sha256:" + "0" * 64, "port": 8000}
    limits = {"requestsPerMinute": 10_000, "burst": 1000}
    return {
        "engine": {"instances": 2},
        "upstreams": [
            {"name": "keyed", "urls": ["http://10.0.0.1:8000"], "key": True},
            {"name": "secure", "urls": ["https://box.home.arpa"]},
            {"name": "stranger", "urls": ["https://stranger.home.arpa"]},
        ],
        "models": [
            {"name": "near", "aliases": ["default"]},
            {"name": "keyed-model", "engine": "keyed"},
            {"name": "secure-model", "engine": "secure"},
            {"name": "stranger-model", "engine": "stranger", "fallback": "keyed-model"},
        ],
        "consumers": [
            {"name": "default", **limits},
            {"name": "app", "scopes": ["services"], **limits},
            {"name": "writer", "scopes": ["chat"], **limits},
        ],
        "chat": {"enabled": False},
        "services": [
            {"name": "reports", "path": "/reports", "metrics": "/figures", **service},
            {"name": "status", "path": "/status", "public": True, **service},
        ],
    }


def moved(upstreams: Any, keyed: Engine, secure: Engine) -> Any:
    port = secure.address.rpartition(":")[2]
    where = {
        "keyed": f"http://{keyed.address}",
        "secure": f"https://localhost:{port}",
        # The same engine by a name that its certificate does not have.
        "stranger": f"https://127.0.0.1:{port}",
    }
    return tuple(one.model_copy(update={"urls": (where[one.name],)}) for one in upstreams)


class TestEngines:
    def test_instances_share_the_work(self, world: World) -> None:
        for one in world.own:
            one.forget()
        assert [world.chat("default").status_code for _ in range(6)] == [200] * 6
        assert all(any(seen.method == "POST" for seen in one.seen()) for one in world.own)

    def test_one_with_a_key_gets_its_own_and_no_other(self, world: World) -> None:
        world.keyed.forget()
        answer = world.chat("keyed-model")
        assert answer.status_code == 200, answer.text
        asked = [seen for seen in world.keyed.seen() if seen.method == "POST"]
        assert [seen.values("Authorization") for seen in asked] == [[f"Bearer {ENGINE_KEY}"]]

    def test_a_new_key_counts_without_a_restart(self, world: World) -> None:
        file = world.gateway.folder / "engine-keys" / "keyed" / "key"
        try:
            file.write_text("an-old-one")
            assert world.chat("keyed-model").status_code != 200
        finally:
            file.write_text(ENGINE_KEY)
        assert world.chat("keyed-model").status_code == 200

    def test_no_key_of_a_consumer_reaches_an_engine(self, world: World) -> None:
        for model in ("default", "keyed-model", "secure-model"):
            world.chat(model)
        for one in (*world.own, world.keyed, world.secure):
            assert [seen for seen in one.seen() if "sk-" in seen.head] == []

    def test_one_by_https_is_asked_by_its_name(self, world: World) -> None:
        answer = world.chat("secure-model")
        assert answer.status_code == 200, answer.text
        assert world.secure.last.values("Host") == [f"localhost:{world.secure.address.rpartition(':')[2]}"]

    def test_one_whose_certificate_is_anothers_is_not_spoken_to(self, world: World) -> None:
        world.secure.forget()
        answer = world.chat("stranger-model")
        assert answer.status_code == 200, answer.text
        assert world.keyed.last.model == "keyed-model", "its fallback answers"
        assert [seen for seen in world.secure.seen() if seen.method == "POST"] == []


class TestServices:
    def ask(self, world: World, path: str, key: str | None = None, **more: Any) -> requests.Response:
        return world.gateway.ask(path, key, **more)

    def test_scope_decides(self, world: World) -> None:
        found = {name: self.ask(world, "/reports/x", KEYS[name]).status_code for name in KEYS}
        assert found == {"default": 403, "app": 200, "writer": 403}
        assert self.ask(world, "/reports/x").status_code == 401
        assert self.ask(world, "/reports/x", "sk-wrong").status_code == 401
        assert self.ask(world, "/status/x").status_code == 200

    @pytest.mark.parametrize(
        ("path", "target"), [("/reports", "/"), ("/reports/", "/"), ("/reports/a/b?c=1", "/a/b?c=1")]
    )
    def test_the_prefix_is_taken_off(self, world: World, path: str, target: str) -> None:
        assert self.ask(world, path, KEYS["app"]).status_code == 200
        assert world.reports.last.target == target
        assert world.reports.last.values("X-Forwarded-Prefix") == ["/reports"]

    def test_neighbouring_paths_are_not_its_own(self, world: World) -> None:
        for path in ("/reportsx", "/Reports/x", "/report"):
            assert self.ask(world, path, KEYS["app"]).status_code == 404, path

    def test_it_hears_who_asks_from_the_gateway_alone(self, world: World) -> None:
        forged = {"X-Consumer": "root", "X_Consumer": "root", "x-consumer": "root", "Cookie": "token=chat"}
        self.ask(world, "/reports/x", KEYS["app"], headers=forged)
        seen = world.reports.last
        assert seen.values("X-Consumer") == ["app"]
        assert [name for name, _ in seen.headers if "consumer" in name.lower()] == ["X-Consumer"]
        assert (seen.values("Cookie"), seen.values("Authorization")) == ([], [])
        self.ask(world, "/status/x", headers=forged)
        assert [name for name, _ in world.status.last.headers if "consumer" in name.lower()] == []

    def test_its_figures_are_for_inside(self, world: World) -> None:
        assert self.ask(world, "/reports/figures", KEYS["app"]).status_code == 404
        assert requests.get(f"{world.gateway.inside}/services/reports/metrics", timeout=10).status_code == 200
        assert world.reports.last.target == "/figures"

    def test_bodies_are_bounded_and_methods_known(self, world: World) -> None:
        head = {"Authorization": f"Bearer {KEYS['app']}", "Content-Length": str((32 << 20) + 1)}
        assert world.gateway.at("localhost", "/reports/x", "POST", head)[0].status == 413
        refused = self.ask(world, "/reports/x", KEYS["app"], method="PROPFIND")
        assert (refused.status_code, refused.headers["Allow"]) == (405, "GET, HEAD, POST, PUT, PATCH, DELETE")

    def test_answers_have_the_gateways_headers(self, world: World) -> None:
        answer = self.ask(world, "/status/x")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'none'"

    def test_a_public_one_has_a_limit_for_each_address(self, world: World) -> None:
        found = [self.ask(world, "/status/x").status_code for _ in range(60)]
        assert 429 in found
        assert self.ask(world, "/reports/x", KEYS["app"]).status_code == 200
