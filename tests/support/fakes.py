"""Fakes of what stands behind the gateway: small servers on this machine that keep what they were asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final


@dataclass(frozen=True)
class Asked:
    """One request that reached a fake."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Fake:
    """A running fake: where it listens and what it was asked."""

    address: str
    asked: list[Asked] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)
    """A streamed answer waits for this between its first piece and its end."""

    @property
    def last(self) -> Asked:
        """The newest request. Raises IndexError when there was none."""
        return self.asked[-1]


@contextmanager
def fake_engine(models: list[str]) -> Iterator[Fake]:
    """Speaks what the gateway needs of Ollama: a list of models, a chat (streamed on request), embeddings."""

    class Engine(_Handler):
        def answer(self) -> None:
            if self.path == "/api/tags":
                return self.json({"models": [{"name": name} for name in models]})
            if self.path in ("/v1/chat/completions", "/api/chat"):
                return self.stream() if json.loads(self.fake.last.body).get("stream") else self.json(_whole("whole"))
            if self.path in ("/v1/embeddings", "/api/embed"):
                return self.json({"object": "list", "data": [{"index": 0, "embedding": [0.5, 0.25]}], "usage": _USAGE})
            return self.json({"path": self.path})

        def stream(self) -> None:
            native = self.path == "/api/chat"
            pieces = _LINES if native else _EVENTS
            self.send_response(200)
            self.send_header("Content-Type", "application/x-ndjson" if native else "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(pieces[0])
            self.wfile.flush()
            self.fake.go_on.wait(timeout=30)
            self.wfile.write(b"".join(pieces[1:]))
            self.close_connection = True

    with _serve(Engine) as fake:
        yield fake


@contextmanager
def fake_chat() -> Iterator[Fake]:
    """Like Open WebUI, answers 200 to any path, with headers that must not come out."""

    class Chat(_Handler):
        def answer(self) -> None:
            self.json(
                {"page": self.path}, {"Server": "uvicorn", "X-Powered-By": "fake", "Set-Cookie": "token=t; Path=/"}
            )

    with _serve(Chat) as fake:
        yield fake


_USAGE: Final = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def _whole(text: str) -> dict[str, Any]:
    return {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": _USAGE,
    }


def _piece(text: str | None) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": None if text else "stop"}
    return f"data: {json.dumps({'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n".encode()


def _line(text: str, *, done: bool) -> bytes:
    return json.dumps({"message": {"role": "assistant", "content": text}, "done": done}).encode() + b"\n"


_EVENTS: Final = [_piece("first"), _piece("second"), _piece(None), b"data: [DONE]\n\n"]
_LINES: Final = [_line("first", done=False), _line("second", done=False), _line("", done=True)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: Fake

    def answer(self) -> None:
        raise NotImplementedError

    def handle_any(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size)
        self.fake.asked.append(Asked(self.command, self.path, dict(self.headers.items()), body))
        self.answer()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

    def json(self, answer: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        body = json.dumps(answer).encode()
        self.send_response_only(200)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def _serve(handler: type[_Handler]) -> Iterator[Fake]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    fake = handler.fake = Fake(address=f"127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield fake
    finally:
        fake.go_on.set()
        server.shutdown()
        thread.join()
        server.server_close()
