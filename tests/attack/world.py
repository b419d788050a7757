"""What is attacked: our gateway, or the naive one, in front of servers that keep what they saw."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import requests
import yaml

from stack.config.explain import parse_platform
from tests.attack import wire
from tests.attack.oracle import Right, Rules
from tests.attack.traffic import Credential, Fields, Fill, Listener, Site, Surface
from tests.attack.upstream import Upstream, recording
from tests.attack.wire import Door
from tests.support import tools
from tests.support.gateway import running
from tests.support.samples import SAMPLES

PLATFORM: Final = Path(__file__).with_name("platform.yaml")
NAIVE: Final = Path(__file__).with_name("naive.caddyfile")
SESSION: Final = "eyJhbGciOiJIUzI1NiJ9.e30.a-session-of-the-chat"
ALIASES: Final = ("default", "fast", "embedding")  # the naive gateway passes names on as they come: no fault of its own
READY: Final = 20.0


def key_of(consumer: str) -> str:
    """A key that is unmistakable wherever it turns up."""
    return f"sk-canary-{consumer}-{'k' * 32}"


@dataclass(frozen=True, kw_only=True)
class World:
    """A gateway under attack."""

    site: Site
    rules: Rules
    h1: dict[Listener, Door]
    h2: Door
    engine: Upstream
    chat: Upstream
    decoy: Upstream
    inside: str = ""

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """All that can have seen something."""
        return self.engine, self.chat, self.decoy

    def memory(self) -> int:
        """Resident bytes of the gateway."""
        text = requests.get(f"{self.inside}/metrics", timeout=10).text
        found = re.search(r"^process_resident_memory_bytes (\S+)$", text, re.MULTILINE)
        assert found, "the gateway does not tell its memory"
        return int(float(found[1]))


def credential(surface: Surface, who: Credential) -> Fields:
    """What somebody shows. The chat has its own sign-in: a key of the gateway is wrong there."""
    bearer = b"Bearer " + key_of("valid" if who is Credential.VALID else "wrong").encode()
    match who:
        case Credential.NONE:
            return ()
        case Credential.VALID if surface == "chat":
            return ((b"Cookie", b"token=" + SESSION.encode()), (b"Authorization", b"Bearer " + SESSION.encode()))
        case _:
            return ((b"Authorization", bearer),)


def fill(number: int, surface: Surface, who: Credential) -> Fill:
    """The marks of one attack as one credential."""
    mark = f"{who}{number:05d}"
    return Fill(mark.encode(), mark.upper().encode(), credential(surface, who))


@contextmanager
def attacked(folder: Path, changes: Mapping[str, Mapping[str, object]] | None = None) -> Iterator[World]:
    """Our gateway with the attack's platform; `changes` are laid over sections of `gateway`."""
    tree = yaml.safe_load(PLATFORM.read_text())
    for section, values in (changes or {}).items():
        tree["gateway"][section] |= values
    platform = parse_platform(tree, source=PLATFORM.name)
    keys = {consumer.name: key_of(consumer.name) for consumer in platform.consumers}
    with (
        recording("engine") as engine,
        recording("chat") as chat,
        recording("decoy") as decoy,
        running(platform, SAMPLES["dev"].parts, keys, folder, engine=engine.address, chat=chat.address) as gateway,
    ):
        hosts = {f"{name}:{gateway.https}" for name in ("localhost", "127.0.0.1")}
        yield World(
            site=Site(host=f"localhost:{gateway.https}", decoy=decoy.address, key=key_of("wrong")),
            rules=_rules(hosts | {engine.address, chat.address}, hosts, frozenset(keys.values())),
            h1={
                "https": Door(gateway.https, wire.context(gateway.ca, "http/1.1")),
                "http": Door(gateway.http),
                "inner": Door(gateway.inner),
            },
            h2=Door(gateway.https, wire.context(gateway.ca, "h2")),
            engine=engine,
            chat=chat,
            decoy=decoy,
            inside=gateway.inside,
        )


def _rules(seen: set[str], hosts: set[str], keys: frozenset[str], *aliases: str) -> Rules:
    allowed = frozenset({"qwen3:0.6b", "all-minilm", *aliases})
    return Rules(
        rights={
            Credential.NONE: Right(),
            Credential.VALID: Right(scopes=frozenset({"chat", "embeddings", "native"}), models=allowed),
            Credential.WRONG: Right(scopes=frozenset({"show"}), models=allowed | {"secret:1b"}),
        },
        hosts=frozenset(seen),
        origins=frozenset(f"https://{host}" for host in hosts),
        keys=keys,
    )


@contextmanager
def naive(folder: Path) -> Iterator[World]:
    """The control: Caddy as guides set it up. It knows one key and maps no models."""
    with recording("engine") as engine, recording("chat") as chat, recording("decoy") as decoy:
        port = _free_port()
        settings = {
            "PATH": os.defpath, "HOME": str(folder), "FOLDER": str(folder), "PORT": str(port),
            "KEY": key_of("valid"), "ENGINE": engine.address, "CHAT": chat.address,
        }  # fmt: skip
        command = [str(tools.caddy()), "run", "--config", str(NAIVE), "--adapter", "caddyfile"]
        with (folder / "naive.log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=settings)
        try:
            ca = folder / "data" / "pki" / "authorities" / "local" / "root.crt"
            _wait(process, ca, port, folder / "naive.log")
            door = Door(port, wire.context(str(ca), "http/1.1"))
            hosts = {f"{name}:{port}" for name in ("localhost", "127.0.0.1")}
            rules = _rules(hosts | {engine.address, chat.address}, hosts, frozenset({key_of("valid")}), *ALIASES)
            yield World(
                site=Site(host=f"localhost:{port}", decoy=decoy.address, key=key_of("wrong")),
                rules=rules,
                h1={"https": door, "http": door, "inner": door},
                h2=Door(port, wire.context(str(ca), "h2")),
                engine=engine,
                chat=chat,
                decoy=decoy,
            )
        finally:
            process.terminate()
            process.wait(timeout=30)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], ca: Path, port: int, log: Path) -> None:
    deadline = time.monotonic() + READY
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if ca.exists() and requests.get(f"https://localhost:{port}/", verify=str(ca), timeout=1).ok:
                return
        except (requests.ConnectionError, OSError):
            pass
        time.sleep(0.05)
    raise AssertionError(
        f"the naive gateway does not answer (exit status {process.poll()}):\n{log.read_text()[-2000:]}"
    )
