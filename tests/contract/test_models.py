"""Which model answers: aliases, what a consumer may use, a model pinned by the path, one that stands in for another."""

from __future__ import annotations

from typing import Any, Final

import pytest
import requests

from tests.contract.expect import refused
from tests.contract.target import Client
from tests.contract.world import HELLO, World

EVERY_ENGINE: Final = True
CHAT: Final = "/v1/chat/completions"


def listed(answer: requests.Response) -> set[str]:
    return {model["id"] for model in answer.json()["data"]}


class TestNames:
    @pytest.mark.parametrize("name", ["default", "fast", "gpt-3.5-turbo", "org/with-a-slash", "qwen3:0.6b"])
    def test_every_name_of_a_model_leads_to_it(self, world: World, name: str) -> None:
        assert world.client().ask(CHAT, "POST", json=HELLO | {"model": name}).status_code == 200
        [seen] = world.asked
        assert seen.json["model"] == "qwen3:0.6b"

    def test_nothing_else_in_the_body_is_touched(self, world: World) -> None:
        body = b' {"model" : "default","x":[1e400,-0,1.0],"messages":[{"role":"user","content":"h\\u00e9"}],"y":{}} '
        sent = {"Content-Type": "application/json"}
        assert world.client().ask(CHAT, "POST", data=body, headers=sent).status_code == 200
        [seen] = world.asked
        assert seen.body.encode() == body.replace(b'"default"', b'"qwen3:0.6b"')

    @pytest.mark.parametrize("name", ["default", "org/with-a-slash", "qwen3:0.6b"])
    def test_every_name_can_be_looked_up(self, world: World, name: str) -> None:
        assert world.client().ask(f"/v1/models/{name}").json()["id"] == name


class TestWhatAConsumerMayUse:
    def test_everybody_sees_what_they_may_use(self, world: World) -> None:
        every = {name for m in world.platform.models for name in (m.name, *m.aliases)}
        assert listed(world.client().ask("/v1/models")) == every
        assert listed(world.client("restricted").ask("/v1/models")) == {"other:1b", "second"}
        assert world.asked == []

    def test_and_can_look_up_nothing_else(self, world: World) -> None:
        client = world.client("restricted")
        assert client.ask("/v1/models/second").status_code == 200
        refused(client.ask("/v1/models/default"), 403, "model_not_allowed")
        refused(client.ask("/v1/models/nobody"), 404, "model_not_found")

    def test_one_name_of_a_model_opens_all_of_them(self, world: World) -> None:
        for name in ("second", "other:1b"):
            answer = world.client("restricted").ask(CHAT, "POST", json=HELLO | {"model": name})
            assert answer.status_code == 200

    @pytest.mark.native
    def test_native_lists_are_filtered_too(self, world: World) -> None:
        def names(consumer: str) -> set[str]:
            return {m["name"] for m in world.client(consumer).ask("/ollama/api/tags").json()["models"]}

        assert names("restricted") == {"other:1b", "second"}
        assert {"default", "fast", "qwen3:0.6b", "second", "embedding"} <= names("default")
        running: list[Any] = world.client("restricted").ask("/ollama/api/ps").json()["models"]
        assert {model["name"] for model in running} <= {"other:1b", "second"}
        assert world.client("restricted").ask("/ollama/api/version").json()["version"]

    @pytest.mark.native
    def test_details_are_shown_by_scope(self, world: World) -> None:
        for consumer, status in (("default", 403), ("shower", 200)):
            answer = world.client(consumer).ask("/ollama/api/show", "POST", json={"model": "default"})
            assert answer.status_code == status
        [seen] = world.asked
        assert (seen.target, seen.json["model"]) == ("/api/show", "qwen3:0.6b")


