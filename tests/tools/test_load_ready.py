"""What is wrong with a target is said in one sentence, with the way out, before any load is made."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from loadtests.runs import ready
from loadtests.runs.ready import NotReady, Ready
from loadtests.target import Target
from tests.support.certificates import issued
from tests.support.engine import Engine, engine, web_application

KEY = "sk-load-test"


@pytest.fixture(scope="module")
def running() -> Iterator[Engine]:
    with engine(("default", "embedding"), "-key", KEY) as one:
        yield one


@pytest.fixture
def one(running: Engine) -> Engine:
    running.reset()
    return running


def target(address: str, scheme: str = "http", **changes: Any) -> Target:
    return Target(**{"url": f"{scheme}://{address}", "key": KEY, **changes})


def refused(where: Target, **more: Any) -> str:
    with pytest.raises(NotReady) as raised:
        ready.check(where, **more)
    said = str(raised.value)
    assert KEY not in said
    assert "\n" not in said
    return said


def test_a_target_in_order_says_how_long_an_answer_takes(one: Engine) -> None:
    one.play(ttft_ms=100, itl_ms=10)
    found = ready.check(target(one.address))
    assert isinstance(found, Ready)
    assert set(found.models) == {"default", "embedding"}
    assert 0.09 < found.first_s < 1.0
    assert 0.005 < found.token_s < 0.05
    assert found.answer_s(100) == pytest.approx(found.first_s + 100 * found.token_s)
    assert found.ruler is not None
    assert found.ruler.tokens_per_word == pytest.approx(1), "the fake engine counts a token for each word"
    assert [one.target for one in one.seen()] == ["/v1/models"] + ["/v1/chat/completions"] * 2


def test_a_model_that_has_to_be_loaded_shows_in_the_first_answer_only(one: Engine) -> None:
    one.play(ttft_ms=20)
    one.next({"ttft_ms": 600}, {"ttft_ms": 20, "usage": "never"})
    found = ready.check(target(one.address))
    assert 0.5 < found.loading_s < 1.5
    assert found.first_s < 0.5
    assert found.ruler is None, "one count tells nothing"


def test_embeddings_are_asked_for_one(one: Engine) -> None:
    found = ready.check(target(one.address), embedding=True)
    assert (found.token_s, found.ruler is None) == (0, False)
    assert found.first_s > 0
    assert one.last.target == "/v1/embeddings"
    assert one.last.json["model"] == "embedding"


def test_a_wrong_key(one: Engine) -> None:
    said = refused(target(one.address, key="sk-load-other"))
    assert "does not accept the key in OPENAI_API_KEY (401)" in said
    assert "make -s env" in said
    assert "sk-load-other" not in said


def test_a_model_that_is_not_there(one: Engine) -> None:
    said = refused(target(one.address, model="gpt-5"))
    assert "the model 'gpt-5' is not there for this key; there are: default, embedding. Name one with MODEL=" in said
    said = refused(target(one.address, embedding_model="e5"), embedding=True)
    assert "Name one with LOAD_EMBEDDING_MODEL=" in said
    said = refused(target(one.address, embedding_model="e5"), retrieves=True)
    assert "the model 'e5' is not there for this key; " in said
    assert "Name one with LOAD_EMBEDDING_MODEL=" in said
    assert ready.check(target(one.address, embedding_model="e5")).models == ("default", "embedding")


def test_nobody_listens_and_nobody_knows_the_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    assert "refuses connections, nothing listens there" in refused(target(address))
    assert "has a name that nobody here knows" in refused(target("nowhere.invalid:8443", "https"))


@contextmanager
def saying(banner: bytes) -> Iterator[str]:
    """Another program's port: says this to whoever connects, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, suppress(OSError):  # whoever has read enough hangs up first
                    connection.sendall(banner)
                    connection.recv(1000)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_another_programs_port(one: Engine) -> None:
    with saying(b"SSH-2.0-OpenSSH_9.2\r\n") as address:
        assert "does not answer as an API does" in refused(target(address))
        assert "does not speak TLS" in refused(target(address, "https"))
    with web_application() as page:
        assert "has no OpenAI-compatible API: GET /v1/models answered 200" in refused(target(page.address))


