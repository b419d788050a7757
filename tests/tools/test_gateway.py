"""The rendered configuration of the sample `dev` in our real Caddy: what only its operator sees.

What clients meet is in tests/contract.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import requests

from stack.gateway import chat_routes, consumers, headers, places
from tests.conftest import recorded
from tests.contract.world import eventually
from tests.support import tools
from tests.support.engine import Engine, engine, web_application
from tests.support.gateway import Running, running
from tests.support.samples import SAMPLES

SAMPLE: Final = SAMPLES["dev"]
KEYS: Final = {consumer.name: SAMPLE.canaries[f"key-{consumer.name}"] for consumer in SAMPLE.platform.consumers}


@pytest.fixture(scope="module")
def chat() -> Iterator[Engine]:
    with web_application() as application:
        yield application


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, chat: Engine) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("gateway")
    with (
        engine([model.name for model in SAMPLE.platform.models]) as fake,
        running(SAMPLE.platform, SAMPLE.parts, KEYS, folder, engine=fake.address, chat=chat.address) as gateway,
    ):
        yield gateway


def test_its_keys_open_what_the_sample_says(gateway: Running) -> None:
    listed = {model["id"] for model in gateway.ask("/v1/models", KEYS["default"]).json()["data"]}
    assert listed == {name for m in SAMPLE.platform.models for name in (m.name, *m.aliases)}
    assert gateway.ask("/ollama/api/tags", KEYS["default"]).status_code == 200
    assert gateway.ask("/ollama/api/tags", KEYS["chat"]).status_code == 403


def test_pages_and_data_have_policies_of_their_own(gateway: Running) -> None:
    assert gateway.ask("/api/config").headers["Content-Security-Policy"] == chat_routes.CSP
    assert gateway.ask("/v1/models").headers["Content-Security-Policy"] == headers.API_CSP


def test_the_administration_of_caddy_is_off(gateway: Running) -> None:
    with pytest.raises(requests.ConnectionError):
        requests.get("http://127.0.0.1:2019/config/", timeout=2)
    assert '"disabled": true' in (gateway.folder / places.CONFIG_FILE).read_text()


@pytest.mark.parametrize("kind", ["functions", "tools", "skills"])
def test_what_runs_code_on_the_server_is_neither_asked_for_nor_changed(
    gateway: Running, chat: Engine, kind: str
) -> None:
    chat.forget()
    assert gateway.ask(f"/api/v1/{kind}/").status_code == 200
    assert gateway.ask(f"/api/v1/{kind}/", method="POST", json={}).status_code == 405
    assert gateway.ask(f"/api/v1/{kind}/create", method="POST", json={}).status_code == 404
    assert [seen.target for seen in chat.seen() if seen.method != "GET"] == []


def test_health_checks_and_scrapes_are_not_logged(gateway: Running) -> None:
    for path in ("/live", "/metrics", "/logged-after"):
        requests.get(gateway.inside + path, timeout=5)
    eventually(lambda: gateway.log, lambda log: "/logged-after" in log)
    inside = [line for line in gateway.log.splitlines() if f'"127.0.0.1:{gateway.inner}"' in line]
    assert [line for line in inside if '"/logged-after"' in line]
    assert [line for line in inside if '"/live"' in line or '"/metrics"' in line] == []


def test_the_health_check_of_the_container_tells_up_from_down(gateway: Running) -> None:
    check = recorded("dev").one("gateway-container").clear("healthcheck")["tests"]
    assert check[:2] == ["CMD", "caddy"]
    inner = f":{places.INNER_PORT}/"
    assert inner in check[-1]
    for port, up in ((gateway.inner, True), (1, False)):
        words = [word.replace(inner, f":{port}/") for word in check[2:]]
        done = subprocess.run([tools.caddy(), *words], capture_output=True, text=True, timeout=10, check=False)
        assert (done.returncode == 0) is up, done.stderr


def written(gateway: Running, key: str, numbers: dict[str, int]) -> None:
    """Puts a consumers file with one consumer in place."""
    hashed = {"sha256": hashlib.sha256(key.encode()).hexdigest()}
    one = {"name": "bounded", "keys": [hashed], "scopes": ["chat"], "models": ["*"], **numbers}
    new = gateway.folder / "bounded.new"
    new.write_text(json.dumps({"version": consumers.FORMAT, "consumers": [one]}))
    new.replace(gateway.folder / places.CONSUMERS_FILE)


@pytest.fixture
def bounded(tmp_path: Path) -> Iterator[Running]:
    with running(SAMPLE.platform, SAMPLE.parts, KEYS, tmp_path, engine="127.0.0.1:1", chat="127.0.0.1:1") as gateway:
        yield gateway


def test_it_takes_consumers_at_the_bounds_and_none_beyond(bounded: Running) -> None:
    for end in (0, 1):
        key = f"sk-bounded-{end}"
        written(bounded, key, {name: ends[end] for name, ends in consumers.BOUNDS.items()})
        eventually(lambda key=key: bounded.ask("/v1/models", key).status_code, lambda status: status == 200)  # type: ignore[misc]
    for name, (least, most) in consumers.BOUNDS.items():
        for beyond in (least - 1, most + 1):
            written(bounded, "sk-beyond", {name: beyond})
            eventually(lambda: bounded.log, lambda log, said=f"{name} is {beyond}": said in log)  # type: ignore[misc]