class TestPinned:
    """/m/<alias>/v1 is for clients that cannot be told a model's name."""

    def test_the_path_is_stronger_than_the_body(self, world: World) -> None:
        for model in ("default", "whatever", ""):
            answer = world.client().ask("/m/second/v1/chat/completions", "POST", json=HELLO | {"model": model})
            assert answer.status_code == 200, answer.text
        assert world.client().ask("/m/second/v1/chat/completions", "POST", json={"messages": []}).status_code == 200
        assert {seen.json["model"] for seen in world.asked} == {"other:1b"}
        assert {seen.target for seen in world.asked} == {CHAT}

    def test_its_list_has_that_model(self, client: Client) -> None:
        assert "default" in listed(client.ask("/m/default/v1/models"))

    def test_a_consumer_needs_that_model(self, world: World) -> None:
        answer = world.client("restricted").ask("/m/default/v1/chat/completions", "POST", json=HELLO)
        refused(answer, 403, "model_not_allowed")
        assert world.asked == []

    def test_a_wrong_method_is_told_the_right_one(self, client: Client) -> None:
        refused(client.ask("/m/default/v1/chat/completions"), 405, "method_not_allowed")
        assert client.ask("/m/default/v1/models", "POST", json={}).headers["Allow"] == "GET, HEAD"

    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
    @pytest.mark.parametrize(
        "below", ["/v1/chat/completions", "/v1/embeddings", "/v1/models", "/v1/models/x", "/v1/zzz", "/v1", "", "/"]
    )
    def test_without_a_key_models_that_are_there_look_like_others(self, world: World, method: str, below: str) -> None:
        there, not_there = (
            world.client().ask(f"/m/{name}{below}", method, key=None) for name in ("default", "nothere")
        )
        assert (there.status_code, there.content) == (not_there.status_code, not_there.content)
        assert there.status_code == 401
        varying = {"date", "x-request-id"}
        assert [{name.lower() for name in answer.headers} - varying for answer in (there, not_there)] == [
            {name.lower() for name in there.headers} - varying
        ] * 2
        assert there.headers["WWW-Authenticate"] == not_there.headers["WWW-Authenticate"]

    @pytest.mark.parametrize(
        "path", ["/m/nobody/v1/models", "/m/default/v1", "/m/default", "/m/default/ollama/api/tags"]
    )
    def test_there_is_nothing_else_below_it(self, client: Client, path: str) -> None:
        refused(client.ask(path), 404, "not_found")


class TestStandIns:
    """A model may name another that answers when it cannot, before anything was sent."""

    @pytest.mark.parametrize(
        "trouble",
        [
            {"fault": "status", "status": 500}, {"fault": "status", "status": 503}, {"fault": "status", "status": 429},
            {"fault": "context_overflow"}, {"fault": "bad_head"},
        ],
        ids=lambda trouble: "-".join(str(word) for word in trouble.values()),
    )  # fmt: skip
    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
    def test_the_other_model_answers(self, world: World, trouble: dict[str, Any], *, stream: bool) -> None:
        world.engine.play("fragile:1b", **trouble)
        answer = world.client().ask(CHAT, "POST", json=HELLO | {"model": "fragile:1b", "stream": stream})
        assert answer.status_code == 200, answer.text
        assert [seen.json["model"] for seen in world.asked][-1] == "qwen3:0.6b"

    def test_a_request_that_is_wrong_is_told_so(self, world: World) -> None:
        world.engine.play("fragile:1b", fault="status", status=400)
        answer = world.client().ask(CHAT, "POST", json=HELLO | {"model": "fragile:1b"})
        assert answer.status_code == 400
        assert len(world.asked) == 1

    def test_after_the_first_byte_nobody_stands_in(self, world: World) -> None:
        world.engine.play("fragile:1b", fault="cut", fault_after=3)
        with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
            world.client().ask(CHAT, "POST", json=HELLO | {"model": "fragile:1b", "stream": True})
        assert len(world.asked) == 1

    def test_who_may_not_use_the_other_model_gets_the_error(self, world: World) -> None:
        world.engine.play("fragile:1b", fault="status", status=500)
        answer = world.client("fragile-only").ask(CHAT, "POST", json=HELLO | {"model": "fragile:1b"})
        assert answer.status_code >= 500
        assert "qwen3" not in [seen.json["model"] for seen in world.asked]

    def test_without_trouble_nobody_stands_in(self, world: World) -> None:
        assert world.client().ask(CHAT, "POST", json=HELLO | {"model": "fragile:1b"}).status_code == 200
        assert [seen.json["model"] for seen in world.asked] == ["fragile:1b"]
