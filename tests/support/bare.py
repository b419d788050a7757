"""A reader that only reads: what any client in Python pays at least on this machine, in this hour, for the same stream.

A machine that is shared differs from itself by three times within an hour; the ratio to this one does not.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Final
from urllib.parse import urlsplit

from loadtests.client.stream import Request

END: Final = b"0\r\n\r\n"
ROOM: Final = 65_536


def crowd(url: str, requests: Iterable[Request], streams: int) -> None:
    """Asks all, so many at a time over a connection each, and throws the answers away. They must come in chunks.

    Raises OSError. For processes that gevent has not patched.
    """
    place = urlsplit(url)
    waiting = iter(requests)
    with ExitStack() as opened, select.epoll() as poll:
        sockets = {}
        for _ in range(streams):
            one = opened.enter_context(socket.create_connection((place.hostname or "", place.port or 80)))
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            poll.register(one, select.EPOLLIN)
            sockets[one.fileno()] = one
            _ask(one, next(waiting))
        while sockets:
            for number, _ in poll.poll():
                data = sockets[number].recv(ROOM)
                if not data:
                    raise ConnectionError("the server closed a connection")
                if data.endswith(END):
                    if following := next(waiting, None):
                        _ask(sockets[number], following)
                    else:
                        poll.unregister(sockets.pop(number))


def _ask(one: socket.socket, request: Request) -> None:
    head = f"{request.method} {request.path} HTTP/1.1\r\nHost: bare\r\nContent-Type: application/json\r\n"
    one.sendall(f"{head}Content-Length: {len(request.body)}\r\n\r\n".encode() + request.body)
