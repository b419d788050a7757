"""What an attack sends, byte by byte. Pure.

Two marks are filled in when it is sent, once for each credential: `<<auth>>` (header lines) and `<<id>>`, `<<in>>` (as
long as what they stand for, so that no length changes).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal

from hpack import Encoder, NeverIndexedHeaderTuple
from hyperframe.frame import ContinuationFrame, Frame, HeadersFrame

CRLF: Final = b"\r\n"
ID: Final = b"Attack-Id"
"""Header by which a request is known again behind the gateway."""
FORGED: Final = b"f0rged"
"""Stands in every forged value: seen behind the gateway, it was believed or passed on."""


class Credential(StrEnum):
    """Who an attack says it is. Each one is sent as all three."""

    NONE = "n"
    VALID = "v"
    WRONG = "w"


Surface = Literal["api", "chat"]
Listener = Literal["https", "http", "inner"]
Fields = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True)
class Step:
    """Bytes, `times` times, each followed by a pause in seconds."""

    data: bytes
    pause: float = 0
    times: int = 1


@dataclass(frozen=True)
class Http1:
    """One connection with bytes as they are; `wait` is how long an answer may be silent, in seconds."""

    steps: tuple[Step, ...]
    wait: float = 5


@dataclass(frozen=True)
class Head:
    """A header block of HTTP/2: nothing in it is checked or tidied. `pieces`: over how many frames it is spread."""

    stream: int
    fields: Fields
    end: bool = True
    pieces: int = 1


@dataclass(frozen=True)
class Http2:
    """One HTTP/2 connection: header blocks and raw frames, after a proper greeting."""

    frames: tuple[Head | Step, ...]
    wait: float = 3


@dataclass(frozen=True, kw_only=True)
class Move:
    """What an attack does, without its number."""

    what: str
    traffic: Http1 | Http2
    surface: Surface = "api"
    listener: Listener = "https"
    slow: bool = False
    """Whether it tries to hold the gateway: the gateway must end such a connection."""


@dataclass(frozen=True)
class Attack:
    """One attack. The seed and the number make it again."""

    number: int
    kind: str
    move: Move


@dataclass(frozen=True)
class Fill:
    """What the marks stand for, for one attack sent as one credential."""

    id: bytes
    inner: bytes
    auth: Fields

    def __post_init__(self) -> None:
        assert len(self.id) == len(self.inner) == len(b"<<id>>")

    def filled(self, data: bytes) -> bytes:
        """The data with every mark replaced."""
        if b"<<" not in data:
            return data
        lines = b"".join(name + b": " + value + CRLF for name, value in self.auth)
        return data.replace(b"<<auth>>", lines).replace(b"<<id>>", self.id).replace(b"<<in>>", self.inner)

    def frames(self, head: Head) -> bytes:
        """A header block as frames."""
        fields: list[tuple[bytes, bytes]] = []
        for name, value in head.fields:
            if name == b"<<auth>>":
                fields += [(n.lower(), v) for n, v in self.auth]
            else:
                fields.append((self.filled(name), self.filled(value)))
        block = Encoder().encode([NeverIndexedHeaderTuple(n, v) for n, v in fields], huffman=False)
        size = max(1, -(-len(block) // head.pieces))
        parts = [block[at : at + size] for at in range(0, len(block), size)] or [b""]
        first = HeadersFrame(head.stream, parts[0])
        if head.end:
            first.flags.add("END_STREAM")
        out: list[Frame] = [first, *(ContinuationFrame(head.stream, part) for part in parts[1:])]
        out[-1].flags.add("END_HEADERS")
        return b"".join(frame.serialize() for frame in out)


@dataclass(frozen=True, kw_only=True)
class Site:
    """What an attacker knows: where the gateway is, and a key that opens nothing of what is attacked.

    `decoy` is an address that nobody should ever ask.
    """

    host: str
    decoy: str
    key: str

    @property
    def origin(self) -> str:
        """As in an `Origin` header."""
        return f"https://{self.host}"

    def named(self, text: bytes) -> bytes:
        """The text with `<<decoy>>` and `<<key>>` filled in."""
        return text.replace(b"<<decoy>>", self.decoy.encode()).replace(b"<<key>>", self.key.encode())

    def body(self, body: Any) -> bytes:
        """A body's bytes; what is not bytes is sent as JSON."""
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.named(data)

    def head(
        self,
        method: str | bytes,
        target: str | bytes,
        *lines: bytes,
        host: bytes | None = None,
        version: bytes = b"HTTP/1.1",
        mark: bytes = b"<<auth>>" + ID + b": <<id>>",
    ) -> bytes:
        """A request's head: request line, Host, credential, identity, then the given lines (without line ends)."""
        first = b" ".join((_raw(method), _raw(target), version))
        where = b"Host: " + (self.host.encode() if host is None else host)
        return self.named(CRLF.join((first, where, mark, *lines, b"", b"")))

    def request(
        self,
        method: str | bytes,
        target: str | bytes,
        *lines: bytes,
        body: Any = None,
        close: bool = True,
        **more: Any,
    ) -> bytes:
        """A whole request that is in order apart from what is asked for; `close` asks for the connection's end."""
        usual = [b"Connection: close"] if close else []
        data = self.body(body)
        if body is not None:
            usual.append(b"Content-Length: %d" % len(data))
            if not any(line.lower().startswith(b"content-type") for line in lines):
                usual.append(b"Content-Type: application/json")
        return self.head(method, target, *lines, *usual, **more) + data


def _raw(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


def one(data: bytes, wait: float = 5) -> Http1:
    """One request in one piece."""
    return Http1((Step(data),), wait)
