"""The plain words rooms describe a service with: health, files, ports, cards, metrics. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

UID: Final = 10001  # user and group of every service; root in a container is root on the host's kernel


@dataclass(frozen=True, kw_only=True)
class Health:
    """How Docker knows that a service answers. Times are whole seconds."""

    test: Sequence[str]
    interval: int = 5
    timeout: int = 5
    start_period: int = 30
    retries: int = 6


@dataclass(frozen=True, kw_only=True)
class ConfigFile:
    """One plain file in a volume of its own, mounted read-only. A changed file replaces the service."""

    name: str
    folder: str
    file: str
    content: str


@dataclass(frozen=True, kw_only=True)
class Gpus:
    """Access to graphics cards: `request` is Docker's `--gpus` text, `devices` and `groups` are for AMD."""

    request: str | None = None
    devices: Sequence[str] = ()
    groups: Sequence[str] = ()


NO_GPUS: Final = Gpus()


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Where Prometheus reads a service, or why it cannot; `through` is who hands on what it cannot reach itself."""

    port: int = 0
    path: str = "/metrics"
    none_because: str = ""
    through: Endpoint | None = None


@dataclass(frozen=True, kw_only=True)
class Publish:
    """A port on the host."""

    address: str
    external: int
    internal: int


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where another service finds this one: a network alias and a port, never a published one."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """Plain HTTP inside an internal network."""
        return f"http://{self.host}:{self.port}"

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"
