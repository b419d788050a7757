"""Answers while they come: nothing is held back, and nobody works for somebody who has gone."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import Any, Final

import pytest
import requests

from tests.contract.target import Client, read_answer
from tests.contract.world import HELLO, World, eventually, key_of

CHAT: Final = "/v1/chat/completions"
STREAM: Final = HELLO | {"stream": True}
EVERY_ENGINE: Final = True
WAYS: Final = [
    pytest.param(path, body, id=path, marks=[pytest.mark.native] if path.startswith("/ollama") else [])
    for path, body in (
        (CHAT, STREAM),
        ("/v1/completions", {"model": "default", "prompt": "x", "stream": True}),
        ("/v1/responses", {"model": "default", "input": "x", "stream": True}),
        ("/ollama/api/chat", HELLO),
        ("/ollama/api/generate", {"model": "default", "prompt": "x"}),
    )
]
STAMP: Final = re.compile(rb"@(\d{6,})")


@contextmanager
def streaming(client: Client, path: str, body: dict[str, Any]) -> Iterator[requests.Response]:
    with client.session() as session:
        headers = {"Authorization": f"Bearer {client.key}"}
        with session.post(client.url + path, json=body, headers=headers, stream=True, timeout=120) as answer:
            yield answer


def arrivals(pieces: Iterator[bytes]) -> list[tuple[int, int]]:
    """For each piece of text: when the engine made it and when it was here, in nanoseconds of the same clock."""
    seen = []
    for data in pieces:
        now = time.monotonic_ns()
        seen += [(int(stamp), now) for stamp in STAMP.findall(data)]
    return seen


class TestPieces:
    @pytest.mark.parametrize(("path", "body"), WAYS)
    def test_each_is_here_before_the_next_is_made(self, world: World, path: str, body: dict[str, Any]) -> None:
        world.engine.play(ttft_ms=50, itl_ms=100, tokens=6)
        with streaming(world.client(), path, body) as answer:
            assert answer.status_code == 200
            seen = arrivals(answer.iter_content(None))
        pieces = dict(reversed(seen))  # responses tell all of it again at the end
        made = sorted(pieces)
        assert len(made) == 6
        # This machine does other things too: one of them may have come between.
        assert len([stamp for stamp, after in pairwise(made) if pieces[stamp] >= after]) <= 1

    def test_they_come_as_the_engine_wrote_them(self, world: World) -> None:
        world.engine.play(hostile=True, tokens=40, split=True, chunks_per_write=3)
        with streaming(world.client(), CHAT, STREAM) as answer:
            events = [line for line in answer.content.split(b"\n\n") if line]
        assert events[-1] == b"data: [DONE]"
        texts = [json.loads(event.removeprefix(b"data: ")) for event in events[:-1]]
        assert sum(1 for text in texts if text["choices"][0]["delta"].get("content")) == 40
        assert all(text["choices"] for text in texts)  # the count of tokens, which was not asked for, is left out

    def test_an_answer_that_breaks_off_is_not_made_whole(self, world: World) -> None:
        world.engine.play(fault="cut", fault_after=4)
        with (
            streaming(world.client(), CHAT, STREAM) as answer,
            pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)),
        ):
            arrivals(answer.iter_content(None))
        eventually(lambda: 'gateway_stream_cut_total{by="engine"' in world.metrics(), bool)


class TestWhoHasGone:
    @pytest.mark.parametrize(("path", "body"), WAYS)
    def test_in_the_middle_of_a_stream(self, world: World, path: str, body: dict[str, Any]) -> None:
        world.engine.play(ttft_ms=0, itl_ms=50, tokens=400)
        with streaming(world.client(), path, body) as answer:
            next(answer.iter_content(None))
        self.told(world)

    @pytest.mark.parametrize("body", [STREAM, HELLO], ids=["streamed", "whole"])
    def test_before_the_first_word(self, world: World, body: dict[str, Any]) -> None:
        world.engine.play(fault="never")
        client = world.client()
        text = json.dumps(body).encode()
        with client.connected() as connection:
            head = f"POST {CHAT} HTTP/1.1\r\nHost: {client.host}\r\nAuthorization: Bearer {client.key}\r\n"
            size = f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
            connection.sendall((head + size).encode() + text)
            eventually(lambda: world.asked, bool)
        self.told(world)

    @staticmethod
    def told(world: World) -> None:
        """The engine knows within two seconds."""
        left = time.monotonic_ns()
        [seen] = eventually(lambda: world.asked, lambda all_: bool(all_ and all_[0].gone_at), seconds=4)
        assert seen.gone_at - left <= 2_000_000_000
        eventually(lambda: 'gateway_stream_cut_total{by="client"' in world.metrics(), bool)


class TestARevokedKey:
    def test_is_refused_at_once_and_its_streams_end_and_no_others(self, world: World) -> None:
        world.engine.play(ttft_ms=0, itl_ms=50, tokens=2000)
        with (
            streaming(world.client("leaver"), CHAT, STREAM) as theirs,
            streaming(world.client("default"), CHAT, STREAM) as others,
        ):
            # Kept: an iterator that nobody holds closes its answer.
            ending, pieces = theirs.iter_content(None), others.iter_content(None)
            assert next(ending)
            assert next(pieces)
            changed = time.monotonic()
            try:
                world.write_consumers(world.platform, world.keys | {"leaver": "sk-canary-new-key-of-the-leaver-0000"})
                eventually(lambda: world.client("leaver").ask("/v1/models").status_code, lambda s: s == 401, 5)
                with suppress(requests.RequestException):
                    arrivals(ending)
                assert time.monotonic() - changed <= 30
                new = world.client("leaver").named("sk-canary-new-key-of-the-leaver-0000")
                assert new.ask("/v1/models").status_code == 200
                while time.monotonic() - changed < 3:
                    assert next(pieces)
            finally:
                world.write_consumers(world.platform, world.keys)
                eventually(lambda: world.client("leaver").ask("/v1/models").status_code, lambda s: s == 200, 5)
            eventually(lambda: 'gateway_stream_cut_total{by="revoked"' in world.metrics(), bool)
        assert key_of("leaver") == world.keys["leaver"]


class TestSlow:
    """Who crawls is cut off, who waits is not."""

    def test_headers_end_in_ten_seconds(self, world: World) -> None:
        with world.client().connected() as slow:
            slow.sendall(b"GET /v1/models HTTP/1.1\r\nHost: ")
            slow.settimeout(15)
            assert read_answer(slow).status in (0, 408)

    def test_bodies_at_a_crawl_end_in_fifteen_seconds(self, world: World) -> None:
        client = world.client()
        began = time.monotonic()
        with client.connected() as slow:
            head = f"POST {CHAT} HTTP/1.1\r\nHost: {client.host}\r\nAuthorization: Bearer {client.key}\r\n"
            slow.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 4000\r\n\r\n{{".encode())
            slow.settimeout(1)
            while time.monotonic() - began < 20:
                try:
                    slow.sendall(b" ")
                    data = slow.recv(65536)
                except TimeoutError:
                    continue
                except OSError:
                    break
                assert data == b"" or data.startswith(b"HTTP/1.1 408"), data[:100]
                break
        assert time.monotonic() - began <= 16
        assert world.asked == []

    @pytest.mark.slow
    @pytest.mark.timeout(200)
    def test_a_first_word_may_take_ninety_seconds(self, world: World) -> None:
        world.engine.play(header_ms=90_000, tokens=3)
        with streaming(world.client(), CHAT, STREAM) as answer:
            assert answer.status_code == 200
            assert answer.content.rstrip().endswith(b"[DONE]")

    @pytest.mark.slow
    @pytest.mark.timeout(200)
    def test_who_stops_reading_is_cut_off(self, world: World) -> None:
        world.engine.play(ttft_ms=0, itl_ms=0, tokens=1_000_000)
        client = world.client()
        text = json.dumps(STREAM).encode()
        with client.connected() as idle:
            head = f"POST {CHAT} HTTP/1.1\r\nHost: {client.host}\r\nAuthorization: Bearer {client.key}\r\n"
            idle.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)
            [seen] = eventually(lambda: world.asked, lambda all_: bool(all_ and all_[0].gone_at), seconds=90)
            assert seen.gone_at
