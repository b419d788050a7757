"""The streaming client: one request in, one record out, with the moment at which the kernel took each piece in.

Why not locust's own: its `iter_lines` waits for blocks of a kilobyte, which adds tens of milliseconds to the first
token and makes gaps of zero. Here the loop's read watcher takes what is there, at once and without waking a greenlet,
and the stamp is the kernel's (SO_TIMESTAMPNS) where it gives one: a busy client then reads late, but does not measure
late.

Runs under gevent, patched or not. Bodies are bytes, serialised before the clock starts.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import gevent
import gevent.event
import gevent.socket
from geventhttpclient.response import HTTPParseError, HTTPResponse

from loadtests.client.parser import LONGEST, Answer, Form, Parser, unlike
from loadtests.client.secret import Secrets
from loadtests.client.wire import BLOCK, SECOND, Clock, Seal
from loadtests.records import Outcome, Record

SO_TIMESTAMPNS: Final = 35  # Linux; not in Python's socket module
STAMP: Final = struct.Struct("qq")
ROOM: Final = socket.CMSG_SPACE(STAMP.size)
READ: Final = 1  # libev's EV_READ
HELD: Final = 32  # pieces of an answer that are read before they are looked at
ENDS: Final = (b"", b"\r", b"\n")  # how the rest of an answer in chunks begins, where its end was cut in two
HEAD: Final = 256 << 10  # characters of the headers and trailers of an answer, more than any server sends


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to send, and what its record says about it."""

    path: str
    body: bytes = b""
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = ()
    scenario: str = ""
    model: str = ""
    session: int = 0
    turn: int = 0
    asked_tokens: int | None = None
    vectors: int | None = None
    """How many the answer must have: a text is one. None: it is no matter of vectors."""
    width: int | None = None
    """How many numbers each of them must have, where that is known."""


@dataclass(frozen=True, slots=True)
class Reply:
    """How a request went, and what the answer said."""

    record: Record
    answer: Answer


