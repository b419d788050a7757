"""The streaming client against the fake engine: every protocol, every fault, and what its record then says."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
import pytest
from gevent.server import StreamServer

from loadtests.client.secret import Secrets
from loadtests.client.stream import Client, Request, _Reading, _Run
from loadtests.client.wire import Clock
from loadtests.records import Outcome, Record
from tests.support.certificates import issued
from tests.support.engine import Engine, engine, eventually_seen

MODEL = "qwen3:0.6b"
CHAT = "/v1/chat/completions"


def asking(path: str = CHAT, **body: Any) -> Request:
    name = {CHAT: "messages", "/api/chat": "messages"}.get(path, "input" if "/v1/resp" in path else "prompt")
    words = "three words here"
    said = {"model": MODEL, name: [{"role": "user", "content": words}] if name == "messages" else words, "stream": True}
    usage = {"stream_options": {"include_usage": True}} if path.startswith("/v1") else {}
    return Request(path=path, body=json.dumps(said | usage | body).encode(), model=MODEL, scenario="chat")


@pytest.fixture(scope="module")
def _one() -> Iterator[Engine]:
    with engine() as one:
        yield one


@pytest.fixture
def one(_one: Engine) -> Engine:
    _one.reset()
    return _one


@pytest.fixture
def kept() -> list[Record]:
    return []


@pytest.fixture
def client(one: Engine, kept: list[Record]) -> Iterator[Client]:
    with Client(f"http://{one.address}", keep=kept.append, total_s=10) as made:
        yield made


def in_order(record: Record) -> bool:
    moments = [record.intended_ns, record.sent_ns, record.headers_ns, record.first_ns, record.last_ns, record.done_ns]
    return [m for m in moments if m is not None] == sorted(m for m in moments if m is not None)


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses", "/api/chat", "/api/generate"])
@pytest.mark.parametrize("stream", [True, False])
def test_every_protocol_counts_the_same(client: Client, one: Engine, path: str, stream: bool) -> None:
    one.play(ttft_ms=20, itl_ms=2, tokens=9)
    reply = client.ask(asking(path, stream=stream))
    assert (reply.record.outcome, reply.record.status, reply.record.error) == (Outcome.OK, 200, "")
    assert (reply.record.output_tokens, reply.record.input_tokens, reply.answer.text.count(" ")) == (9, 3, 9)
    assert len(reply.record.pieces_ns) == (9 if stream else 1)
    assert in_order(reply.record)
    assert reply.record.first_ns is not None
    assert reply.record.first_ns - reply.record.sent_ns > 19e6


@pytest.mark.parametrize("path", [CHAT, "/v1/responses"])
def test_what_the_engine_had_of_the_prompt_is_in_the_record(client: Client, one: Engine, path: str) -> None:
    one.play(cached=0.67)
    assert client.ask(asking(path)).record.cached_tokens == 2
    one.play()
    assert client.ask(asking(path)).record.cached_tokens == (None if path == CHAT else 0)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/api/embed"])
def test_embeddings(client: Client, path: str) -> None:
    reply = client.ask(Request(path=path, body=b'{"model": "all-minilm", "input": ["a b", "c"]}', vectors=2))
    assert (reply.record.outcome, reply.answer.vectors, reply.record.input_tokens) == (Outcome.OK, 2, 3)
    assert (reply.record.first_ns, reply.record.output_tokens) == (None, None)


@pytest.mark.parametrize(
    "form",
    [
        {"split": True}, {"chunks_per_write": 7, "itl_ms": 10}, {"line_ending": "\r\n"},
        {"comments": True, "role_chunk": False},
        {"hostile": True, "split": True, "comments": True}, {"usage": "always"}, {"reasoning_tokens": 9},
    ],
)  # fmt: skip
def test_every_form_of_a_stream_gives_the_exact_counts(client: Client, one: Engine, form: dict[str, Any]) -> None:
    one.play(**{"tokens": 23, "itl_ms": 1} | form)
    record = client.ask(asking()).record
    assert (record.outcome, record.error, record.output_tokens, len(record.pieces_ns)) == (Outcome.OK, "", 23, 23)
    if "reasoning_tokens" in form:
        assert record.visible_ns == record.pieces_ns[9]
    if "chunks_per_write" in form:
        assert record.coalesced == 19, "six of each seven, and one of the last two"


def test_several_tokens_a_chunk(client: Client, one: Engine) -> None:
    one.play(tokens=23, tokens_per_chunk=7, itl_ms=1)
    record = client.ask(asking()).record
    assert (record.output_tokens, len(record.pieces_ns)) == (23, 4)


@pytest.mark.parametrize(
    ("scenario", "outcome", "words"),
    [
        ({"fault": "cut", "fault_after": 3}, Outcome.TRUNCATED, "ended before"),
        ({"fault": "reset", "fault_after": 3}, Outcome.TRUNCATED, "ended before"),
        ({"fault": "no_done", "fault_after": 16}, Outcome.TRUNCATED, "end mark"),
        ({"fault": "garbage", "fault_after": 3}, Outcome.ERROR, "not JSON"),
        ({"fault": "stream_error", "fault_after": 3}, Outcome.ERROR, "told to fail"),
        ({"fault": "hang", "fault_after": 3}, Outcome.TIMEOUT, "nothing came"),
        ({"fault": "never"}, Outcome.TIMEOUT, "nothing came"),
        ({"ttft_ms": 50, "itl_ms": 50, "tokens": 99}, Outcome.TIMEOUT, "not done"),
        ({"fault": "bad_head"}, Outcome.ERROR, ""),
        ({"fault": "status", "status": 429}, Outcome.LIMIT, ""),
        ({"fault": "status", "status": 503}, Outcome.ERROR, ""),
        ({"fault": "context_overflow"}, Outcome.ERROR, "context"),
    ],
)
def test_no_fault_passes_for_an_answer(one: Engine, scenario: dict[str, Any], outcome: Outcome, words: str) -> None:
    one.play(**{"itl_ms": 1} | scenario)
    kept: list[Record] = []
    with Client(f"http://{one.address}", keep=kept.append, total_s=1, idle_s=0.3) as client:
        record = client.ask(asking()).record
        assert (record.outcome, kept) == (outcome, [record])
        assert words in record.error
        assert record.error or outcome is Outcome.LIMIT
        assert in_order(record)
        assert len(record.pieces_ns) == (3 if scenario.get("fault_after") == 3 else len(record.pieces_ns))
        one.reset()
        assert client.ask(asking()).record.outcome is Outcome.OK, "the next request is not harmed"


def test_a_rest_without_an_end_is_a_page_and_no_answer(one: Engine) -> None:
    with engine((), "-answer-all") as pages, Client(f"http://{pages.address}") as client:
        record = client.ask(asking()).record
    assert (record.outcome, record.status) == (Outcome.ERROR, 200)
    assert "engine" in record.error


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    record = Client(f"http://127.0.0.1:{port}").ask(asking()).record
    assert (record.outcome, record.error, record.status) == (Outcome.ERROR, "Connection refused", None)


def test_a_server_that_does_not_take_connections() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        record = Client(f"http://127.0.0.1:{full.getsockname()[1]}", connect_s=0.2).ask(asking()).record
        for one in waiting:
            one.close()
    assert record.outcome is Outcome.TIMEOUT
    assert "no connection" in record.error


@pytest.mark.parametrize("url", ["localhost:1", "ftp://x", "http://"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        Client(url)


def test_a_header_cannot_break_out(client: Client) -> None:
    with pytest.raises(ValueError, match="line break"):
        client.ask(Request(path="/", headers=(("X", "1\r\nY: 2"),)))


class TestConnections:
    def test_only_the_first_request_pays_for_its_connection(self, client: Client, one: Engine) -> None:
        first, second = client.ask(asking()).record, client.ask(asking()).record
        assert first.connect_ns is not None
        assert first.tls_ns is None
        assert second.connect_ns is None
        assert len({seen.connection for seen in one.seen()}) == 1

    def test_connecting_beforehand(self, client: Client) -> None:
        client.preconnect()
        assert client.ask(asking()).record.connect_ns is None

    def test_requests_at_the_same_time_have_connections_of_their_own(self, client: Client, one: Engine) -> None:
        one.play(ttft_ms=100, tokens=3)
        gevent.joinall([gevent.spawn(client.ask, asking()) for _ in range(5)], raise_error=True)
        assert one.state["most_in_flight"] == 5
        assert len({seen.connection for seen in one.seen()}) == 5

    def test_one_that_the_server_closed_is_not_used(self) -> None:
        said = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"choices":0}'
        with socket.create_server(("127.0.0.1", 0)) as server:
            client = Client(f"http://127.0.0.1:{server.getsockname()[1]}")
            asks = [gevent.spawn(client.ask, asking())]
            for _ in range(2):
                gevent.socket.wait_read(server.fileno())
                connection, _ = server.accept()
                gevent.socket.wait_read(connection.fileno())
                connection.recv(65536)
                connection.sendall(said)
                asks[-1].join()
                connection.close()
                asks.append(gevent.spawn(client.ask, asking()))
            asks.pop().kill()
            client.close()
        assert [ask.get().record.connect_ns is not None for ask in asks] == [True, True]

    def test_headers_go_out_as_they_should(self, one: Engine) -> None:
        with Client(f"http://{one.address}", key="sk-1") as client:
            client.ask(asking())
        (seen,) = eventually_seen(one, 1)
        assert seen.values("Accept-Encoding") == ["identity"]
        assert seen.values("Authorization") == ["Bearer sk-1"]
        assert seen.values("Host") == [one.address]


def chunk(text: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(text), text)


class TestPiecesThatAreHeld:
    """Pieces are looked at some at a time; neither the end nor a cut may be overlooked for that."""

    HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

    @staticmethod
    def read(*parts: bytes, closed: bool = False) -> tuple[_Run, _Reading]:
        """Each part is there when the one before was read."""
        there, here = gevent.socket.socketpair()
        run = _Run(asking(), 0, 0, Secrets())
        reading = _Reading(here, None, run, Clock())
        for part in parts:
            there.sendall(part)
            reading._readable()
        there.close()
        if closed:
            reading._readable()
        over = reading.over.is_set()
        reading.stop()
        here.close()
        assert over is (reading.response.message_complete or closed), "who waits for it is told"
        return run, reading

    @staticmethod
    def said(count: int, end: bytes = b"\n\n") -> list[bytes]:
        text = b'data: {"choices":[{"index":0,"delta":{"content":" w"}}]}'
        return [chunk(text + end) for _ in range(count)]

    @pytest.mark.parametrize("count", [1, 31, 32, 33, 100])
    @pytest.mark.parametrize(
        "end",
        [
            (b"0\r\n\r\n",), (b"0", b"\r\n\r\n"), (b"0\r", b"\n\r\n"), (b"0\r\n", b"\r\n"), (b"0\r\n\r", b"\n"),
            (b"0\r\nX-Took: 1\r\n\r\n",), (b"0\r\nX-Took: 1\r\n", b"\r\n"),
        ],
    )  # fmt: skip
    def test_the_end_is_seen_however_it_is_cut(self, count: int, end: tuple[bytes, ...]) -> None:
        run, reading = self.read(self.HEAD, *self.said(count), chunk(b"data: [DONE]\n\n"), *end)
        assert reading.response.message_complete
        assert reading.trouble is None
        answer = run.reply().answer
        assert (len(answer.pieces_ns), answer.ended, answer.coalesced) == (count, True, 0)

    def test_empty_lines_of_events_are_no_end(self) -> None:
        run, reading = self.read(self.HEAD, *self.said(40, b"\r\n\r\n"))
        assert not reading.response.message_complete
        assert len(run.reply().answer.pieces_ns) == 40

    @pytest.mark.parametrize("count", [1, 31, 40])
    def test_a_cut_and_a_stop_leave_all_that_came(self, count: int) -> None:
        run, reading = self.read(self.HEAD, *self.said(count), closed=True)
        assert isinstance(reading.trouble, ConnectionError)
        assert len(run.reply().answer.pieces_ns) == count
        run, reading = self.read(self.HEAD, *self.said(count))
        assert reading.trouble is None
        assert len(run.reply().answer.pieces_ns) == count

    def test_each_keeps_its_own_moment(self) -> None:
        run, _ = self.read(self.HEAD, *self.said(40))
        moments = list(run.reply().answer.pieces_ns)
        assert moments == sorted(set(moments))


@contextmanager
def telling(head: bytes, block: bytes = b"") -> Iterator[str]:
    """A server that says this, and the block again and again, without an end."""

    def serve(connection: gevent.socket.socket, _: object) -> None:
        with suppress(OSError), closing(connection):
            connection.recv(65536)
            connection.sendall(head)
            while block:
                connection.sendall(block)

    server = StreamServer(("127.0.0.1", 0), serve)
    server.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.stop()


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "block", "words"),
    [
        (CHUNKED, chunk(b"x" * 65536), "an event of more than 16 MiB"),
        (CHUNKED, chunk(b"data: x\n" * 8192), "an event of more than 16 MiB"),
        (PLAIN, b"[" * 65536, "an event of more than 16 MiB"),
        (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x" * 65536, "headers of more than 256 KiB"),
        (b"HTTP/1.1 200 OK\r\n", b"X-Y: z\r\n" * 8192, "headers of more than 256 KiB"),
        (CHUNKED + b"0\r\n", b"X-Y: z\r\n" * 8192, "headers of more than 256 KiB"),
    ],
    ids=["a line", "lines of one event", "a whole answer", "a header", "headers", "trailers"],
)
def test_what_has_no_end_ends_the_request(head: bytes, block: bytes, words: str) -> None:
    with telling(head, block) as url, Client(url, total_s=60) as client:
        record = client.ask(asking()).record
    assert (record.outcome, record.error) == (Outcome.ERROR, words)


def test_what_is_long_but_ends_is_read() -> None:
    said = b'{"data":[{"embedding":[0.1]}],"x":"' + b"x" * (15 << 20) + b'"}'
    head = PLAIN[:-2] + b"Content-Length: %d\r\n\r\n" % len(said)
    with telling(head + said) as url, Client(url, total_s=60) as client:
        assert client.ask(Request(path="/", body=b"{}", vectors=1)).record.outcome is Outcome.OK


def test_a_killed_request_leaves_its_record(client: Client, one: Engine, kept: list[Record]) -> None:
    one.play(ttft_ms=0, itl_ms=100, tokens=500)
    asked = gevent.spawn(client.ask, asking())
    with gevent.Timeout(10):
        while not (seen := one.seen()) or seen[0].tokens < 3:
            gevent.sleep(0.01)
        gevent.sleep(0.01)  # in which what was told is read
    asked.kill()
    (record,) = kept
    assert record.outcome is Outcome.CANCELLED
    assert 2 <= len(record.pieces_ns) < 20
    with gevent.Timeout(5, AssertionError("the engine still tells it")):
        while not one.last.gone_at:
            gevent.sleep(0.01)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = issued(["localhost"])
    (folder / "certificate").write_text(certificate)
    (folder / "key").write_text(key)
    return folder / "certificate", folder / "key"


@pytest.fixture(scope="module")
def sealed(files: tuple[Path, Path]) -> Iterator[Engine]:
    with engine((MODEL,), "-tls-certificate", str(files[0]), "-tls-key", str(files[1])) as one:
        yield one


def url(sealed: Engine) -> str:
    return f"https://localhost:{sealed.address.rpartition(':')[2]}"


class TestTls:
    def test_streams_are_the_same_and_the_handshake_is_apart(self, sealed: Engine, files: tuple[Path, Path]) -> None:
        sealed.play(ttft_ms=20, itl_ms=2, tokens=40)
        with Client(url(sealed), ca=files[0]) as client:
            first, second = client.ask(asking()), client.ask(asking())
        for reply in (first, second):
            assert (reply.record.outcome, reply.record.output_tokens, len(reply.record.pieces_ns)) == (
                Outcome.OK,
                40,
                40,
            )
            assert in_order(reply.record)
        assert first.record.tls_ns is not None
        assert first.record.tls_ns > 0
        assert second.record.tls_ns is None
        assert second.record.coalesced < 20

    def test_a_cut_is_a_cut(self, sealed: Engine, files: tuple[Path, Path]) -> None:
        with Client(url(sealed), ca=files[0]) as client:
            sealed.play(itl_ms=1, fault="cut", fault_after=3)
            assert client.ask(asking()).record.outcome is Outcome.TRUNCATED

    def test_a_certificate_of_somebody_else_is_refused(self, sealed: Engine, files: tuple[Path, Path]) -> None:
        record = Client(url(sealed)).ask(asking()).record
        assert record.outcome is Outcome.ERROR
        assert "certificate is not accepted" in record.error
        by_address = Client(f"https://{sealed.address}", ca=files[0]).ask(asking()).record
        assert "127.0.0.1" in by_address.error
