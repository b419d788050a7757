"""Under a connection: TLS apart from its socket, and the clock of the kernel's stamps."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from typing import Final

import gevent.socket

BLOCK: Final = 65_536
SECOND: Final = 1_000_000_000


class Seal:
    """TLS apart from the socket, so that the sealed bytes are read with the kernel's stamp."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self.incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self.incoming, self._outgoing, server_hostname=host)

    def shake_hands(self, sock: gevent.socket.socket) -> None:
        """Raises OSError: the certificate is refused, or the other side ended it."""
        while True:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                sock.sendall(self._outgoing.read())
                data = sock.recv(BLOCK)
                if not data:
                    raise ConnectionError("the server ended the TLS handshake") from None
                self.incoming.write(data)
            else:
                sock.sendall(self._outgoing.read())
                return

    def seal(self, data: bytes) -> bytes:
        """The bytes to send for it."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._object.write(rest) :]
        return self._outgoing.read()

    def unseal(self, data: bytes) -> Iterator[bytes]:
        """What can be read with these bytes; the end of the connection (of data too) is an empty piece."""
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()
        try:
            while plain := self._object.read(BLOCK):
                yield plain
                if not (self.incoming.pending or self._object.pending()):
                    return  # to be told so by an exception takes longer than all the rest
        except ssl.SSLWantReadError:
            return
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            pass
        yield b""


class Clock:
    """How far the clock of the kernel's stamps is ahead of ours: a constant, until somebody sets it."""

    EVERY: Final = SECOND

    def __init__(self) -> None:
        self._ahead = 0
        self._next = 0

    def ahead(self, now_ns: int) -> int:
        """In nanoseconds; asked again every second."""
        if now_ns >= self._next:
            # Whoever is interrupted between two clocks is wrong by that: the quickest of a few was not.
            self._ahead = min(self._once() for _ in range(4))[1]
            self._next = now_ns + self.EVERY
        return self._ahead

    @staticmethod
    def _once() -> tuple[int, int]:
        before, kernels = time.monotonic_ns(), time.time_ns()
        took = time.monotonic_ns() - before
        return took, kernels - before - took // 2