class Client:
    """Sends requests to one place, each over a connection of its own while it runs; connections are used again.

    `url`: http(s)://host[:port][/prefix]. `ca`: a file with the certificate authority to trust instead of the system's;
    certificates are always checked. `at`: host:port to connect to where the URL's mean another place from here.
    `keep` gets the record of every request exactly once, however it ends.
    `total_s` is the longest that a request may take, `idle_s` the longest silence within it.
    No record repeats the `key`, whatever the other side says.
    Raises ValueError for a URL that is none.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str = "",
        ca: Path | None = None,
        at: str = "",
        worker: int = 0,
        connect_s: float = 10,
        total_s: float = 600,
        idle_s: float = 600,
        keep: Callable[[Record], None] | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is no address: http://host[:port] or https://host[:port]")
        self._host = parts.hostname
        usual = 443 if parts.scheme == "https" else 80
        host, _, port = at.rpartition(":")
        self._place = (host, int(port)) if at else (parts.hostname, parts.port or usual)
        self._prefix = parts.path.rstrip("/")
        self._authority = parts.netloc.rpartition("@")[2]
        self._context = ssl.create_default_context(cafile=ca) if parts.scheme == "https" else None
        self._key = key
        self._secrets = Secrets(key)
        self._worker = worker
        self._connect_s, self._total_s, self._idle_s = connect_s, total_s, idle_s
        self._keep = keep
        self._address: Any = None
        self._idle: list[_Connection] = []
        self._clock = Clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def total_s(self) -> float:
        """The longest that a request may take."""
        return self._total_s

    def close(self) -> None:
        """Closes the connections that are not in use."""
        while self._idle:
            self._idle.pop().close()

    def preconnect(self, count: int = 1) -> None:
        """Opens connections beforehand, so that no request pays for one. Raises OSError when it cannot."""
        self._idle += [self._open() for _ in range(count)]

    def ask(self, request: Request, intended_ns: int | None = None) -> Reply:
        """Sends a request and reads its answer to the end. Never raises for what the other side does.

        `intended_ns`: when the schedule wanted it, by `time.monotonic_ns`; now, when left out. A greenlet that is
        killed in it leaves a record that says cancelled. Raises ValueError for a path or header with a line break.
        """
        head = self._head(request)
        now = time.monotonic_ns()
        run = _Run(request, self._worker, now if intended_ns is None else intended_ns, self._secrets)
        connection: _Connection | None = None
        try:
            connection = self._ready(run)
            run.sent_ns = time.monotonic_ns()
            connection.converse(head + request.body, run, self._clock, self._total_s, self._idle_s)
        except TimeoutError as error:
            run.failed(Outcome.TIMEOUT, str(error) or "timed out")
        except (OSError, HTTPParseError) as error:
            run.failed(Outcome.ERROR, _plainly(error))
        except BaseException:  # killed: its record is kept all the same
            run.failed(Outcome.CANCELLED, "")
            raise
        finally:
            reply = run.reply()
            if connection is not None:
                if run.reusable:
                    self._idle.append(connection)
                else:
                    connection.close()
            if self._keep is not None:
                self._keep(reply.record)
        return reply

    def _ready(self, run: _Run) -> _Connection:
        while self._idle:
            kept = self._idle.pop()
            if kept.alive():
                return kept
            kept.close()
        fresh = self._open()
        run.connect_ns, run.tls_ns = fresh.connect_ns, fresh.tls_ns
        return fresh

    def _open(self) -> _Connection:
        if self._address is None:  # names are looked up once: that takes a thread
            found = gevent.socket.getaddrinfo(*self._place, type=socket.SOCK_STREAM)
            for address in found[:-1]:
                with suppress(ConnectionError):
                    first = _Connection(address, self._context, self._host, self._connect_s)
                    self._address = address
                    return first
            self._address = found[-1]
        return _Connection(self._address, self._context, self._host, self._connect_s)

    def _head(self, request: Request) -> bytes:
        fields: list[tuple[str, str]] = [
            ("Host", self._authority),
            # A packed stream would come in blocks of the packer's.
            ("Accept-Encoding", "identity"),
            ("Content-Length", str(len(request.body))),
            *([("Content-Type", "application/json")] if request.body else []),
            *([("Authorization", f"Bearer {self._key}")] if self._key else []),
            *request.headers,
        ]
        lines = [f"{request.method} {self._prefix}{request.path} HTTP/1.1", *(f"{n}: {v}" for n, v in fields)]
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a path or header of a request has a line break in it")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class _Run:
    """One request while it runs."""

    def __init__(self, request: Request, worker: int, intended_ns: int, secrets: Secrets) -> None:
        self.request = request
        self._secrets = secrets
        self.worker = worker
        self.intended_ns = intended_ns
        self.sent_ns = time.monotonic_ns()
        self.connect_ns: int | None = None
        self.tls_ns: int | None = None
        self.headers_ns: int | None = None
        self.done_ns: int | None = None
        self.status: int | None = None
        self.parser: Parser | None = None
        self.outcome: Outcome | None = None
        self.error = ""
        self.complete = False
        self.reusable = False

    def failed(self, outcome: Outcome, error: str) -> None:
        self.outcome, self.error = outcome, error

    def began(self, response: _Response, at_ns: int) -> None:
        """The head is there."""
        self.headers_ns = at_ns
        self.status = response.status_code
        kind = str(response.get("content-type") or "")
        form = Form.of(kind)
        if form is not None:
            self.parser = Parser(form, str(response.get("content-encoding") or ""), self._secrets)
        elif self.status < 300:
            self.failed(Outcome.ERROR, f"answered {kind or 'without a Content-Type'}, which is no engine's answer")

    def reply(self) -> Reply:
        answer = self.parser.close() if self.parser is not None else Answer()
        outcome, error = self.outcome, self.error or answer.error
        if outcome is None:
            if self.status == 429:
                outcome = Outcome.LIMIT
            elif self.status is None or self.status >= 300:
                outcome, error = Outcome.ERROR, error or f"answered {self.status}"
            elif not self.complete:
                outcome, error = Outcome.TRUNCATED, error or "the connection ended before the answer did"
            elif answer.error:
                outcome = Outcome.ERROR
            elif not answer.ended:
                outcome, error = Outcome.TRUNCATED, "the stream has no end mark"
            elif wrong := self._lacking(answer):
                outcome, error = Outcome.ERROR, f"answered {wrong}"
            else:
                outcome = Outcome.OK
        record = Record(
            scenario=self.request.scenario, model=self.request.model, session=self.request.session,
            turn=self.request.turn, worker=self.worker, intended_ns=self.intended_ns, sent_ns=self.sent_ns,
            connect_ns=self.connect_ns, tls_ns=self.tls_ns, headers_ns=self.headers_ns, first_ns=answer.first_ns,
            visible_ns=answer.visible_ns, last_ns=answer.last_ns, done_ns=self.done_ns or time.monotonic_ns(),
            pieces_ns=answer.pieces_ns, pieces_chars=answer.pieces_chars, coalesced=answer.coalesced,
            asked_tokens=self.request.asked_tokens, input_tokens=answer.input_tokens,
            cached_tokens=answer.cached_tokens, output_tokens=answer.output_tokens, outcome=outcome,
            status=self.status, error=self._secrets.said(error),
        )  # fmt: skip
        return Reply(record, answer)

    def _lacking(self, answer: Answer) -> str:
        asked = self.request
        return "" if asked.vectors is None else unlike(answer.embeddings, asked.vectors, asked.width)


class _Response(HTTPResponse):
    """Hands the body on as it is unpacked from HTTP, with the stamp of the bytes it came in."""

    def __init__(self, run: _Run) -> None:
        super().__init__(run.request.method)
        self._run = run
        self.at_ns = 0
        self._head = 0

    def _on_header_field(self, string: str) -> None:
        self._count(string)
        super()._on_header_field(string)

    def _on_header_value(self, string: str) -> None:
        self._count(string)
        super()._on_header_value(string)

    def _count(self, string: str) -> None:
        self._head += len(string)
        if self._head > HEAD:
            raise HTTPParseError(f"headers of more than {HEAD >> 10} KiB")

    def _on_headers_complete(self) -> int | bool | None:
        skip = super()._on_headers_complete()
        if self.get_code() >= 200:  # not one of those that announce the real one
            self._run.began(self, self.at_ns)
        return skip

    def _on_body(self, buf: bytearray) -> None:
        if self._run.parser is not None:
            self._run.parser.feed(bytes(buf), self.at_ns)


class _Connection:
    """A connection, TLS done. With TLS the sealed bytes are read here too, for the kernel's stamp."""

    def __init__(self, address: Any, context: ssl.SSLContext | None, host: str, connect_s: float) -> None:
        family, kind, protocol, _, place = address
        start = time.monotonic_ns()
        self._socket = gevent.socket.socket(family, kind, protocol)
        self._tls: Seal | None = None
        self.tls_ns: int | None = None
        try:
            self._socket.settimeout(connect_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with suppress(OSError):  # another system: stamps are then ours, when we read
                self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            self._socket.connect(place)
            self.connect_ns = time.monotonic_ns() - start
            if context is not None:
                self._tls = Seal(context, host)
                self._tls.shake_hands(self._socket)
                self.tls_ns = time.monotonic_ns() - start - self.connect_ns
        except TimeoutError:
            self._socket.close()
            raise TimeoutError(f"no connection to {place[0]}:{place[1]} within {connect_s:g} s") from None
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def alive(self) -> bool:
        """False where the server has closed it meanwhile."""
        self._socket.settimeout(0)
        try:
            while data := self._socket.recv(BLOCK):
                if self._tls is None:
                    return False  # bytes that nobody asked for
                self._tls.incoming.write(data)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def converse(self, request: bytes, run: _Run, clock: Clock, total_s: float, idle_s: float) -> None:
        """Sends a request and reads until its answer is over. Raises OSError, TimeoutError."""
        deadline = run.sent_ns + int(total_s * SECOND)
        reading = _Reading(self._socket, self._tls, run, clock)
        self._socket.settimeout(total_s)
        try:
            self._socket.sendall(request if self._tls is None else self._tls.seal(request))
        except TimeoutError:
            raise TimeoutError(f"the request could not be sent within {total_s:g} s") from None
        self._socket.settimeout(0)
        reading.start()
        try:
            while not reading.over.is_set():
                now = time.monotonic_ns()
                silent = reading.newest_ns + int(idle_s * SECOND)
                if now >= deadline:
                    raise TimeoutError(f"not done within {total_s:g} s")
                if now >= silent:
                    raise TimeoutError(f"nothing came for {idle_s:g} s")
                reading.over.wait((min(deadline, silent) - now) / SECOND)
        finally:
            reading.stop()
        run.done_ns = reading.newest_ns if reading.newest_ns > run.sent_ns else None
        run.complete = reading.response.message_complete
        run.reusable = run.complete and not reading.response.should_close()
        if reading.trouble is not None and (run.headers_ns is None or not isinstance(reading.trouble, OSError)):
            raise reading.trouble


class _Reading:
    """The reading half of one request, called by the loop whenever bytes are there."""

    def __init__(
        self,
        sock: gevent.socket.socket,
        tls: Seal | None,
        run: _Run,
        clock: Clock,
    ) -> None:
        self._receive = sock.recvmsg
        self._tls = tls
        self._run = run
        self._clock = clock
        self._held: list[tuple[int, bytes]] = []
        self._in_chunks = False
        self.response = _Response(run)
        self.newest_ns = run.sent_ns
        self.trouble: Exception | None = None
        self.over = gevent.event.Event()
        self._watcher = gevent.get_hub().loop.io(sock.fileno(), READ)

    def start(self) -> None:
        self._watcher.start(self._readable)

    def stop(self) -> None:
        """Ends it, with all that came so far."""
        self._watcher.stop()
        self._watcher.close()
        try:
            self._look()
        except Exception as error:  # noqa: BLE001  (the caller has the first trouble, and this may be in its wake)
            self.trouble = self.trouble or error

    def _readable(self) -> None:
        """Takes what is there, and when it came. This runs for every piece: what can wait is left to `_look`."""
        try:
            data, extra, _, _ = self._receive(BLOCK, ROOM)
            at = now = time.monotonic_ns()
            if extra:
                seconds, ns = STAMP.unpack(extra[0][2])
                at = seconds * SECOND + ns - self._clock.ahead(now)
                # That clock can be set meanwhile: nothing arrives later than now, or before what was there before it.
                if not self.newest_ns <= at <= now:
                    at = now
            self.newest_ns = at
            for plain in (data,) if self._tls is None else self._tls.unseal(data):
                self._held.append((at, plain))
            if len(self._held) < HELD and self._in_chunks and not self._may_end():
                return
            self._look()
        except BlockingIOError:
            return
        except Exception as error:  # noqa: BLE001  (this runs in the loop: whoever waits gets it)
            self.trouble = error
            self._finish()
        else:
            if self.response.message_complete:
                self._finish()

    def _may_end(self) -> bool:
        """Whether the newest bytes may end an answer in chunks: an empty line does, and half of one comes first."""
        newest = self._held[-1][1] if self._held else b""
        return newest[:1] in ENDS or b"\r\n\r\n" in newest

    def _look(self) -> None:
        """Looks into what is held. Many pieces at one go take a third of the time that they take one by one."""
        held, self._held = self._held, []
        response = self.response
        for response.at_ns, plain in held:
            if plain:
                response.feed(plain)
            elif not response.message_complete:
                self._end()
        if self._run.parser is not None and self._run.parser.full:
            raise HTTPParseError(f"an event of more than {LONGEST >> 20} MiB")
        self._in_chunks = self._in_chunks or str(response.get("transfer-encoding")).lower() == "chunked"

    def _end(self) -> None:
        """The connection is over: an answer without a length ends so, any other is cut."""
        with suppress(HTTPParseError):
            self.response.feed(b"")
        if not self.response.message_complete:
            raise ConnectionError("the connection was closed before the answer was over")

    def _finish(self) -> None:
        self._watcher.stop()
        self.over.set()


def _plainly(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
