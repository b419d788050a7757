"""The gateway's names and addresses as clients write them. Pure."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from stack.config.gateway import Gateway, TlsMode

HTTPS: Final = 443
ADMIN: Final = ("localhost", "127.0.0.1")  # the admin listener is on this machine alone


def authority(host: str, port: int) -> str:
    """As in a `Host` header, always with the port; an IPv6 address stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def origin(host: str, port: int) -> str:
    """As in an `Origin` header: the usual port is left out."""
    return "https://" + authority(host, port).removesuffix(f":{HTTPS}")


def names(settings: Gateway) -> list[str]:
    """All names that are answered, each once. The address is one while our own authority vouches for it."""
    return list(dict.fromkeys((*_shared(settings), *settings.chat_hostnames, *settings.api_hostnames)))


def chat_names(settings: Gateway) -> list[str]:
    """Where the chat is; the first one is printed."""
    return list(settings.chat_hostnames) or _shared(settings)


def api_names(settings: Gateway) -> list[str]:
    """Where the API is; the first one is printed."""
    return list(settings.api_hostnames) or _shared(settings)


def origins(settings: Gateway) -> list[str]:
    """The chat under each of its names: any of them may open a socket."""
    return [origin(name, settings.https_port) for name in chat_names(settings)]


def _shared(settings: Gateway) -> list[str]:
    own = settings.tls.mode is TlsMode.INTERNAL and not ip_address(settings.address).is_unspecified
    return list(dict.fromkeys([*settings.hostnames, *([settings.address] if own else [])]))
