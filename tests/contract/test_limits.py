"""How much: for each consumer, each model, each engine, and each address that shows no key."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest
import requests

from tests.contract.expect import refused
from tests.contract.target import Client
from tests.contract.world import HELLO, World, eventually, parsed, started

CHAT: Final = "/v1/chat/completions"
STREAM: Final = HELLO | {"stream": True}


def statuses(client: Client, count: int, path: str = "/v1/models", **more: Any) -> list[int]:
    return [client.ask(path, **more).status_code for _ in range(count)]


class TestAConsumer:
    def test_may_send_the_limit_and_the_burst_and_no_more(self, world: World) -> None:
        client = world.client("counted")  # 5 a minute, and 2 at once on top
        assert statuses(client, 7) == [200] * 7
        answer = client.ask("/v1/models")
        refused(answer, 429, "rate_limit_exceeded")
        assert 1 <= int(answer.headers["Retry-After"]) <= 12  # the next one is earned in 12 s
        assert client.named(world.keys["default"]).ask("/v1/models").status_code == 200

    def test_may_have_so_many_answers_running(self, world: World) -> None:
        world.engine.play(ttft_ms=0, itl_ms=200, tokens=20)
        client = world.client("streaming")  # 2 at a time
        with client.session() as session:
            headers = {"Authorization": f"Bearer {client.key}"}
            running = [
                session.post(client.url + CHAT, json=STREAM, headers=headers, stream=True, timeout=30) for _ in range(2)
            ]
            assert [answer.status_code for answer in running] == [200, 200]
            for body in (STREAM, HELLO):
                refused(client.ask(CHAT, "POST", json=body), 429, "concurrent_streams_exceeded")
            assert client.ask("/v1/models").status_code == 200
            assert world.client().ask(CHAT, "POST", json=HELLO | {"max_tokens": 1}).status_code == 200
            running[0].close()
            world.engine.play(ttft_ms=0, itl_ms=0)
            eventually(lambda: client.ask(CHAT, "POST", json=HELLO).status_code, lambda status: status == 200)
            running[1].close()

    @pytest.mark.parametrize(
        ("consumer", "code", "longest"),
        [("by-the-minute", "tokens_per_minute_exceeded", 60), ("by-the-day", "tokens_per_day_exceeded", 86_400)],
    )
    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
    def test_may_use_so_many_tokens(
        self, world: World, consumer: str, code: str, longest: int, *, stream: bool
    ) -> None:
        client = world.client(f"{consumer}-{'streamed' if stream else 'whole'}")  # 9; an answer has 16
        assert client.ask(CHAT, "POST", json=HELLO | {"stream": stream}).status_code == 200
        answer = client.ask(CHAT, "POST", json=HELLO)
        refused(answer, 429, code)
        assert 1 <= int(answer.headers["Retry-After"]) <= longest * 1.02  # they are counted in slices of the time
        assert client.ask("/v1/models").status_code == 200
        assert len(world.asked) == 1

    def test_counts_are_kept_when_the_consumers_change(self, world: World) -> None:
        client = world.client("keeping")  # 9 tokens a day
        assert client.ask(CHAT, "POST", json=HELLO).status_code == 200
        try:
            world.write_consumers(world.platform, world.keys | {"leaver": "sk-canary-another-key-of-somebody-else"})
            gone = world.client("leaver")
            eventually(lambda: gone.ask("/v1/models").status_code, lambda status: status == 401)
            refused(client.ask(CHAT, "POST", json=HELLO), 429, "tokens_per_day_exceeded")
        finally:
            world.write_consumers(world.platform, world.keys)
            eventually(lambda: world.client("leaver").ask("/v1/models").status_code, lambda status: status == 200)

    @pytest.mark.parametrize(
        ("path", "body", "place"),
        [
            (CHAT, {}, "max_tokens"), (CHAT, {"max_tokens": 4000}, "max_tokens"),
            (CHAT, {"max_completion_tokens": 4000}, "max_completion_tokens"),
            ("/v1/completions", {"prompt": "x"}, "max_tokens"),
            ("/v1/responses", {"input": "x"}, "max_output_tokens"),
            ("/ollama/api/chat", {"stream": False}, "num_predict"),
            ("/ollama/api/generate", {"prompt": "x", "stream": False, "options": {"num_predict": -1}}, "num_predict"),
        ],
    )  # fmt: skip
    def test_may_ask_for_answers_so_long(self, world: World, path: str, body: dict[str, Any], place: str) -> None:
        world.engine.play(tokens=100)
        assert world.client("short").ask(path, "POST", json=HELLO | body).status_code == 200
        [seen] = world.asked
        got = seen.json
        assert got.get("options", got)[place] == 16
        assert seen.tokens == 16

    def test_shorter_ones_stay_as_short_as_they_are(self, world: World) -> None:
        assert world.client("short").ask(CHAT, "POST", json=HELLO | {"max_tokens": 3}).status_code == 200
        assert world.asked[0].json["max_tokens"] == 3

    def test_is_answered_for_so_long(self, world: World) -> None:
        world.engine.play(ttft_ms=0, itl_ms=100, tokens=300)
        began = time.monotonic()
        with pytest.raises(requests.RequestException):
            world.client("quick").ask(CHAT, "POST", json=STREAM)  # 2 s
        assert 1.5 <= time.monotonic() - began <= 4
        eventually(lambda: world.asked[0].gone_at, bool, seconds=2)


class TestAModel:
    def test_answers_so_often(self, world: World) -> None:
        body = HELLO | {"model": "rationed:1b"}  # 2 a minute, over all consumers
        assert [world.client(name).ask(CHAT, "POST", json=body).status_code for name in ("default", "chat")] == [
            200
        ] * 2
        answer = world.client("streaming").ask(CHAT, "POST", json=body)
        refused(answer, 429)
        assert int(answer.headers["Retry-After"]) <= 60

    def test_answers_so_many_at_a_time(self, world: World) -> None:
        world.engine.play("single:1b", ttft_ms=0, itl_ms=200, tokens=20)
        client = world.client()
        body = STREAM | {"model": "single:1b"}
        with client.session() as session:
            headers = {"Authorization": f"Bearer {client.key}"}
            running = session.post(client.url + CHAT, json=body, headers=headers, stream=True, timeout=30)
            assert running.status_code == 200
            refused(world.client("chat").ask(CHAT, "POST", json=body), 429)
            assert world.client().ask(CHAT, "POST", json=HELLO).status_code == 200
            running.close()
        world.engine.play("single:1b", ttft_ms=0, itl_ms=0)
        eventually(lambda: client.ask(CHAT, "POST", json=body).status_code, lambda status: status == 200)


# Small enough to be met, and to be over soon.
STRICT: Final = {
    "api": {"events": 3, "per": "1m", "burst": 2},
    "chat": {"events": 4, "per": "1m", "burst": 3},
    "signIn": {"events": 3, "per": "1m", "burst": 1},
    "failures": {"events": 3, "per": "10m", "burst": 0},
    "ban": "1s",
    "longestBan": "4s",
}
WIDE: Final = {"events": 1000, "per": "1s", "burst": 1000}
SIGN_IN: Final = "/api/v1/auths/signin"


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Addresses may do little, and many wrong keys are no matter."""
    limits = STRICT | {"failures": WIDE}
    with started(tmp_path_factory.mktemp("limited"), parsed(limits=limits)) as world:
        yield world


