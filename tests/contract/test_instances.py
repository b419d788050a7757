"""Several engines behind one name: the least busy one answers, and one that is away is not missed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.contract.expect import refused
from tests.contract.test_streams import STREAM, streaming
from tests.contract.world import HELLO, NOWHERE, World, eventually, parsed, started
from tests.support.engine import Engine, engine

CHAT: Final = "/v1/chat/completions"
MODELS: Final = [model.name for model in parsed().models]


@dataclass(frozen=True)
class Pair:
    """A gateway with two instances of one engine."""

    world: World
    engines: list[Engine]

    def asked(self) -> list[int]:
        """How often each instance had to answer."""
        return [len([seen for seen in one.seen() if seen.target == CHAT]) for one in self.engines]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        engines = [stack.enter_context(engine(MODELS)) for _ in range(2)]
        world = stack.enter_context(started(tmp_path, engine=[one.address for one in engines]))
        yield Pair(world, engines)


@pytest.mark.own
class TestInstances:
    def test_the_one_with_less_to_do_answers(self, pair: Pair) -> None:
        for one in pair.engines:
            one.play(ttft_ms=0, itl_ms=100, tokens=50)
        client = pair.world.client()
        with ExitStack() as running:
            for _ in range(6):
                answer = running.enter_context(streaming(client, CHAT, STREAM))
                assert next(answer.iter_content(None))
                assert abs(pair.asked()[0] - pair.asked()[1]) <= 1
        assert pair.asked() == [3, 3]

    @pytest.mark.parametrize(
        "trouble", [{"fault": "status", "status": 503}, {"fault": "status", "status": 429}, {"fault": "bad_head"}]
    )
    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
    def test_the_other_one_answers_when_one_cannot(
        self, pair: Pair, trouble: dict[str, object], *, stream: bool
    ) -> None:
        pair.engines[0].play(**trouble)
        client = pair.world.client()
        for _ in range(6):
            assert client.ask(CHAT, "POST", json=HELLO | {"stream": stream}).status_code == 200
        assert pair.asked()[1] == 6

    def test_one_that_is_gone_is_found_out_and_not_asked(self, tmp_path: Path) -> None:
        with engine(MODELS) as one, started(tmp_path, engine=[NOWHERE, one.address]) as world:
            client = world.client()
            for _ in range(6):
                assert client.ask(CHAT, "POST", json=HELLO).status_code == 200
            healthy = 'gateway_engine_healthy{engine="ollama",instance="%s"} %d'
            eventually(
                world.metrics,
                lambda text: healthy % (NOWHERE, 0) in text and healthy % (one.address, 1) in text,
                seconds=12,
            )

    def test_health_is_good_while_one_is(self, tmp_path: Path) -> None:
        with engine(MODELS) as one, started(tmp_path, engine=[NOWHERE, one.address]) as world:
            assert world.client().ask("/health", key=None).status_code == 200


@pytest.mark.own
class TestAnEngineInTrouble:
    @pytest.mark.parametrize("status", [500, 503, 429, 400, 404])
    def test_its_errors_come_out_in_the_usual_form(self, world: World, status: int) -> None:
        world.engine.play(fault="status", status=status)
        answer = world.client().ask(CHAT, "POST", json=HELLO)
        assert answer.status_code in {status, 502, 503}
        error = json.loads(answer.content)["error"]
        assert error["message"]

    def test_one_that_cannot_be_reached_is_stood_in_for(self, tmp_path: Path) -> None:
        platform = parsed(elsewhere=NOWHERE)
        models = tuple(m if m.name == "fragile:1b" else m.model_copy(update={"engine": None}) for m in platform.models)
        with started(tmp_path, platform.model_copy(update={"models": models})) as world:
            client = world.client()
            assert client.ask(CHAT, "POST", json=HELLO | {"model": "fragile:1b"}).status_code == 200
            assert [seen.json["model"] for seen in world.asked] == ["qwen3:0.6b"]
            refused(world.client("fragile-only").ask(CHAT, "POST", json=HELLO | {"model": "fragile:1b"}), 502)
