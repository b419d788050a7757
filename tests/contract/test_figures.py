"""What the gateway tells its operators: tokens, times and ends, in metrics and in the access log, and no credential."""

from __future__ import annotations

import base64
import json
import re
import time
from typing import Any, Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.contract.target import Client
from tests.contract.test_streams import STAMP, STREAM
from tests.contract.world import HELLO, World, eventually

EVERY_ENGINE: Final = True
CHAT: Final = "/v1/chat/completions"


def metric(world: World, name: str, **labels: str) -> float:
    """Sum of the samples of a metric that have these labels."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(world.metrics())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


class TestTokens:
    @pytest.mark.parametrize(("stream", "usage"), [(True, "asked"), (True, "never"), (False, "asked")])
    def test_they_are_exact(self, world: World, usage: str, *, stream: bool) -> None:
        def used(kind: str) -> float:
            labels = {"consumer": "default", "model": "qwen3:0.6b", "operation": "chat", "token_type": kind}
            return metric(world, "gen_ai_client_token_usage_sum", **labels)

        world.engine.play(tokens=37, usage=usage)
        before = {kind: used(kind) for kind in ("input", "output")}
        assert world.client().ask(CHAT, "POST", json=HELLO | {"stream": stream}).status_code == 200
        assert eventually(lambda: used("output") - before["output"], bool) == 37
        assert world.asked[0].tokens == 37
        if usage == "asked":
            assert used("input") - before["input"] == 1  # "hello"


class TestTimes:
    def test_the_first_word_is_seen_when_the_client_sees_it(self, world: World) -> None:
        """By one clock: the engine wrote it after so long, the client had it after so long, both ways included."""
        world.engine.play(ttft_ms=80, itl_ms=40, tokens=3)
        client = world.client()
        waited, written = [], []
        with client.session() as session:
            session.headers["Authorization"] = f"Bearer {client.key}"
            session.get(f"{client.url}/v1/models", timeout=10)  # the connection is there
            for _ in range(9):
                sent = time.monotonic_ns()
                with session.post(client.url + CHAT, json=STREAM, stream=True, timeout=30) as answer:
                    pieces = answer.iter_content(None)
                    first = next(found for piece in pieces if (found := STAMP.search(piece)))
                    waited.append((time.monotonic_ns() - sent) / 1e6)
                    written.append(int(first[1]))
                    list(pieces)
        took = [(stamp - seen.at) / 1e6 for stamp, seen in zip(written, world.asked[-len(written) :], strict=True)]
        told = [line["ttft_ms"] for line in access(world, client, len(waited))]
        for least, ttft, most in zip(took, told, waited, strict=True):
            assert least <= ttft <= most


def access(world: World, client: Client, count: int) -> list[dict[str, Any]]:
    """The lines of the access log about answers to this client, once there are so many."""

    def look() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in world.gateway.log.splitlines() if f'"{client.source}"' in line]
        return [line for line in lines if "ttft_ms" in line]

    return eventually(look, lambda lines: len(lines) == count)


class TestTheLog:
    def test_a_line_says_who_asked_whom_for_what(self, world: World) -> None:
        world.engine.play(tokens=5)
        client = world.client()
        assert client.ask(CHAT, "POST", json=STREAM).status_code == 200
        line = access(world, client, 1)[0]
        wanted = {
            "consumer": "default", "model": "qwen3:0.6b", "operation": "chat", "stream": True, "status": 200,
            "output_tokens": 5, "finish_reason": "stop",
        }  # fmt: skip
        assert wanted.items() <= line.items()
        assert line["request"]["remote_ip"] == client.source
        assert {"duration", "size", "engine", "input_tokens", "ttft_ms"} <= set(line)

    def test_no_credential_is_in_it(self, world: World) -> None:
        client = world.client()
        client.ask("/v1/models")
        client.ask("/v1/models", key="sk-canary-wrong")
        client.ask(f"/v1/models?api_key={client.key}", key=None)
        client.ask("/v1/models", key=None, headers={"X-Api-Key": client.key, "Cookie": f"token={client.key}"})
        basic = base64.b64encode(f"default:{client.key}".encode()).decode()
        client.ask("/v1/models", key=None, headers={"Authorization": f"Basic {basic}"})
        client.ask(CHAT, "POST", json=HELLO | {"messages": [{"role": "user", "content": "canary-of-a-prompt"}]})
        client.ask("/logged-last", key=None)
        text = eventually(lambda: world.gateway.log, lambda log: "/logged-last" in log)
        assert "canary" not in text
        assert basic not in text
        assert "canary" not in world.metrics()

    def test_addresses_that_ask_for_nothing_real_make_no_series(self, world: World) -> None:
        for number in range(30):
            world.client().ask(CHAT, "POST", json=HELLO | {"model": f"made-up-{number}"})
        assert not re.search(r"made-up", world.metrics())
