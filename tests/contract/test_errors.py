"""Every refusal: the status, OpenAI's error shape, what a client needs to go on."""

from __future__ import annotations

import base64
import json
import socket
from pathlib import Path
from typing import Final

import bcrypt
import pytest

from stack.gateway import upstreams
from tests.contract.expect import refused
from tests.contract.target import NO_MODEL, Client
from tests.contract.world import HELLO, World, parsed, started

CHAT: Final = "/v1/chat/completions"


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


class TestTheRequest:
    """What is wrong with it; none of these could be answered by a model."""

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            ("", None), ("not json", None), ("[]", None), ('"text"', None), ("{", None), ("{}", "model"),
            ('{"model": 1}', "model"), ('{"model": ""}', "model"), ('{"model": null}', "model"),
            (f'{{"model": "{NO_MODEL}", "model": "{NO_MODEL}"}}', "model"),
            (f'{{"model": "{NO_MODEL}", "mod\\u0065l": "{NO_MODEL}"}}', "model"),
            (f'{{"model": "{NO_MODEL}"}} {{}}', None), ("[" * 5000 + "]" * 5000, None),
            (f'{{"model": "{NO_MODEL}", "x": ' + '{"x":' * 200 + "1" + "}" * 200 + "}", None),
        ],
    )  # fmt: skip
    def test_bodies_that_are_no_request(self, client: Client, body: str, param: str | None) -> None:
        error = refused(client.ask(CHAT, "POST", data=body, headers={"Content-Type": "application/json"}), 400)
        assert error["param"] == param or param is None

    @pytest.mark.parametrize("charset", ["utf-16", "utf-32"])
    def test_other_charsets(self, client: Client, charset: str) -> None:
        body = json.dumps({"model": NO_MODEL}).encode(charset)
        assert client.ask(CHAT, "POST", data=body, headers={"Content-Type": "application/json"}).status_code in (
            400,
            415,
        )

    @pytest.mark.parametrize(
        "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/json"]
    )
    def test_bodies_of_another_kind(self, client: Client, kind: str) -> None:
        body = json.dumps({"model": NO_MODEL})
        refused(client.ask(CHAT, "POST", data=body, headers={"Content-Type": kind}), 415, "unsupported_media_type")

    def test_packed_bodies(self, client: Client) -> None:
        sent = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        refused(client.ask(CHAT, "POST", data=b"\x1f\x8b", headers=sent), 415, "unsupported_media_type")

    @pytest.mark.parametrize("name", [NO_MODEL, "gpt-4", "http://evil.example/model", "../../etc/passwd", "модель"])
    def test_an_unknown_model(self, client: Client, name: str) -> None:
        error = refused(client.ask(CHAT, "POST", json=HELLO | {"model": name}), 404, "model_not_found")
        assert error["param"] == "model"
        assert name in error["message"]

    def test_a_model_of_another_role(self, client: Client) -> None:
        refused(client.ask("/v1/embeddings", "POST", json={"model": "default", "input": "x"}), 400, "wrong_model_role")

    def test_headers_that_are_too_large(self, client: Client) -> None:
        refused(client.ask("/v1/models", headers={"X-Large": "a" * 20_000}), 431, "headers_too_large")

    def test_headers_that_nobody_reads_to_their_end(self, client: Client) -> None:
        answer = client.raw(
            f"GET /v1/models HTTP/1.1\nHost: {client.host}\nX-Large: {'a' * 100_000}\nConnection: close"
        )
        assert answer.status == 431

    @pytest.mark.parametrize("value", ["-1", "+2", "1, 2", "0x1", "1\nContent-Length: 2"])
    def test_lengths_that_are_none(self, client: Client, value: str) -> None:
        head = f"POST {CHAT} HTTP/1.1\nHost: {client.host}\nAuthorization: Bearer {client.key}\nContent-Length: {value}"
        assert client.raw(head + "\nConnection: close", b"{}").status in (400, 501)

    @pytest.mark.parametrize("coding", ["xchunked", "chunked, identity", "gzip, chunked"])
    def test_codings_that_are_none(self, client: Client, coding: str) -> None:
        head = f"POST {CHAT} HTTP/1.1\nHost: {client.host}\nAuthorization: Bearer {client.key}\nConnection: close"
        assert client.raw(f"{head}\nTransfer-Encoding: {coding}", b"2\r\n{}\r\n0\r\n\r\n").status in (400, 501)


