"""Whom the contract is checked on, and how a client of it asks: politely where the gateway is not ours."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

# Never the name of a model: a probe that gets through a missing block asks for nothing that exists.
NO_MODEL: Final = "contract-probe/does-not-exist"
RATE: Final = 5  # requests a second, where the gateway is not ours
PATIENCE: Final = 120.0  # seconds of Retry-After that are waited out, where the gateway is not ours
TIMEOUT: Final = 60.0  # seconds


@dataclass
class Pace:
    """At most `rate` requests in any second, over all threads; 0 is no bound."""

    rate: int
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _next: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self) -> None:
        """Returns when the next request may be sent."""
        if not self.rate:
            return
        with self._lock:
            due = max(self._next, self.now())
            self._next = due + 1 / self.rate
        if (early := due - self.now()) > 0:
            self.sleep(early)


@dataclass(frozen=True)
class Answer:
    """What came back for bytes that no client library would send. Status 0: the connection was closed without one."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        """The body. Raises ValueError when it is not JSON."""
        return requests.compat.json.loads(self.body)


@dataclass(frozen=True)
class Client:
    """One client of a gateway. `source`: the address it comes from, any of 127.0.0.0/8, where the gateway is ours."""

    url: str
    key: str
    ca: str | None = None
    source: str | None = None
    pace: Pace = field(default_factory=lambda: Pace(0))

    @property
    def host(self) -> str:
        """As in a Host header."""
        return urlsplit(self.url).netloc

    @property
    def where(self) -> tuple[str, int]:
        """Name and port to connect to."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 443

    @property
    def trust(self) -> ssl.SSLContext:
        """TLS settings of a client that checks certificates."""
        return ssl.create_default_context(cafile=self.ca)

    def named(self, key: str) -> Client:
        """The same client with another key."""
        return replace(self, key=key)

    @contextmanager
    def session(self) -> Iterator[requests.Session]:
        """A session that trusts the gateway's authority, reads nothing of the shell and keeps no cookies."""
        with requests.Session() as session:
            session.trust_env = False
            session.verify = self.ca or True
            session.cookies.set_policy(_NoCookies())
            session.mount("https://", _From(self.source))
            yield session

    def ask(
        self, path: str, method: str = "GET", *, key: str | None = "mine", headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> requests.Response:  # fmt: skip
        """One request; nothing is followed. `key`: another one, or None for none at all."""
        shown = self.key if key == "mine" else key
        sent = ({"Authorization": f"Bearer {shown}"} if shown else {}) | dict(headers or {})
        with self.session() as session:
            return self._patient(
                lambda: session.request(
                    method, self.url + path, headers=sent, allow_redirects=False, timeout=TIMEOUT, **more
                )
            )

    def _patient(self, send: Callable[[], requests.Response]) -> requests.Response:
        """Where the gateway is not ours, its limit for our key is waited out: it is no part of what is checked."""
        deadline = time.monotonic() + PATIENCE
        while True:
            self.pace.wait()
            answer = send()
            wait = float(answer.headers.get("Retry-After", 0)) if answer.status_code == 429 else 0
            if not (self.pace.rate and wait) or time.monotonic() + wait > deadline:
                return answer
            time.sleep(wait)

    @contextmanager
    def connected(self, alpn: tuple[str, ...] = ("http/1.1",)) -> Iterator[ssl.SSLSocket]:
        """A TLS connection, counted as one request."""
        self.pace.wait()
        trust = self.trust
        trust.set_alpn_protocols(list(alpn))
        origin = (self.source, 0) if self.source else None
        with (
            socket.create_connection(
                _numeric(self.where, self.source), timeout=TIMEOUT, source_address=origin
            ) as plain,
            trust.wrap_socket(plain, server_hostname=self.where[0]) as wrapped,
        ):
            yield wrapped

    def raw(self, head: str, body: bytes = b"") -> Answer:
        """Sends a request exactly as written, one line each, with the blank line behind it, and reads one answer."""
        with self.connected() as wrapped:
            data = head.strip("\n").replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body
            with contextlib.suppress(OSError):  # refused while we were still sending: the answer may be there
                wrapped.sendall(data)
            return read_answer(wrapped, head.split(" ", 1)[0])

    def target(self, target: str, method: str = "GET", host: str | None = None, *, key: bool = True) -> Answer:
        """A request whose target is not cleaned on the way."""
        authorization = f"\nAuthorization: Bearer {self.key}" if key else ""
        name = self.host if host is None else host
        return self.raw(f"{method} {target} HTTP/1.1\nHost: {name}{authorization}\nConnection: close")


def read_answer(connection: ssl.SSLSocket, method: str = "GET") -> Answer:
    """Reads one answer from an open connection."""
    answer = http.client.HTTPResponse(connection, method=method)
    try:
        answer.begin()
        return Answer(answer.status, answer.msg, answer.read())
    except (http.client.BadStatusLine, ConnectionError, ssl.SSLEOFError):
        return Answer(0, http.client.HTTPMessage(), b"")


def _numeric(where: tuple[str, int], source: str | None) -> tuple[str, int]:
    """An IPv4 source cannot reach an IPv6 address that `localhost` may be first."""
    return ("127.0.0.1", where[1]) if source else where


class _From(HTTPAdapter):
    """Connections that come from one local address."""

    def __init__(self, source: str | None) -> None:
        self._source = (source, 0) if source else None
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        super().init_poolmanager(*arguments, **more, source_address=self._source)


class _NoCookies(requests.cookies.cookielib.DefaultCookiePolicy):
    def set_ok(self, *_: object) -> bool:
        return False