@pytest.fixture(scope="module")
def banning(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Addresses may do much, but few wrong things."""
    limits = STRICT | {"api": WIDE, "chat": WIDE, "signIn": WIDE}
    with started(tmp_path_factory.mktemp("banning"), parsed(limits=limits)) as world:
        yield world


@pytest.mark.own
class TestAnAddress:
    def test_may_ask_the_api_without_a_key_so_often(self, limited: World) -> None:
        client = limited.client()
        assert statuses(client, 5, key=None) == [401] * 5
        refused(client.ask("/v1/models", key=None), 429, "rate_limit_exceeded")
        assert statuses(client, 20) == [200] * 20  # who shows a key is counted by it
        assert limited.client().ask("/v1/models", key=None).status_code == 401

    def test_may_use_the_chat_so_often(self, limited: World) -> None:
        client = limited.client()
        assert statuses(client, 7, "/", key=None) == [200] * 7
        refused(client.ask("/", key=None), 429, "rate_limit_exceeded")
        assert limited.client().ask("/", key=None).status_code == 200
        # Each page asks for some twenty things at once.
        assert statuses(client, 28, "/api/config", key=None) == [200] * 28
        refused(client.ask("/api/config", key=None), 429, "rate_limit_exceeded")

    def test_may_sign_in_so_often(self, limited: World) -> None:
        client = limited.client()
        assert statuses(client, 4, SIGN_IN, method="POST", key=None, json={}) == [200] * 4
        refused(client.ask(SIGN_IN, "POST", key=None, json={}), 429, "rate_limit_exceeded")

    def test_what_is_forged_makes_no_other_address(self, limited: World) -> None:
        client = limited.client()
        forged = [
            {"X-Forwarded-For": f"10.0.0.{i}", "X-Real-IP": f"10.0.0.{i}", "Forwarded": f"for={i}"} for i in range(6)
        ]
        assert [client.ask("/v1/models", key=None, headers=h).status_code for h in forged] == [401] * 5 + [429]

    def test_a_cold_page_load_is_never_too_much(self, world: World) -> None:
        """With the usual limits: as many files and questions at once as Open WebUI's start page takes."""
        client = world.client()
        files = [f"/_app/immutable/chunks/{i}.js" for i in range(217)] + ["/static/favicon.png", "/manifest.json"]
        data = [
            "/",
            "/api/config",
            "/api/v1/auths/",
            "/api/models",
            "/api/v1/chats/",
            "/api/v1/folders/",
            "/api/version",
        ]
        with ThreadPoolExecutor(8) as threads:
            seen = list(threads.map(lambda path: client.ask(path, key=None).status_code, [*data, *files, *data]))
        assert set(seen) == {200}


@pytest.mark.own
class TestABan:
    def test_grows_with_every_further_one_and_no_longer_than_it_may(self, banning: World) -> None:
        client = banning.client()

        def without_a_key() -> int:
            return client.ask("/v1/models", key=None).status_code

        waits = []
        for _ in range(4):
            seen = eventually(lambda: client.ask("/v1/models", key="sk-wrong"), lambda a: a.status_code == 429, 10)
            refused(seen, 429)
            waits.append(int(seen.headers["Retry-After"]))
            # A ban holds whatever is shown without a valid key, and ends by itself.
            assert without_a_key() == 429
            eventually(without_a_key, lambda status: status == 401, waits[-1] + 2)
        assert waits == [1, 2, 4, 4]

    def test_comes_at_the_first_failure_too_many(self, banning: World) -> None:
        client = banning.client()
        assert statuses(client, 4, key="sk-wrong") in ([401] * 3 + [429], [401] * 4)
        assert client.ask("/v1/models", key=None).status_code == 429

    def test_does_not_touch_who_has_a_key_or_another_address(self, banning: World) -> None:
        client = banning.client()
        statuses(client, 5, key="sk-wrong")
        assert client.ask("/v1/models", key=None).status_code == 429
        assert client.ask("/v1/models").status_code == 200
        assert client.ask("/api/config", key=None).status_code == 200
        assert banning.client().ask("/v1/models", key=None).status_code == 401

    def test_holds_for_signing_in(self, banning: World) -> None:
        banning.chat.play(SIGN_IN, fault="status", status=400)
        client = banning.client()
        wrong = {"email": "admin@localhost", "password": "wrong"}
        seen = statuses(client, 4, SIGN_IN, method="POST", key=None, json=wrong)
        assert seen[:3] == [400] * 3
        answer = client.ask(SIGN_IN, "POST", key=None, json=wrong)
        refused(answer, 429)
        assert statuses(client, 5, "/api/config", key=None) == [200] * 5
        assert banning.client().ask(SIGN_IN, "POST", key=None, json=wrong).status_code == 400


@pytest.mark.own
def test_an_engine_is_never_asked_for_more_than_it_takes(tmp_path: Path) -> None:
    """Its own queue would overflow with an error of its own; the gateway says 429 before that."""
    platform = parsed()
    platform = platform.model_copy(update={"engine": platform.engine.model_copy(update={"parallel": 1, "queue": 2})})
    with started(tmp_path, platform) as world, ThreadPoolExecutor(8) as threads:
        world.engine.play(ttft_ms=300, itl_ms=0, tokens=1, slots=1, queue=2)
        # Two consumers: one alone may have half of the engine's places only.
        asked = [
            threads.submit(world.client(name).ask, CHAT, "POST", json=HELLO) for name in ("default", "counted") * 4
        ]
        answers = [one.result() for one in asked]
        assert {answer.status_code for answer in answers} == {200, 429}
        for answer in answers:
            if answer.status_code == 429:
                code = answer.json()["error"]["code"]
                assert code in ("engine_overloaded", "engine_share_exceeded")
                refused(answer, 429, code)
        assert {seen.status for seen in world.asked} == {200}
