"""The attack suite's own parts: attacks can be made again, and the verdict sees what it is there for."""

from __future__ import annotations

import base64
from collections import Counter
from dataclasses import replace
from typing import Final

import pytest

from tests.attack import good
from tests.attack.generate import KINDS, attack
from tests.attack.oracle import Right, Rules, identity, judge, leaks, readings
from tests.attack.traffic import Credential, Fill, Head, Http1, Site
from tests.attack.upstream import Seen

SITE: Final = Site(host="localhost:8443", decoy="127.0.0.1:9", key="sk-canary-wrong")
OTHER: Final = replace(SITE, host="localhost:9999")
COUNT: Final = 400
KEY: Final = "sk-canary-valid-0123456789"
RULES: Final = Rules(
    rights={
        Credential.NONE: Right(),
        Credential.VALID: Right(scopes=frozenset({"chat", "native"}), models=frozenset({"qwen3:0.6b"})),
        Credential.WRONG: Right(scopes=frozenset({"show"})),
    },
    hosts=frozenset({"localhost:8443", "engine:11434"}),
    origins=frozenset({"https://localhost:8443"}),
    keys=frozenset({KEY}),
)


def sent(number: int, seed: int = 1, site: Site = SITE) -> list[bytes]:
    """Every byte of an attack."""
    traffic = attack(seed, number, site).move.traffic
    fill = Fill(b"v00001", b"V00001", ((b"Authorization", b"Bearer x"),))
    if isinstance(traffic, Http1):
        return [fill.filled(step.data) for step in traffic.steps]
    return [fill.frames(one) if isinstance(one, Head) else fill.filled(one.data) for one in traffic.frames]


class TestGenerator:
    def test_an_attack_can_be_made_again(self) -> None:
        assert [sent(number) for number in range(200)] == [sent(number) for number in range(200)]

    def test_another_seed_makes_others(self) -> None:
        assert sum(sent(number) != sent(number, seed=2) for number in range(200)) > 190

    def test_only_the_place_differs_on_another_gateway(self) -> None:
        for number in range(100):
            here, there = sent(number), sent(number, site=OTHER)
            assert [len(piece) for piece in here] == [len(piece) for piece in there]

    def test_hardly_any_two_are_the_same(self) -> None:
        assert len({tuple(sent(number)) for number in range(COUNT)}) > 0.9 * COUNT

    def test_every_kind_comes(self) -> None:
        met = Counter(attack(1, number, SITE).kind for number in range(COUNT))
        assert set(met) == set(KINDS)
        assert min(met.values()) >= 3

    def test_no_mark_is_left_unfilled(self) -> None:
        for number in range(COUNT):
            assert not [piece for piece in sent(number) if b"<<" in piece and b">>" in piece], number

    def test_announced_lengths_are_right_where_they_are_meant_to_be(self) -> None:
        for body in (b"", b'{"url": "http://<<decoy>>/"}', {"model": "x"}):
            raw = SITE.request("POST", "/x", body=body)
            head, _, rest = raw.partition(b"\r\n\r\n")
            assert f"Content-Length: {len(rest)}".encode() in head


def seen(line: str, *headers: str, upstream: str = "engine", body: bytes = b'{"model": "qwen3:0.6b"}') -> Seen:
    """A request as a recorder keeps it: in order, apart from what is given."""
    given = {header.partition(":")[0].lower() for header in headers}
    usual = {
        "Host": "engine:11434",
        "Attack-Id": "v00001",
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Proto": "https",
    }
    lines = [f"{line} HTTP/1.1", *(f"{name}: {value}" for name, value in usual.items() if name.lower() not in given)]
    return Seen(upstream, "\r\n".join([*lines, *headers]).encode("latin-1"), body, ())


CHAT: Final = "POST /v1/chat/completions"


