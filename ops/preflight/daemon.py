"""The Docker daemon itself: it answers, is recent enough, runs Linux containers."""

from __future__ import annotations

from typing import Final

from ops.docker import DaemonDown, DaemonForbidden, DockerError, DockerMissing
from ops.preflight.finding import Context, Finding, Level

OLDEST: Final = (20, 10)


def unreachable(error: DockerError, host: str) -> Finding:
    """The finding for a daemon that does not answer; the error has the words and the fix."""
    what, _, fix = str(error).partition("\nfix: ")
    names: dict[type[DockerError], str] = {
        DockerMissing: "the command `docker`",
        DaemonDown: f"the daemon at {host}",
        DaemonForbidden: f"the socket of the daemon at {host}",
    }
    where = names.get(type(error), f"the daemon at {host}")
    return Finding(check="daemon", level=Level.REFUSED, what=what, where=where, fix=fix or "see `docker info`")


class ServerVersion:
    """The daemon is new enough and runs Linux containers."""

    name = "docker version"
    local = False

    def check(self, context: Context) -> Finding | None:
        """Refuses what the platform was never run on."""
        version, system = str(context.info.get("ServerVersion", "")), context.info.get("OSType", "linux")
        if system != "linux":
            return self._finding(
                context,
                f"the daemon runs {system} containers, the platform's are Linux ones",
                "switch Docker Desktop to Linux containers (menu of its icon)",
            )
        if (number := _number(version)) and number < OLDEST:
            return self._finding(
                context,
                f"Docker {version} is older than {'.'.join(map(str, OLDEST))}",
                "upgrade it (https://docs.docker.com/engine/install/)",
            )
        return None

    def _finding(self, context: Context, what: str, fix: str) -> Finding:
        where = f"the daemon at {context.docker.host}"
        return Finding(check=self.name, level=Level.REFUSED, what=what, where=where, fix=fix)


def _number(version: str) -> tuple[int, ...] | None:
    """The first two numbers; None for versions without them (builds from source)."""
    parts = version.split(".")[:2]
    return tuple(map(int, parts)) if len(parts) == 2 and all(part.isdigit() for part in parts) else None
