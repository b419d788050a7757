"""Sends attacks: sockets, TLS and frames, and nothing that would tidy them."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from hpack import Decoder, HPACKError
from hyperframe.exceptions import HyperframeError
from hyperframe.frame import Frame, HeadersFrame, SettingsFrame

from tests.attack.traffic import Fill, Head, Http1, Http2, Step

LONGEST: Final = 30.0
"""Seconds that one connection may last at most."""
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MOST: Final = 1024 * 1024  # bytes of answers that are kept


@dataclass(frozen=True)
class Answer:
    """What came back on one connection."""

    statuses: tuple[int, ...]
    data: bytes
    """HTTP/1: as received; HTTP/2: header fields as lines, and bodies."""
    ended: bool
    """Whether the gateway closed the connection, or answered, before our patience was over."""
    seconds: float


@dataclass(frozen=True)
class Door:
    """A listener of the gateway; `context` is None for plain HTTP."""

    port: int
    context: ssl.SSLContext | None = None

    def connect(self) -> socket.socket:
        """An open connection."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        if self.context is None:
            return plain
        try:
            return self.context.wrap_socket(plain, server_hostname="localhost")
        except BaseException:
            plain.close()
            raise


def context(ca: str, protocol: str) -> ssl.SSLContext:
    """Trusts the gateway's authority and speaks one protocol: `h2` or `http/1.1`."""
    made = ssl.create_default_context(cafile=ca)
    made.set_alpn_protocols([protocol])
    return made


def send(traffic: Http1 | Http2, fill: Fill, h1: Door, h2: Door) -> Answer:
    """One attack over a connection of its own."""
    return _http1(traffic, fill, h1) if isinstance(traffic, Http1) else _http2(traffic, fill, h2)


def _http1(traffic: Http1, fill: Fill, door: Door) -> Answer:
    started = time.monotonic()
    steps = (replace(step, data=fill.filled(step.data)) for step in traffic.steps)
    data, closed = _converse(door, steps, lambda _: traffic.wait)
    statuses = tuple(int(code) for code in re.findall(rb"(?:^|(?<=[\n}]))HTTP/1\.[01] (\d{3})", data))
    return Answer(statuses, data, closed or bool(statuses), time.monotonic() - started)


def _http2(traffic: Http2, fill: Fill, door: Door) -> Answer:
    started = time.monotonic()
    greeting = Step(PREFACE + SettingsFrame(0, {SettingsFrame.INITIAL_WINDOW_SIZE: 2**20}).serialize())
    frames = (
        Step(fill.frames(one)) if isinstance(one, Head) else replace(one, data=fill.filled(one.data))
        for one in traffic.frames
    )
    received, closed = _converse(door, chain([greeting], frames), lambda got: 0.5 if _answered(got) else traffic.wait)
    statuses, data = _decoded(received)
    return Answer(statuses, data, closed or bool(statuses), time.monotonic() - started)


def _converse(door: Door, steps: Iterable[Step], patience: Callable[[bytes], float]) -> tuple[bytes, bool]:
    """Writes it all, then reads until the gateway closes or is silent for too long; says whether it closed."""
    deadline = time.monotonic() + LONGEST
    received = bytearray()
    with door.connect() as wire:
        closed = not _write(wire, steps, received, deadline)
        while not closed and time.monotonic() < deadline:
            piece = _read(wire, patience(bytes(received)))
            if piece is None:
                break
            closed = piece == b""
            received += piece[: MOST - len(received)]
    return bytes(received), closed


def _write(wire: socket.socket, steps: Iterable[Step], received: bytearray, deadline: float) -> bool:
    """Writes it all and keeps what comes back meanwhile; False once the gateway has closed the connection."""
    for step in steps:
        for _ in range(step.times):
            if time.monotonic() > deadline:
                return True
            try:
                wire.settimeout(10)
                wire.sendall(step.data)
            except OSError:
                while piece := _read(wire, 0.5):
                    received += piece[: MOST - len(received)]
                return False
            if step.pause:
                piece = _read(wire, step.pause)
                if piece == b"":
                    return False
                received += piece or b""
    return True


def _read(wire: socket.socket, patience: float) -> bytes | None:
    """What is there; empty when the gateway has closed, None when it is silent for so many seconds."""
    wire.settimeout(patience)
    try:
        return wire.recv(65536)
    except TimeoutError:
        return None
    except OSError:
        return b""


def _frames(data: bytes) -> Iterator[Frame]:
    at = 0
    while at + 9 <= len(data):
        try:
            frame, length = Frame.parse_frame_header(memoryview(data[at : at + 9]))
            if at + 9 + length > len(data):
                return
            frame.parse_body(memoryview(data[at + 9 : at + 9 + length]))
        except HyperframeError:
            return
        yield frame
        at += 9 + length


def _answered(data: bytes) -> bool:
    """Whether a stream or the connection has come to its end."""
    return any("END_STREAM" in frame.flags or frame.type in (3, 7) for frame in _frames(data))


def _decoded(data: bytes) -> tuple[tuple[int, ...], bytes]:
    decoder = Decoder()
    statuses: list[int] = []
    text = b""
    for frame in _frames(data):
        if isinstance(frame, HeadersFrame):
            with contextlib.suppress(HPACKError):
                for name, value in decoder.decode(frame.data, raw=True):
                    text += name + b": " + value + b"\r\n"
                    if name == b":status":
                        statuses.append(int(value))
        elif frame.type == 0:
            text += bytes(frame.data)  # type: ignore[attr-defined]
    return tuple(statuses), text
