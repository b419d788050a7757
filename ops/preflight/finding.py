"""What a host check is and what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from ops.docker import DockerCli
from ops.preflight.host import Host
from stack.config.model import Platform


class Level(StrEnum):
    """What follows from a finding."""

    REFUSED = "refused"
    """Nothing is started."""
    WARNING = "warning"
    """It goes on, and may disappoint."""
    NOTE = "note"
    """Said once, nothing is wrong."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing about the host that the person should know."""

    check: str
    level: Level
    what: str
    where: str
    fix: str

    @property
    def refuses(self) -> bool:
        """True when nothing may be started."""
        return self.level is Level.REFUSED

    def text(self) -> str:
        """The finding as lines for the terminal."""
        lines = [f"host check {self.check}: {self.level}: {self.what}", f"  where: {self.where}"]
        return "\n".join([*lines, f"  fix:   {self.fix}"] if self.fix else lines)


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the checks look at."""

    platform: Platform
    docker: DockerCli
    info: Mapping[str, Any]
    """`docker info`."""
    host: Host
    """This machine; only asked by local checks."""
    project: str
    stack: str
    source: str = "official"
    """Where the parts come from: official or mirror."""

    @property
    def file(self) -> str:
        """The file that a person edits for this stack."""
        return f"Pulumi.{self.stack}.yaml"


class Check(Protocol):
    """A question about the host."""

    name: str
    local: bool
    """It looks at this machine itself, so it says nothing about a remote Docker host."""

    def check(self, context: Context) -> Finding | None:
        """What is wrong, or None."""
        ...
