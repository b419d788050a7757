"""The gateway's ports: free, or held by this stack's own gateway."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ops.preflight.finding import Context, Finding, Level
from ops.volumes import STACK_LABEL
from stack.config.gateway import AdminListener

_EVERYWHERE: Final = ("", "0.0.0.0", "::")  # noqa: S104 (compared with, never bound)


@dataclass(frozen=True)
class Published:
    """A port that a running container publishes on the host."""

    container: str
    stack: str | None
    address: str
    port: int


class GatewayPort:
    """One port of the gateway is not held by anything else."""

    local = True

    def __init__(self, key: str) -> None:
        """`key` is the configuration key: httpsPort, httpPort or adminPort."""
        self.name = f"port {key}"
        self._key = key

    def check(self, context: Context) -> Finding | None:
        """Names who holds the port."""
        gateway = context.platform.gateway
        if self._key == "adminPort" and gateway.admin is not AdminListener.LOCAL:
            return None
        ports = {"httpsPort": gateway.https_port, "httpPort": gateway.http_port, "adminPort": gateway.admin_port}
        address, port = "127.0.0.1" if self._key == "adminPort" else gateway.address, ports[self._key]
        own = f"{context.project}-{context.stack}-gateway"
        for held in published(context):
            if held.port == port and overlaps(held.address, address):
                if held.container == own and held.stack == context.stack:
                    return None
                return self._finding(context, address, port, *_container(held))
        holder = _process(context, address, port)
        return self._finding(context, address, port, *holder) if holder else None

    def _finding(self, context: Context, address: str, port: int, holder: str, stop: str) -> Finding:
        return Finding(
            check=self.name,
            level=Level.REFUSED,
            what=f"port {port} of {address} is in use by {holder}",
            where=f"private-llm:platform.gateway.{self._key} in {context.file}",
            fix=f"{stop}, or set {self._key} to a free port (`lsof -i :{port}` shows who holds one)",
        )


def _container(held: Published) -> tuple[str, str]:
    if held.stack:
        return f"the container {held.container} of stack {held.stack}", f"`make down STACK={held.stack}`"
    return f"the container {held.container}", f"stop it (`docker stop {held.container}`)"


def _process(context: Context, address: str, port: int) -> tuple[str, str] | None:
    listeners = context.host.listeners()
    if listeners is None:
        taken = context.host.is_taken(address, port)
        return ("another program", "stop that program") if taken else None
    for listener in listeners:
        if listener.port == port and overlaps(listener.address, address):
            process = context.host.process_of(listener.inode)
            return process or f"another user's process (`sudo ss -ltnp sport = :{port}` names it)", "stop it"
    return None


def overlaps(held: str, wanted: str) -> bool:
    """Whether a socket on `held` keeps another from `wanted`."""
    return held == wanted or held in _EVERYWHERE or wanted in _EVERYWHERE


def published(context: Context) -> Iterator[Published]:
    """The published ports of all running containers."""
    names = context.docker.run(["ps", "--quiet", "--no-trunc"]).split()
    if not names:
        return
    # A container may be gone by now: `inspect` then fails but prints the others.
    found = context.docker.attempt(["inspect", "--format", _FORMAT, *names]).out
    for line in found.splitlines():
        yield from _ports(line)


_FORMAT: Final = (
    '{{.Name}}|{{with .Config.Labels}}{{index . "' + STACK_LABEL + '"}}{{end}}|'
    "{{range $port, $all := .NetworkSettings.Ports}}{{range $all}}{{.HostIp}}#{{.HostPort}},{{end}}{{end}}"
)


def _ports(line: str) -> Iterator[Published]:
    name, stack, ports = [*line.split("|"), "", ""][:3]
    for pair in filter(None, ports.split(",")):
        address, _, port = pair.partition("#")
        yield Published(name.lstrip("/"), stack or None, address, int(port))
