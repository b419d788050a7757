"""Our Caddy, running on this machine with the rendered configuration: only ports and paths are others."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import requests

from ops import ca
from stack.config.model import Platform
from stack.gateway import consumers, routes
from stack.parts import Parts, served
from tests.support import tools

READY: Final = 20.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Running:
    """A gateway that answers."""

    https: int
    http: int
    inner: int
    folder: Path

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"https://localhost:{self.https}"

    @property
    def inside(self) -> str:
        """Where the chat reaches it."""
        return f"http://127.0.0.1:{self.inner}"

    @property
    def ca(self) -> str:
        """The certificate that clients trust."""
        return str(self.folder / routes.CA_FILE)

    def ask(self, path: str, key: str | None = None, method: str = "GET", **more: Any) -> requests.Response:
        """One request of a client that trusts our authority and follows nothing."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        headers |= more.pop("headers", {})
        return requests.request(
            method, self.url + path, headers=headers, verify=self.ca, timeout=20, allow_redirects=False, **more
        )

    def raw(self, request: str) -> bytes:
        """What comes back for bytes that no client library would send."""
        context = ssl.create_default_context(cafile=self.ca)
        with (
            socket.create_connection(("127.0.0.1", self.https), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as wrapped,
        ):
            wrapped.sendall(request.encode("latin-1"))
            answer = b""
            while piece := wrapped.recv(65536):
                answer += piece
            return answer

    def write_consumers(self, platform: Platform, parts: Parts, keys: dict[str, str]) -> None:
        """Puts another consumers file in place, as an update of the seed does."""
        new = self.folder / "consumers.new"
        new.write_text(consumers.render(platform.consumers, keys, served(platform.models, parts)))
        new.replace(self.folder / routes.CONSUMERS_FILE)

    @property
    def log(self) -> str:
        """Everything it has said."""
        return (self.folder / "log").read_text()


@contextmanager
def running(
    platform: Platform, parts: Parts, keys: dict[str, str], folder: Path, *, engine: str, chat: str | None
) -> Iterator[Running]:
    """Starts the gateway for a platform whose engine and chat listen at these addresses (`host:port`)."""
    https, http, inner = _free_ports(3)
    settings = platform.gateway.model_copy(update={"https_port": https, "http_port": http})
    gateway = Running(https=https, http=http, inner=inner, folder=folder)
    config = routes.render(settings, served(platform.models, parts), routes.Upstreams(engine=engine, chat=chat))
    (folder / routes.CONFIG_FILE).write_text(moved(config.to_json(), gateway))
    key, certificate = ca.create("Private LLM tests", settings.hostnames, settings.address)
    (folder / routes.CA_FILE).write_text(certificate)
    (folder / routes.CA_KEY_FILE).write_text(key)
    gateway.write_consumers(platform, parts, keys)
    command = [str(tools.caddy()), "run", "--config", str(folder / routes.CONFIG_FILE)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=_environment(folder))
        try:
            _wait(gateway, process)
            yield gateway
        finally:
            process.terminate()
            process.wait(timeout=30)


def moved(config: str, gateway: Running) -> str:
    """The configuration with this machine's ports and paths; nothing else is touched."""
    tree = json.loads(config)
    servers = tree["apps"]["http"]["servers"]
    for name, port in {"https": gateway.https, "redirect": gateway.http, "inner": gateway.inner}.items():
        assert len(servers[name]["listen"]) == 1
        servers[name]["listen"] = [f"127.0.0.1:{port}"]
    tree["storage"]["root"] = str(gateway.folder / "data")
    text = json.dumps(tree, indent=1)
    for place in (routes.CA_FOLDER, routes.CA_KEY_FOLDER, routes.CONSUMERS_FOLDER):
        assert f'"{place}/' in text, f"the configuration reads nothing of {place}"
        text = text.replace(f'"{place}/', f'"{gateway.folder}/')
    return text


def _environment(folder: Path) -> dict[str, str]:
    return {"PATH": os.defpath, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _wait(gateway: Running, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY
    while time.monotonic() < deadline and process.poll() is None:
        try:
            # The listener answers before it has its certificate.
            if requests.get(f"{gateway.inside}/live", timeout=1).ok and gateway.ask("/live").status_code == 404:
                return
        except requests.ConnectionError:
            time.sleep(0.05)
    raise AssertionError(f"the gateway does not answer (exit status {process.poll()}):\n{gateway.log[-3000:]}")