class TestTheKey:
    @pytest.mark.wrong_key
    def test_none(self, client: Client) -> None:
        answer = client.ask("/v1/models", key=None)
        refused(answer, 401, "missing_api_key")
        challenges = answer.headers["WWW-Authenticate"]
        assert challenges.startswith("Bearer realm=")
        assert "Basic realm=" in challenges
        assert 'charset="UTF-8"' in challenges

    @pytest.mark.wrong_key
    def test_a_wrong_one(self, client: Client) -> None:
        answer = client.ask("/v1/models", key="sk-wrong")
        refused(answer, 401, "invalid_api_key")
        challenge = answer.headers["WWW-Authenticate"]
        assert challenge.startswith("Bearer realm=")
        assert 'error="invalid_token"' in challenge
        assert "Basic" not in challenge  # a browser would open a password window

    @pytest.mark.wrong_key
    @pytest.mark.parametrize("user", ["default", "nobody"])
    def test_a_wrong_password(self, client: Client, user: str) -> None:
        answer = client.ask("/v1/models", key=None, headers=basic(user, "wrong"))
        refused(answer, 401)
        assert "Basic realm=" in answer.headers["WWW-Authenticate"]

    @pytest.mark.parametrize("place", ["?api_key={key}", "?key={key}", "?access_token={key}"])
    def test_a_key_in_the_query_is_none(self, world: World, place: str) -> None:
        client = world.client()
        refused(client.ask("/v1/models" + place.format(key=client.key), key=None), 400, "key_in_query")

    def test_a_name_and_its_key_are_as_good(self, world: World) -> None:
        client = world.client()
        assert client.ask("/v1/models", key=None, headers=basic("default", client.key)).status_code == 200
        refused(client.ask("/v1/models", key=None, headers=basic("chat", client.key)), 401)

    def test_a_password_of_ones_own_choice(self, tmp_path: Path) -> None:
        hashed = bcrypt.hashpw(b"correct horse battery", bcrypt.gensalt(4)).decode()
        with started(tmp_path, passwords={"chat": hashed}) as world:
            client = world.client()
            assert client.ask("/v1/models", key=None, headers=basic("chat", "correct horse battery")).status_code == 200
            refused(client.ask("/v1/models", key=None, headers=basic("chat", "correct horse")), 401)
            refused(client.ask("/v1/models", key=None, headers=basic("default", "correct horse battery")), 401)
            refused(client.ask("/v1/models", key="correct horse battery"), 401)

    def test_two_credentials_are_none(self, world: World) -> None:
        client = world.client()
        one = f"Authorization: Bearer {client.key}"
        answer = client.raw(f"GET /v1/models HTTP/1.1\nHost: {client.host}\n{one}\n{one}\nConnection: close")
        assert answer.status in (400, 401)

    def test_an_expired_one(self, world: World) -> None:
        refused(world.client("expired").ask("/v1/models"), 401)

    @pytest.mark.parametrize(
        ("path", "method", "consumer"),
        [
            (CHAT, "POST", "embedder"), ("/v1/completions", "POST", "embedder"), ("/v1/responses", "POST", "embedder"),
            ("/ollama/api/chat", "POST", "chat"), ("/ollama/api/tags", "GET", "chat"),
            ("/v1/embeddings", "POST", "short"), ("/ollama/api/show", "POST", "default"),
        ],
    )  # fmt: skip
    def test_a_scope_that_it_lacks(self, world: World, path: str, method: str, consumer: str) -> None:
        refused(world.client(consumer).ask(path, method, json=HELLO), 403, "missing_scope")
        assert world.asked == []

    @pytest.mark.parametrize("model", ["default", "qwen3:0.6b", "fast", "embedding"])
    def test_a_model_that_it_may_not_use(self, world: World, model: str) -> None:
        path = "/v1/embeddings" if model == "embedding" else CHAT
        answer = world.client("restricted").ask(path, "POST", json=HELLO | {"model": model, "input": "x"})
        refused(answer, 403, "model_not_allowed")
        assert world.asked == []

    def test_a_foreign_credential_beside_the_chats_own_stays_out_of_the_chat(self, world: World) -> None:
        client = world.client()
        for first, second in (("Bearer eyJ.x.y", "Token x"), ("Token x", "Bearer eyJ.x.y")):
            lines = f"Authorization: {first}\nAuthorization: {second}"
            head = f"GET /api/config HTTP/1.1\nHost: {client.host}\n{lines}\nConnection: close"
            refused(client.raw(head), 401, "wrong_credential")
        assert world.asked == []

    def test_keys_of_the_api_stay_out_of_the_chat(self, world: World) -> None:
        client = world.client()
        for path, method in (("/api/config", "GET"), ("/api/v1/chats/new", "POST"), ("/ws/socket.io/", "GET")):
            refused(client.ask(path, method), 401, "wrong_credential")
            refused(client.ask(path, method, key=None, headers=basic("default", client.key)), 401, "wrong_credential")
            for other in ("Token eyJ.x.y", "Digest username=x", "Negotiate YTpi", "eyJ.x.y", client.key):
                refused(client.ask(path, method, key=None, headers={"Authorization": other}), 401, "wrong_credential")
        assert world.asked == []


