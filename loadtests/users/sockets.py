"""The chat's socket as its page opens it: Socket.IO 5 (Engine.IO 4) over one WebSocket, its events told by message.

Open WebUI sends each event of an account to every socket of that account. People who share an account therefore share
one socket here: with one each, n of them would make the chat send every token n times, which no real people do. (Each
worker process with people of that account has a socket: with several, the chat sends each token to all of them.)

Runs under gevent, which must have patched the process.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import gevent
import websocket
from gevent.queue import Queue

from loadtests.client.secret import Secrets

PATH: Final = "/ws/socket.io/?EIO=4&transport=websocket"
LOST: Final = "lost"
ODD: Final = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What comes of JSON in a form that nobody knows."""
JOIN: Final = 0
"""The number under which the answer to signing in comes."""


@cache
def trust(ca: Path | None) -> ssl.SSLContext:
    """Whom a client trusts. Reading a system's authorities takes tens of milliseconds, in which no event is read."""
    return ssl.create_default_context(cafile=ca)


class SocketError(Exception):
    """The socket does not open, or is gone; the message says why. `status`: what was answered, None for nothing."""

    def __init__(self, why: str, status: int | None = None) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class Event:
    """Something that the chat said of one message."""

    kind: str
    """As `response:completion`; `lost` when the socket is gone, its data then says why."""
    data: Any
    at_ns: int
    """When it was read, by `time.monotonic_ns`: before anything looks into it."""
    chat: str = ""


class Channel:
    """A signed-in socket. Its own greenlet reads it, answers pings, and hands each event to who listens for it.

    Args:
        url: the chat's origin, http(s)://host[:port].
        token: of the session, from signing in.
        ca: the authority to trust in place of the system's.
        timeout: for opening it, in seconds.

    Raises:
        SocketError: it does not open, or the token is not accepted.
    """

    def __init__(self, url: str, token: str, *, ca: Path | None = None, timeout: float = 30) -> None:
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        self._lost = ""
        self._secrets = Secrets(token)
        self._listeners: dict[str, Queue[Event]] = {}
        self._at_ns = 0
        try:
            self._socket = websocket.create_connection(
                f"{'wss' if tls else 'ws'}://{parts.netloc}{PATH}", timeout=timeout, origin=url,
                enable_multithread=True, http_no_proxy=["*"],
                sslopt={"context": trust(ca)} if tls else {},
            )  # fmt: skip
        except websocket.WebSocketBadStatusException as error:
            raise SocketError(f"the chat's socket was refused with {error.status_code}", error.status_code) from None
        except (OSError, websocket.WebSocketException, ValueError) as error:
            raise SocketError(f"the chat's socket does not open: {self._secrets.said(str(error))}") from None
        try:
            self.session = self._sign_in(token)
        except (OSError, websocket.WebSocketException, *ODD) as error:
            self._socket.close()
            raise SocketError(f"the chat's socket does not speak Socket.IO: {self._secrets.said(str(error))}") from None
        except SocketError:
            self._socket.close()
            raise
        self._reader = gevent.spawn(self._read)

    @property
    def alive(self) -> bool:
        """Events still come."""
        return not self._lost

    def close(self) -> None:
        """Whoever still listens is told that it is gone."""
        self._gone("it was closed")
        self._reader.kill()
        with suppress(OSError, websocket.WebSocketException):
            self._socket.close(timeout=1)

    @contextmanager
    def listening(self, message: str) -> Generator[Queue[Event], None, None]:
        """The events of a message, from now on. Begin before you send it: they may come before the answer does."""
        queue = self._listeners[message] = Queue()
        if self._lost:
            queue.put(Event(LOST, self._lost, time.monotonic_ns()))
        try:
            yield queue
        finally:
            del self._listeners[message]

    def _sign_in(self, token: str) -> str:
        """The number of the session, which messages are sent with."""
        opening = json.loads(self._packet("0"))
        self._silence = (opening["pingInterval"] + opening["pingTimeout"]) / 1000
        self._socket.send("40" + json.dumps({"token": token}))
        session = str(json.loads(self._packet("40"))["sid"])
        self._socket.send(f"42{JOIN}" + json.dumps(["user-join", {"auth": {"token": token}}]))
        # A token that is not valid is accepted above, and then no event ever comes.
        if not any(json.loads(self._packet(f"43{JOIN}"))):
            raise SocketError("the chat's socket does not accept the session's token", 401)
        self._socket.settimeout(self._silence)
        return session

    def _packet(self, kind: str) -> str:
        """The next packet of a kind, while nobody listens for others."""
        while not (text := self._next()).startswith(kind):
            if text.startswith(("41", "44", "1")):
                raise SocketError(f"the chat's socket refuses the session: {self._secrets.said(text[2:])[:100]}")
        return text[len(kind) :]

    def _next(self) -> str:
        """The next packet, its moment noted. Raises OSError or WebSocketException when there will be none."""
        # What lay in the same TLS record came together with what was read before it.
        together = self._at_ns and getattr(self._socket.sock, "pending", int)()
        text = self._socket.recv()
        self._at_ns = self._at_ns if together else time.monotonic_ns()
        if not text:
            raise ConnectionError("the chat closed it")
        if text == "2":
            self._socket.send("3")
            self._socket.send('42["heartbeat",{}]')  # as the page does about as often: somebody is there
        return text if isinstance(text, str) else ""

    def _read(self) -> None:
        try:
            while True:
                self._tell(self._next())
        except websocket.WebSocketTimeoutException:
            self._gone(f"nothing came for {self._silence:g} s, not even a ping")
        except (OSError, websocket.WebSocketException, *ODD) as error:
            self._gone(self._secrets.said(str(error)) or type(error).__name__)

    def _tell(self, text: str) -> None:
        if text.startswith(("41", "1")):
            raise ConnectionError("the chat ended the session")
        if not text.startswith('42["events",'):
            return
        told = json.loads(text[2:])[1]
        if isinstance(told, dict) and (queue := self._listeners.get(str(told.get("message_id")))) is not None:
            event = told.get("data") or {}
            queue.put(Event(str(event.get("type")), event.get("data"), self._at_ns, str(told.get("chat_id"))))

    def _gone(self, why: str) -> None:
        self._lost = self._lost or f"the chat's socket is gone: {why}"
        for queue in self._listeners.values():
            queue.put(Event(LOST, self._lost, time.monotonic_ns()))