class TestVerdict:
    def test_what_is_in_order_passes(self) -> None:
        assert judge(seen(CHAT), RULES) == []
        assert judge(seen("GET /api/v1/chats/?page=1", upstream="chat"), RULES) == []
        assert judge(seen("GET /api/tags", "Attack-Id: none", body=b""), RULES) == []  # the gateway's own question

    @pytest.mark.parametrize(
        "line",
        [
            "POST /api/pull",
            "GET /api/chat",
            "POST /api/pull%2f..%2fchat",
            "POST /api/chat/../pull",
            "POST /v1/%63hat/completions",
            "POST /V1/chat/completions",
            "POST //v1/chat/completions",
            "POST /v1/chat/completions/",
            "POST /v1/chat/completions;x",
            "POST /v1/embeddings",  # a scope that this key lacks
            "POST http://engine/v1/chat/completions",
        ],
    )
    def test_other_places_of_the_engine_are_a_bypass(self, line: str) -> None:
        assert [finding.verdict for finding in judge(seen(line), RULES)] == ["bypass"]

    @pytest.mark.parametrize(
        "line",
        [
            "POST /api/v1/functions/create",
            "GET /api/v1/chats/..%2ffunctions/create",
            "GET /static/%2e%2e/docs",
            "GET /openapi.json",
            "GET /API/config",
            "POST /static/x",
            "TRACE /ws/socket.io/",
            "GET /api/v1/pipelines/list",
        ],
    )
    def test_other_places_of_the_chat_are_a_bypass(self, line: str) -> None:
        assert "bypass" in [finding.verdict for finding in judge(seen(line, upstream="chat"), RULES)]

    @pytest.mark.parametrize("mark", ["n00001", "w00001", "V00001", "none"])
    def test_nobody_else_gets_to_the_engine(self, mark: str) -> None:
        """Without a key, with one of another scope, as a hidden second request, or unknown."""
        assert [f.verdict for f in judge(seen(CHAT, f"Attack-Id: {mark}"), RULES)] == ["bypass"]

    @pytest.mark.parametrize(
        "body",
        [
            b'{"model": "boss"}',
            b'{"model": "qwen3:0.6b", "model": "boss"}',
            b'{"model": "boss", "model": "qwen3:0.6b"}',
            b'{"MODEL": "boss", "model": "qwen3:0.6b"}',
            b'{"mod\\u0065l": "boss", "model": "qwen3:0.6b"}',
            b'{"model": ["qwen3:0.6b"]}',
            b'[{"model": "qwen3:0.6b"}]',
            b'{"model": "qwen3:0.6b"}{"model": "boss"}',
            b"{}",
            '{"model": "qwen3:0.6b"}'.encode("utf-16"),
        ],
    )
    def test_other_models_are_a_bypass(self, body: bytes) -> None:
        assert [finding.verdict for finding in judge(seen(CHAT, body=body), RULES)] == ["bypass"]

    @pytest.mark.parametrize(
        "header",
        [
            "X-Forwarded-For: 203.0.113.66",
            "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-For: 127.0.0.1",
            "X_Forwarded_For: 127.0.0.1",
            "X.Forwarded.For: 127.0.0.1",
            "X-Forwarded-Proto: http",
            "X-Forwarded-Host: evil.example",
            "Host: evil.example",
            "Host: engine:11434\r\nHost: engine:11434",
            "remote.user: root",
            "Tailscale_User_Login: root",
            "X--Original--Url: /api/pull",
            "X-Http-Method-Override: DELETE",
            "Anything: f0rged",
            f"Cookie: a={KEY}",
            f"X: Basic {base64.b64encode(f'default:{KEY}'.encode()).decode()}",
        ],
    )
    def test_claims_and_keys_behind_the_gateway_are_seen(self, header: str) -> None:
        assert "spoofed" in {finding.verdict for finding in judge(seen(CHAT, *header.split("\r\n")), RULES)}

    def test_a_missing_address_is_seen(self) -> None:
        head = seen(CHAT).head.replace(b"X-Forwarded-For: 127.0.0.1\r\n", b"")
        assert [f.verdict for f in judge(replace(seen(CHAT), head=head), RULES)] == ["spoofed"]

    def test_faults_sizes_upgrades_sockets_and_the_decoy_are_seen(self) -> None:
        socket = "GET /ws/socket.io/"
        for one in (
            replace(seen(CHAT), faults=("more than one length",)),
            seen(CHAT, f"X-Long: {'a' * 30_000}"),
            seen(CHAT, body=b'{"model": "qwen3:0.6b", "x": "' + b"a" * 2_000_000 + b'"}'),
            seen(CHAT, "Upgrade: h2c"),
            seen(socket, "Origin: https://evil.example", upstream="chat"),
            seen("GET /", upstream="decoy"),
        ):
            assert [finding.verdict for finding in judge(one, RULES)] == ["bypass"], one.head[:60]
        assert judge(seen(socket, "Origin: https://localhost:8443", "Upgrade: websocket", upstream="chat"), RULES) == []

    def test_answers_are_looked_at(self) -> None:
        assert leaks(b"HTTP/1.1 200 OK\r\n\r\n# HELP x", RULES)
        assert leaks(b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: https://evil.example\r\n\r\n", RULES)
        assert leaks(b"HTTP/1.1 200 OK\r\n\r\n" + KEY.encode(), RULES)
        assert leaks(b"HTTP/1.1 404 Not Found\r\n\r\n{}", RULES) == []

    def test_a_request_is_known_again(self) -> None:
        assert identity(seen(CHAT)) == (1, Credential.VALID, False)
        assert identity(seen(CHAT, "Attack-Id: W00012")) == (12, Credential.WRONG, True)
        assert identity(seen(CHAT, "Attack-Id: v00007 X-First: folded")) == (7, Credential.VALID, False)
        assert identity(seen(CHAT, "Attack-Id: G00001")) is None

    def test_paths_are_read_in_every_way(self) -> None:
        assert "/api/chat" in readings("/api/pull%2f..%2fchat?x=/y")
        assert "/api/pull" in readings("/api/%2570ull")
        assert "/api/pull" in readings("\\api\\pull")
        assert readings("/v1/models") == {"/v1/models"}


class TestGood:
    def test_all_good_requests_can_be_sent(self) -> None:
        values = {"host": "h:1", "HOST": "H:1", "origin": "https://h:1", "key": "k", "basic": "b", "session": "s"}
        for request in good.load():
            raw = request.raw(values, b"G00001").decode("latin-1")
            assert not {f"{{{name}}}" for name in values if f"{{{name}}}" in raw}, request.id

    def test_no_secret_is_kept_with_them(self) -> None:
        for file in good.FOLDER.glob("*.json"):
            text = file.read_text()
            assert "Bearer sk-" not in text, file.name
            assert "Bearer ey" not in text, file.name
