"""The access log that our gateway really writes can be replayed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from loadtests.workload import replay
from tests.contract.world import HELLO, World, eventually, key_of, started

ANSWER_S = 0.4


def ask(world: World, path: str = "/v1/chat/completions", key: str = key_of("default"), **body: Any) -> int:
    return int(world.gateway.ask(path, key, "POST", json=body or HELLO).status_code)


def test_the_gateways_log_says_when_and_how_long(tmp_path: Path) -> None:
    with started(tmp_path) as world:
        world.engine.play(ttft_ms=300, itl_ms=10, tokens=11)
        began = time.monotonic()
        statuses = [ask(world, **HELLO, stream=True), ask(world, "/v1/embeddings", model="embedding", input=["a b c"])]
        second = time.monotonic() - began
        statuses += [ask(world), ask(world, key="sk-of-nobody"), ask(world, **HELLO | {"model": "there-is-none"})]
        assert statuses == [200, 200, 200, 401, 404]
        assert world.gateway.ask("/").status_code == 200
        (tmp_path / "access.log").write_text(
            eventually(lambda: world.gateway.log, lambda log: log.count("handled request") >= 6)
        )
    log = replay.load(tmp_path / "access.log")
    assert (log.lost, [one.operation for one in log.arrivals]) == (0, ["chat", "embeddings", "chat"])
    assert [(one.input_tokens, one.output_tokens) for one in log.arrivals] == [(1, 11), (3, None), (1, 11)]
    # The second began when the first had ended, not before, and the third when the second had.
    assert ANSWER_S <= log.arrivals[1].at_s < log.arrivals[2].at_s == pytest.approx(second, abs=0.2)
    assert replay.profile(log, "team").count("input: fixed:1\n") == 1
