"""The gateway that the suite starts itself, with what stands behind it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeVar

import requests
import yaml

from stack.config.explain import parse_platform
from stack.config.model import Platform
from tests.contract.target import Client
from tests.support.engine import Engine, Seen, engine, web_application
from tests.support.gateway import Running, running
from tests.support.samples import SAMPLES

PLATFORM: Final = Path(__file__).with_name("platform.yaml")
PARTS: Final = SAMPLES["dev"].parts
HELLO: Final = {"model": "default", "messages": [{"role": "user", "content": "hello"}]}
NOWHERE: Final = "127.0.0.1:1"
OWN_QUESTIONS: Final = {("GET", "/api/tags"), ("GET", "/api/ps"), ("GET", "/api/version"), ("GET", "/v1/models")}
T = TypeVar("T")


def key_of(name: str) -> str:
    """The key of a consumer: unmistakable wherever it turns up."""
    return f"sk-canary-{name}-{'0' * 24}"


def parsed(*, elsewhere: str | None = None, **changes: Any) -> Platform:
    """The platform of the contract, with other settings of the gateway.

    `elsewhere`: its models are served by an engine at this address that speaks OpenAI's API alone.
    """
    tree = yaml.safe_load(PLATFORM.read_text())
    tree["gateway"] |= changes
    if elsewhere:
        tree["upstreams"] = [{"name": "elsewhere", "urls": ["http://192.168.0.1"], "kind": "openai", "slots": 64}]
        for model in tree["models"]:
            model["engine"] = "elsewhere"
    platform = parse_platform(tree, source=PLATFORM.name)
    # This machine's loopback is refused in a configuration: there it would be the gateway's own container.
    moved = tuple(one.model_copy(update={"urls": (f"http://{elsewhere}",)}) for one in platform.upstreams)
    return platform.model_copy(update={"upstreams": moved})


@dataclass(frozen=True)
class World:
    """The gateway and the fakes behind it."""

    gateway: Running
    platform: Platform
    engine: Engine
    chat: Engine
    _addresses: Iterator[int] = field(default_factory=lambda: count(2))

    def client(self, consumer: str = "default") -> Client:
        """A client with a consumer's key, from an address that nobody has used."""
        number = next(self._addresses)
        source = f"127.{self.gateway.https % 200 + 1}.{number // 250}.{number % 250 + 2}"
        return Client(url=self.gateway.url, key=key_of(consumer), ca=self.gateway.ca, source=source)

    def write_consumers(self, platform: Platform, keys: dict[str, str]) -> None:
        """Puts another consumers file in place, as an update of the seed does."""
        self.gateway.write_consumers(platform, PARTS, keys)

    @property
    def keys(self) -> dict[str, str]:
        """Every consumer's key."""
        return {consumer.name: key_of(consumer.name) for consumer in self.platform.consumers}

    @property
    def asked(self) -> list[Seen]:
        """What reached the engine or the chat in this test; the gateway's own questions for models left out."""
        return [
            *(one for one in self.engine.seen() if (one.method, one.target) not in OWN_QUESTIONS),
            *self.chat.seen(),
        ]

    def metrics(self) -> str:
        """What Prometheus reads."""
        return requests.get(f"{self.gateway.inside}/metrics", timeout=5).text


@contextmanager
def started(
    folder: Path, platform: Platform | None = None, *, kind: str = "ollama", nobody: bool = False, **more: Any
) -> Iterator[World]:
    """The gateway on fakes of its own.

    `kind`: the API that the engine speaks to it. `nobody`: nothing listens behind it. `more`: as `running` takes it.
    """
    with engine([model.name for model in parsed().models]) as fake, web_application() as pages:
        platform = platform or parsed(elsewhere=fake.address if kind == "openai" else None)
        keys = {consumer.name: key_of(consumer.name) for consumer in platform.consumers}
        behind = {"engine": NOWHERE, "chat": NOWHERE} if nobody else {"engine": fake.address, "chat": pages.address}
        with running(platform, PARTS, keys, folder, **(behind | more)) as gateway:
            yield World(gateway, platform, fake, pages)


def eventually(look: Callable[[], T], wanted: Callable[[T], bool], seconds: float = 5) -> T:
    """What a look says once it is what is wanted. Raises AssertionError with the last one when the time is over."""
    deadline = time.monotonic() + seconds
    while not wanted(seen := look()):
        assert time.monotonic() < deadline, f"in vain for {seconds} s; last seen: {seen!r:.1000}"
        time.sleep(0.02)
    return seen
