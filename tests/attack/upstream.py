"""Servers behind the gateway that keep every byte they were sent: what they saw is the verdict.

They are fakes of an engine, of the chat UI and of a place that nobody may reach. They read HTTP/1.1 strictly, and say
where a request could be read in two ways.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

MOST: Final = 64 * 1024 * 1024  # bytes kept of one request
_SOCKET_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    upstream: str
    head: bytes
    body: bytes
    faults: tuple[str, ...]
    """Why a strict reader would stumble over it."""

    @property
    def line(self) -> list[bytes]:
        """Method, target and version."""
        return self.head.split(b"\r\n", 1)[0].split(b" ")

    @property
    def method(self) -> str:
        """As sent."""
        return self.line[0].decode("latin-1")

    @property
    def target(self) -> str:
        """As sent, nothing decoded."""
        return b" ".join(self.line[1:-1]).decode("latin-1")

    @property
    def fields(self) -> list[tuple[str, str]]:
        """Headers and trailers in their order and spelling."""
        pairs = (line.partition(b":") for line in self.head.split(b"\r\n")[1:] if line)
        return [(name.decode("latin-1"), value.strip().decode("latin-1")) for name, _, value in pairs]

    def values(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for other, value in self.fields if other.lower() == name.lower()]


@dataclass
class Upstream:
    """A running recorder."""

    name: str
    address: str
    seen: list[Seen] = field(default_factory=list)


class _Broken(Exception):
    """The peer went away in the middle."""


class _Handler(socketserver.BaseRequestHandler):
    upstream: Upstream
    request: socket.socket

    def setup(self) -> None:
        self.request.settimeout(90)
        self.buffer = b""

    def handle(self) -> None:
        try:
            while self._one():
                pass
        except (_Broken, OSError):
            if self.buffer.strip():
                self._keep(self.buffer[:65536], b"", ["it never ended"])

    def _one(self) -> bool:
        while b"\r\n\r\n" not in self.buffer:
            if not self._more():
                return False
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        faults = list(_faults(head))
        body, tail = b"", b""
        lower = head.lower()
        if b"\r\nexpect:" in lower:
            self.request.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            if b"\r\ntransfer-encoding:" in lower:
                for chunk in self._chunks():
                    body += chunk
                tail = self._trailers()
            elif found := re.search(rb"\r\ncontent-length: *(\d+)", lower):
                body = self._exactly(int(found[1]))
        except _Broken:
            # The gateway ended it on purpose, for example because the body grew too large: kept, not answered.
            self._keep(head, body, [*faults, "cut"])
            self.buffer = b""
            return False
        self._keep(head + (b"\r\n" + tail if tail else b""), body, faults)
        return self._answer(self.upstream.seen[-1])

    def _more(self) -> bool:
        try:
            data = self.request.recv(262144)
        except TimeoutError:
            return False
        self.buffer += data
        return bool(data)

    def _exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            if not self._more():
                raise _Broken
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def _until_line_end(self) -> bytes:
        while b"\r\n" not in self.buffer:
            if not self._more():
                raise _Broken
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._until_line_end().split(b";")[0], 16):
            yield self._exactly(size)
            self._exactly(2)

    def _trailers(self) -> bytes:
        lines = []
        while line := self._until_line_end():
            lines.append(line)
        return b"\r\n".join(lines)

    def _keep(self, head: bytes, body: bytes, faults: list[str]) -> None:
        self.upstream.seen.append(Seen(self.upstream.name, head, body[:MOST], tuple(faults)))

    def _answer(self, seen: Seen) -> bool:
        key = seen.values("Sec-WebSocket-Key")
        if seen.values("Upgrade") and key and self.upstream.name == "chat":
            accept = base64.b64encode(hashlib.sha1(key[0].encode() + _SOCKET_GUID).digest())
            self.request.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n\x88\x00"
            )
            return False
        kind, body = _content(seen)
        data = b"" if seen.method == "HEAD" else body
        self.request.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\nContent-Length: %d\r\n" % len(body)
            + b"Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\n\r\n" + data
        )  # fmt: skip
        return True


def _faults(head: bytes) -> Iterator[str]:
    line, *fields = head.split(b"\r\n")
    if not re.fullmatch(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [!-~]+ HTTP/1\.1", line):
        yield f"request line {line[:60]!r}"
    names = [one.partition(b":")[0].lower() for one in fields]
    for one in fields:
        if not _TOKEN.fullmatch(one.partition(b":")[0]) or re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", one):
            yield f"header line {one[:60]!r}"
    lengths = names.count(b"content-length")
    if lengths > 1 or (lengths and b"transfer-encoding" in names) or names.count(b"transfer-encoding") > 1:
        yield "more than one length"


def _content(seen: Seen) -> tuple[bytes, bytes]:
    if seen.upstream == "engine" and b'"stream":true' in seen.body.replace(b" ", b""):
        if seen.target.startswith("/api/"):
            return b"application/x-ndjson", b'{"message":{"content":"x"},"response":"x","done":false}\n{"done":true}\n'
        piece = {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]}
        return b"text/event-stream", b"data: " + json.dumps(piece).encode() + b"\n\ndata: [DONE]\n\n"
    return b"application/json", json.dumps(ANSWERS.get(seen.target, {})).encode()


MODELS: Final = ("qwen3:0.6b", "secret:1b", "all-minilm")
_USAGE: Final = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
ANSWERS: Final[dict[str, object]] = {
    "/api/tags": {"models": [{"name": name, "model": name} for name in MODELS]},
    "/api/ps": {"models": [{"name": name, "model": name} for name in MODELS]},
    "/api/version": {"version": "0.0.0"},
    "/v1/models": {"object": "list", "data": [{"id": name, "object": "model"} for name in MODELS]},
    "/v1/chat/completions": {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}],
        "usage": _USAGE,
    },
    "/v1/embeddings": {"object": "list", "data": [{"index": 0, "embedding": [0.5]}], "usage": _USAGE},
}


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, *_: object) -> None:
        return


@contextmanager
def recording(name: str) -> Iterator[Upstream]:
    """A server on a free port of this machine that answers anything and keeps what it was asked."""
    handler = type("Handler", (_Handler,), {})
    server = _Server(("127.0.0.1", 0), handler)
    upstream = handler.upstream = Upstream(name, f"127.0.0.1:{server.server_address[1]}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield upstream
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
