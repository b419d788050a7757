"""The gateway's addresses as browsers write them. Pure."""

from __future__ import annotations

from stack.config.gateway import Gateway

HTTPS = 443


def origin(host: str, port: int) -> str:
    """As in an `Origin` header: the usual port is left out, an IPv6 address stands in brackets."""
    name = f"[{host}]" if ":" in host else host
    return f"https://{name}" if port == HTTPS else f"https://{name}:{port}"


def origins(settings: Gateway) -> list[str]:
    """Under each of its names, the one that is printed first; any of them may open a socket."""
    names = dict.fromkeys((*settings.hostnames, settings.address))
    return [origin(name, settings.https_port) for name in names]
