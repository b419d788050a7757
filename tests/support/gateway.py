"""Our Caddy, running on this machine with the rendered configuration: only ports and paths are others."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import requests

from ops import ca
from stack.config.access import Credentials
from stack.config.model import Platform
from stack.gateway import consumers, places, routes, upstreams
from stack.parts import Parts, served
from stack.shape import Endpoint
from tests.support import tools
from tests.support.certificates import issued

READY: Final = 20.0  # seconds
FOLDERS: Final = (
    places.CA_FOLDER, places.CA_KEY_FOLDER, places.CONSUMERS_FOLDER, places.TLS_FOLDER, places.TLS_KEY_FOLDER
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Running:
    """A gateway that answers."""

    https: int
    http: int
    inner: int
    folder: Path
    admin: int = 0
    listen: tuple[str, ...] = ("127.0.0.1",)
    """Addresses of this machine, where it is not loopback alone."""

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
        return str(self.folder / places.CA_FILE)

    def ask(self, path: str, key: str | None = None, method: str = "GET", **more: Any) -> requests.Response:
        """One request of a client that trusts our authority and follows nothing."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        headers |= more.pop("headers", {})
        return requests.request(
            method, self.url + path, headers=headers, verify=self.ca, timeout=20, allow_redirects=False, **more
        )

    def at(
        self, host: str, path: str, method: str = "GET", headers: Mapping[str, str] | None = None, *, port: int = 0
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """One request under another name than this machine's, its certificate checked for that name."""
        context = ssl.create_default_context(cafile=self.ca)
        connection = http.client.HTTPConnection("127.0.0.1", port or self.https, timeout=20)
        connection.sock = context.wrap_socket(
            socket.create_connection(("127.0.0.1", port or self.https), timeout=20), server_hostname=host
        )
        with closing(connection):
            connection.request(method, path, headers={"Host": f"{host}:{port or self.https}", **(headers or {})})
            answer = connection.getresponse()
            return answer, answer.read()

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

    def write_consumers(
        self, platform: Platform, parts: Parts, keys: Mapping[str, str], passwords: Mapping[str, str] | None = None
    ) -> None:
        """Puts another consumers file in place, as an update of the seed does; `passwords` are bcrypt hashes."""
        new = self.folder / "consumers.new"
        known = {
            name: Credentials(key=keys.get(name), password_bcrypt=(passwords or {}).get(name))
            for name in (consumer.name for consumer in platform.consumers)
        }
        models, default = served(platform.models, parts), platform.gateway.limits.api
        new.write_text(consumers.render(platform.consumers, known, models, default=default))
        new.replace(self.folder / places.CONSUMERS_FILE)

    @property
    def log(self) -> str:
        """Everything it has said."""
        return (self.folder / "log").read_text()


@contextmanager
def running(
    platform: Platform,
    parts: Parts,
    keys: Mapping[str, str],
    folder: Path,
    *,
    engine: str | Sequence[str],
    chat: str | None,
    passwords: Mapping[str, str] | None = None,
    listen: Sequence[str] = ("127.0.0.1",),
    environment: Mapping[str, str] | None = None,
    grafana: str | None = None,
    prometheus: str | None = None,
    files: Mapping[str, str] | None = None,
    services: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """Starts the gateway for a platform whose engine and chat listen at these addresses (`host:port`).

    Several engines are instances of one. `passwords`: bcrypt hashes by consumer. `files`: more files that the
    configuration names, by name; an engine's key is `engine-keys/<name>/key`. `services`: where own services listen, by
    name. `listen`: the first one must be 127.0.0.1.
    """
    https, http, inner, admin = _free_ports(4)
    settings = platform.gateway.model_copy(update={"https_port": https, "http_port": http, "admin_port": admin})
    gateway = Running(https=https, http=http, inner=inner, admin=admin, folder=folder, listen=tuple(listen))
    instances = [engine] if isinstance(engine, str) else list(engine)
    own = [Endpoint(host=host, port=int(port)) for host, _, port in (address.rpartition(":") for address in instances)]
    behind = routes.Upstreams(
        engines=upstreams.engines(platform, own),
        elsewhere=platform.upstreams,
        services=platform.services,
        chat=chat,
        chat_keys=platform.chat.features.api_keys,
        grafana=grafana,
        prometheus=prometheus,
    )
    config = routes.render(settings, served(platform.models, parts), behind)
    text = moved(config.to_json(), gateway)
    for service in platform.services:
        text = text.replace(f'"{service.name}:{service.port}"', f'"{(services or {})[service.name]}"')
    (folder / places.CONFIG_FILE).write_text(text)
    write_authority(platform, folder)
    for name, text in (files or {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    gateway.write_consumers(platform, parts, keys, passwords)
    command = [str(tools.caddy()), "run", "--config", str(folder / places.CONFIG_FILE)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=_environment(folder) | dict(environment or {}))
        try:
            _wait(gateway, process, settings.names[0])
            yield gateway
        finally:
            process.terminate()
            process.wait(timeout=30)


def write_authority(platform: Platform, folder: Path) -> None:
    """The stack's own authority, as `make up` makes it; it also issues what a configuration wants to be given."""
    key, certificate = ca.create("Private LLM tests", platform.gateway.names, platform.gateway.address)
    given, given_key = issued(platform.gateway.names, certificate, key)
    for name, text in {
        places.CA_FILE: certificate,
        places.CA_KEY_FILE: key,
        places.TLS_FILE: given,
        places.TLS_KEY_FILE: given_key,
    }.items():
        (folder / name).write_text(text)


def moved(config: str, gateway: Running) -> str:
    """The configuration with this machine's ports and paths; nothing else is touched."""
    tree = json.loads(config)
    http = tree["apps"]["http"]
    ports = {"https": gateway.https, "redirect": gateway.http, "inner": gateway.inner, "admin": gateway.admin}
    for name, server in http["servers"].items():
        assert len(server["listen"]) == 1
        addresses = gateway.listen if name in {"https", "redirect"} else ("127.0.0.1",)
        server["listen"] = [f"{address}:{ports[name]}" for address in addresses]
    http["http_port"], http["https_port"] = gateway.http, gateway.https
    tree["storage"]["root"] = str(gateway.folder / "data")
    text = json.dumps(tree, indent=1)
    assert f'"{places.CONSUMERS_FOLDER}/' in text, "the configuration reads no consumers"
    for place in FOLDERS:
        text = text.replace(f'"{place}/', f'"{gateway.folder}/')
    return text.replace(f"{places.ENGINE_KEYS_FOLDER}/", f"{gateway.folder}/engine-keys/")


def _environment(folder: Path) -> dict[str, str]:
    return {"PATH": os.defpath, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _wait(gateway: Running, process: subprocess.Popen[bytes], name: str) -> None:
    deadline = time.monotonic() + READY
    while time.monotonic() < deadline and process.poll() is None:
        try:
            # The listener answers before it has its certificate.
            if requests.get(f"{gateway.inside}/live", timeout=1).ok and gateway.at(name, "/live")[0].status == 404:
                return
        except (requests.ConnectionError, OSError):
            time.sleep(0.05)
    raise AssertionError(f"the gateway does not answer (exit status {process.poll()}):\n{gateway.log[-3000:]}")
