"""The fake engine, asked as tests ask it: on time on our clock, exact in what it saw, and with every fault."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.support.engine import Engine, engine, eventually_seen, told_at, web_application

CHAT = {"model": "qwen3:0.6b", "messages": [{"role": "user", "content": "three words here"}], "stream": True}
BROKEN = (requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError)


@pytest.fixture(scope="module")
def _one() -> Iterator[Engine]:
    with engine() as one:
        yield one


@pytest.fixture
def one(_one: Engine) -> Engine:
    _one.reset()
    return _one


def post(one: Engine, path: str = "/v1/chat/completions", **body: Any) -> requests.Response:
    return requests.post(f"http://{one.address}{path}", json=CHAT | body, timeout=20)


def eventually_told(one: Engine) -> None:
    """Waits until the record knows of a token."""
    deadline = time.monotonic() + 5
    while not one.last.tokens and time.monotonic() < deadline:
        time.sleep(0.005)


def events(answer: requests.Response) -> list[Any]:
    """The JSON of every event but the last one, which must be the end."""
    lines = [line[6:] for line in answer.text.split("\n") if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def text_of(chunks: list[Any]) -> str:
    return "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])


def lateness(one: Engine, stamps: list[int], *, ttft: float, itl: float) -> list[float]:
    """How much later each chunk was sent than it was due on a steady schedule, in milliseconds."""
    return [(stamp - one.last.at) / 1e6 - (ttft + itl * k) for k, stamp in enumerate(stamps)]


class TestPace:
    def test_each_chunk_is_due_at_its_own_moment_on_the_clock_of_python(self, one: Engine) -> None:
        one.play(ttft_ms=100, itl_ms=20, tokens=20)
        start = time.monotonic_ns()
        stamps = told_at(text_of(events(post(one))))
        end = time.monotonic_ns()
        assert len(stamps) == 20
        assert start < stamps[0] < stamps[-1] < end
        late = lateness(one, stamps, ttft=100, itl=20)
        assert min(late) > -0.5
        assert min(late[-5:]) < 19, "it drifts"

    def test_a_freeze_does_not_move_what_comes_after_it(self, one: Engine) -> None:
        one.play(ttft_ms=20, itl_ms=20, tokens=30)
        one.freeze(after_ms=100, for_ms=200)
        late = lateness(one, told_at(text_of(events(post(one)))), ttft=20, itl=20)
        assert max(late) > 100
        assert min(late[-5:]) < 50

    def test_the_gaps_of_heavy_tails_differ(self, one: Engine) -> None:
        one.play(itl_ms=10, tokens=30, heavy_tail=True, seed=1)
        late = lateness(one, told_at(text_of(events(post(one)))), ttft=0, itl=10)
        assert min(late) < -20, "a chunk is early where the gaps before it were short"

    def test_the_known_knee_serves_slots_in_turn_and_refuses_beyond_its_queue(self, one: Engine) -> None:
        one.play(slots=1, queue=0, ttft_ms=300, tokens=1)
        with socket.create_connection(one.address.split(":")) as busy:  # type: ignore[arg-type]
            body = json.dumps(CHAT).encode()
            busy.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: e\r\nContent-Length: %d\r\n\r\n" % len(body))
            busy.sendall(body)
            assert busy.recv(1) == b"H"  # the head is sent when the slot is taken
            answer = post(one)
        assert answer.status_code == 503
        assert "busy" in answer.json()["error"]["message"]


class TestText:
    def test_counts_are_exact(self, one: Engine) -> None:
        one.play(tokens=37, tokens_per_chunk=5, chunks_per_write=3, reasoning_tokens=7, hostile=True, split=True)
        chunks = events(post(one, stream_options={"include_usage": True}))
        deltas = [c["choices"][0]["delta"] for c in chunks if c["choices"]]
        said = "".join(d.get("content", "") for d in deltas)
        thought = "".join(d.get("reasoning_content", "") for d in deltas)
        assert (thought.count(" "), said.count(" ")) == (7, 30)
        assert chunks[-1]["usage"]["completion_tokens"] == 37
        assert chunks[-1]["usage"]["prompt_tokens"] == 3
        assert eventually_seen(one, 1)[0].tokens == 37

    def test_a_limit_of_the_request_ends_the_answer(self, one: Engine) -> None:
        for path, limit in (
            ("/v1/chat/completions", {"max_tokens": 3}),
            ("/v1/chat/completions", {"max_completion_tokens": 3}),
            ("/v1/completions", {"max_tokens": 3, "prompt": "x"}),
        ):
            answer = post(one, path, stream=False, **limit).json()
            assert (answer["usage"]["completion_tokens"], answer["choices"][0]["finish_reason"]) == (3, "length")
        assert post(one, "/v1/responses", stream=False, max_output_tokens=3).json()["status"] == "incomplete"
        assert post(one, "/api/chat", stream=False, options={"num_predict": 3}).json()["done_reason"] == "length"

    def test_ollamas_lines_end_with_the_counts(self, one: Engine) -> None:
        for path in ("/api/chat", "/api/generate"):
            lines = [json.loads(line) for line in post(one, path, prompt="").text.splitlines()]
            assert [line["done"] for line in lines] == [False] * 16 + [True]
            assert (lines[-1]["eval_count"], lines[-1]["prompt_eval_count"]) == (16, 3)

    def test_tools_and_schemas_are_served(self, one: Engine) -> None:
        tool = {"name": "look", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
        answer = post(one, stream=False, tools=[{"type": "function", "function": tool}]).json()
        call = answer["choices"][0]["message"]["tool_calls"][0]["function"]
        assert (call["name"], json.loads(call["arguments"])) == ("look", {"city": "amber"})
        assert answer["usage"]["completion_tokens"] == 4  # five characters each
        answer = post(one, stream=False, response_format={"type": "json_object"}).json()
        assert json.loads(answer["choices"][0]["message"]["content"]) == {"answer": "amber"}

    def test_an_unknown_model_is_unknown(self, one: Engine) -> None:
        assert post(one, model="nobody").status_code == 404
        assert post(one, "/v1/embeddings", model="nobody", input="x").status_code == 404


class TestRecord:
    def test_a_head_is_kept_to_the_byte(self, one: Engine) -> None:
        head = (
            b"POST /a//b%2e?q=\xe9 HTTP/1.1\r\nHost: e\r\nx-One:  1 \r\nX-ONE: 2\r\nX_One: 3\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        second = b"GET /second HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n"
        host, port = one.address.split(":")
        with socket.create_connection((host, int(port))) as plain:
            plain.sendall(head + b"5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nTrailer: t\r\n\r\n" + second)
            while plain.recv(65536):
                pass
        seen = one.seen()
        assert [s.head.encode("latin-1") for s in seen] == [head, second]
        assert seen[0].target.encode("latin-1") == b"/a//b%2e?q=\xe9"
        assert seen[0].values("x-one") == ["1", "2"]
        assert (seen[0].body, seen[0].body_length, seen[0].handled) == ("hello!", 6, True)
        assert seen[0].connection == seen[1].connection

    def test_what_the_engine_cannot_read_is_kept_too(self, one: Engine) -> None:
        host, port = one.address.split(":")
        with socket.create_connection((host, int(port))) as plain:
            plain.sendall(b"GET /odd HTTP/1.1\r\nHost: e\r\nBad Header\r\n\r\n")
            assert b" 400 " in plain.recv(65536)
        assert (one.last.target, one.last.handled) == ("/odd", False)

    def test_a_client_that_goes_is_noticed(self, one: Engine) -> None:
        one.play(itl_ms=20, tokens=1000)
        answer = requests.post(f"http://{one.address}/v1/chat/completions", json=CHAT, stream=True, timeout=20)
        lines = answer.iter_lines()  # kept: the connection goes with it
        next(line for line in lines if b"@" in line)
        eventually_told(one)
        gone = time.monotonic_ns()
        answer.close()
        deadline = time.monotonic() + 5
        while not one.last.gone_at and time.monotonic() < deadline:
            time.sleep(0.01)
        assert 0 <= one.last.gone_at - gone < 1e9
        assert 0 < one.last.tokens < 1000


class TestFaults:
    def test_a_cut_stream_has_no_end(self, one: Engine) -> None:
        one.play(fault="cut", fault_after=2)
        with pytest.raises(BROKEN):
            post(one)
        assert one.last.tokens == 2

    def test_faults_are_ordered_one_by_one(self, one: Engine) -> None:
        one.next({"fault": "status", "status": 429, "headers": [["Retry-After", "7"]]}, {"fault": "context_overflow"})
        first, second, third = post(one), post(one), post(one)
        assert (first.status_code, first.headers["Retry-After"]) == (429, "7")
        assert (second.status_code, second.json()["error"]["code"]) == (400, "context_length_exceeded")
        assert third.status_code == 200

    def test_the_other_faults(self, one: Engine) -> None:
        one.next({"fault": "no_done", "fault_after": 3})
        assert "[DONE]" not in post(one).text
        one.next({"fault": "stream_error", "fault_after": 1})
        assert '{"error":{' in post(one).text
        one.next({"fault": "garbage", "fault_after": 1})
        assert "oh no" in post(one).text
        for fault in ("bad_head", "reset"):
            one.next({"fault": fault})
            with pytest.raises(BROKEN):
                post(one)
        for fault in ("never", "hang"):
            one.next({"fault": fault, "fault_after": 1})
            with pytest.raises((requests.exceptions.ReadTimeout, requests.exceptions.ConnectionError)):
                requests.post(f"http://{one.address}/v1/chat/completions", json=CHAT, timeout=0.3)

    def test_a_fault_that_there_is_not_is_refused(self, one: Engine) -> None:
        with pytest.raises(ValueError, match="none of status"):
            one.play(fault="explode")
        with pytest.raises(ValueError, match="unknown field"):
            one.play(tempo=3)


def test_a_web_application_answers_anywhere_and_upgrades() -> None:
    with web_application() as pages:
        assert requests.get(f"http://{pages.address}/any/where", timeout=5).json() == {"page": "/any/where"}
        host, port = pages.address.split(":")
        with socket.create_connection((host, int(port))) as plain:
            plain.sendall(b"GET /ws/ HTTP/1.1\r\nHost: e\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            assert b" 101 " in plain.recv(65536)
            plain.sendall(b"\x81\x82\x00\x00\x00\x00hi")
            assert plain.recv(100) == b"\x81\x02hi"
        assert pages.last.after == "\x81\x82\x00\x00\x00\x00hi"


def test_a_key_is_wanted_where_one_is_given() -> None:
    with engine(("m",), "-key", "sk-engine") as one:
        assert requests.get(f"http://{one.address}/v1/models", timeout=5).status_code == 401
        headers = {"Authorization": "Bearer sk-engine"}
        assert requests.get(f"http://{one.address}/v1/models", headers=headers, timeout=5).ok