@pytest.mark.parametrize(
    "said",
    [
        f"HTTP/1.1 401 {KEY}\r\n\r\n", f"Bearer {KEY}\r\n\r\n", f"HTTP/1.1 403 no\r\n\r\nno, Bearer {KEY}",
        f'HTTP/1.1 429 no\r\n\r\n{{"error":{{"message":"{KEY}"}}}}', f"HTTP/1.1 200 OK\r\n\r\n{'-' * 155}{KEY}",
        f'HTTP/1.1 200 OK\r\n\r\n{{"data":[{{"id":"{KEY}"}}]}}',
    ],
)  # fmt: skip
def test_a_key_that_the_server_repeats_is_not_said(said: str) -> None:
    with saying(said.encode()) as address:
        told = refused(target(address))
    assert not [KEY[at : at + 8] for at in range(len(KEY) - 7) if KEY[at : at + 8] in told]
    assert "-sk" not in told


def test_a_list_that_is_too_long_is_none() -> None:
    with saying(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (5 << 20)) as address:
        assert "has no OpenAI-compatible API: GET /v1/models answered more than 4 MiB" in refused(target(address))


def test_a_list_without_an_end_is_not_read_on() -> None:
    sent = 0

    def serve(connection: socket.socket) -> None:
        nonlocal sent
        with connection, suppress(OSError):
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while sent < 64 << 20:
                sent += connection.send(b" " * (1 << 16))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=lambda: serve(server.accept()[0]), daemon=True)
        thread.start()
        assert "more than 4 MiB" in refused(target(f"127.0.0.1:{server.getsockname()[1]}"))
    thread.join(5)
    assert 4 << 20 < sent < 32 << 20


def test_half_characters_and_nests_in_a_list_are_words(one: Engine) -> None:
    with saying(b'HTTP/1.1 500 no\r\n\r\n{"error":{"message":"bad \\ud800"}}') as address:
        refused(target(address)).encode()
    with saying(b'HTTP/1.1 200 OK\r\n\r\n{"data":[{"id":"\\ud800"}]}') as address:
        refused(target(address)).encode()
    with saying(b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 99999) as address:
        assert "has no OpenAI-compatible API" in refused(target(address))


def test_embeddings_that_are_none_are_nothing_to_measure() -> None:
    body = b'{"data":[{"id":"embedding"}]}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    with saying(head + body) as address:  # the same for the list and for the question
        assert "failed (200: answered vectors that are not as many numbers each)" in refused(
            target(address), embedding=True
        )


def test_https_in_place_of_http_and_the_other_way_round(one: Engine, tmp_path: Path) -> None:
    assert "does not speak TLS" in refused(target(one.address, "https"))
    certificate, key = issued(["localhost"])
    (tmp_path / "certificate").write_text(certificate)
    (tmp_path / "key").write_text(key)
    files = ("-tls-certificate", str(tmp_path / "certificate"), "-tls-key", str(tmp_path / "key"))
    with engine(("default",), *files) as sealed:
        address = f"localhost:{sealed.address.rpartition(':')[2]}"
        assert ready.check(target(address, "https", ca=tmp_path / "certificate")).models == ("default",)
        said = refused(target(address, "https"))
        assert "has a certificate that is not accepted (" in said
        assert "SSL_CERT_FILE must name the authority that signed it" in said
        assert "is it https:// in place of http://" in refused(target(address))


def test_an_engine_that_never_answers_ends_in_time(one: Engine) -> None:
    one.play(fault="never")
    said = refused(target(one.address), timeout=0.5)
    assert "to 'default' got no answer within 0.5 s: the engine hangs, or TIMEOUT=" in said


@pytest.mark.parametrize(
    ("scenario", "words"),
    [
        ({"fault": "cut", "fault_after": 2}, "was cut off"),
        ({"fault": "no_done"}, "was cut off (the stream has no end mark)"),
        ({"fault": "garbage", "fault_after": 2}, "failed (200: not JSON"),
        ({"fault": "stream_error", "fault_after": 2}, "failed (200: "),
        ({"fault": "status", "status": 429}, "hit a limit (429)"),
        ({"fault": "status", "status": 503}, "failed (503: "),
        ({"fault": "bad_head"}, "failed (no answer"),
    ],
)
def test_an_answer_that_is_none(one: Engine, scenario: dict[str, Any], words: str) -> None:
    one.play(**scenario)
    said = refused(target(one.address), timeout=5)
    assert said.startswith("the first short question to 'default' ")
    assert words in said
