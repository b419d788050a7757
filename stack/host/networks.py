"""The networks of one host: who shares one can talk, nobody else can. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """A bridge network; an internal one has no way out and cannot publish ports."""

    name: str
    internal: bool
    why: str


EDGE: Final = NetworkSpec(name="edge", internal=False, why="the gateway's published ports")
APP: Final = NetworkSpec(name="app", internal=True, why="gateway and chat")
ENGINE: Final = NetworkSpec(name="engine", internal=True, why="gateway and engines")
VECTORS: Final = NetworkSpec(name="vectors", internal=True, why="chat and vector database")
MONITOR: Final = NetworkSpec(name="monitor", internal=True, why="Prometheus and what it reads")
PULL: Final = NetworkSpec(name="pull", internal=False, why="one-shot model pulls: the only egress")


def of_service(name: str) -> NetworkSpec:
    """The network of a service of one's own, which has no other."""
    return NetworkSpec(name=f"service-{name}", internal=True, why=f"gateway and {name}")


ALL: Final = (EDGE, APP, ENGINE, VECTORS, MONITOR, PULL)