class TestSizes:
    @pytest.mark.parametrize("consumer", ["default", "small"])
    @pytest.mark.parametrize("chunked", [False, True], ids=["with-length", "in-chunks"])
    def test_bodies_beyond_the_limit(self, world: World, consumer: str, *, chunked: bool) -> None:
        most = (1 if consumer == "small" else 2) * 1024 * 1024
        rest = json.dumps(HELLO | {"user": ""}).encode()
        fitting = rest.replace(b'"user": ""', b'"user": "' + b"a" * (most - len(rest)) + b'"')
        client = world.client(consumer)
        sent = {"Content-Type": "application/json"}

        def body(whole: bytes) -> object:
            return iter([whole[:1000], whole[1000:]]) if chunked else whole

        assert len(fitting) == most
        assert client.ask(CHAT, "POST", data=body(fitting), headers=sent).status_code == 200
        large = fitting.replace(b"aaa", b"aaaa", 1)
        refused(client.ask(CHAT, "POST", data=body(large), headers=sent), 413, "request_too_large")
        assert len(world.asked) == 1


@pytest.mark.own
class TestTheEngine:
    def test_one_that_is_gone(self, tmp_path: Path) -> None:
        with started(tmp_path, nobody=True) as alone:
            client = alone.client()
            refused(client.ask(CHAT, "POST", json=HELLO), 502, "engine_unreachable")
            refused(client.ask("/ollama/api/chat", "POST", json=HELLO), 502, "engine_unreachable")
            refused(client.ask("/api/config", key=None), 502, "unavailable")
            answer = client.ask("/health", key=None)
            assert (answer.status_code, answer.json()) == (503, {"status": "unavailable"})
            assert int(answer.headers["Retry-After"]) >= 1
            assert client.ask("/v1/models").status_code == 200

    def test_one_that_never_answers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(upstreams, "FIRST_BYTE", "1s")
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            with started(tmp_path, parsed(), engine=address, chat=address) as alone:
                refused(alone.client().ask(CHAT, "POST", json=HELLO), 504, "engine_timeout")
