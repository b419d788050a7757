"""The gateway as clients meet it: TLS checked, a key for everything that costs, and nothing but what is allowed."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator

import pytest
import requests

from tests.support.live.platform import Platform

QUESTION = [{"role": "user", "content": "Say hello."}]
SHORT = {"model": "default", "messages": QUESTION, "max_tokens": 8}


@pytest.fixture(scope="module")
def client(platform: Platform) -> Iterator[requests.Session]:
    """A client with the key of the consumer `default`."""
    with platform.session(platform.key()) as session:
        yield session


@pytest.fixture(scope="module")
def stranger(platform: Platform) -> Iterator[requests.Session]:
    """A client without a key."""
    with platform.session() as session:
        yield session


def aliases(platform: Platform) -> set[str]:
    """Every name of the configuration that a client may ask for."""
    return {name for model in platform.platform["models"] for name in (model["name"], *model.get("aliases", ()))}


def events(answer: requests.Response) -> list[dict[str, object]]:
    """The events of a stream that ended as OpenAI's do."""
    lines = [line for line in answer.iter_lines() if line.startswith(b"data: ")]
    assert lines, answer.headers
    assert lines[-1] == b"data: [DONE]"
    return [json.loads(line.removeprefix(b"data: ")) for line in lines[:-1]]


def request_target(platform: Platform, target: str, host: str | None = None) -> tuple[int, str]:
    """Status and body for a request line exactly as given: clients clean paths before they send them."""
    context = ssl.create_default_context(cafile=platform.ca)
    connection = http.client.HTTPSConnection("localhost", platform.https_port, timeout=20, context=context)
    try:
        connection.putrequest("GET", target, skip_host=True)
        connection.putheader("Host", host or f"localhost:{platform.https_port}")
        connection.putheader("Authorization", f"Bearer {platform.key()}")
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()


class TestKeys:
    def test_none_is_401_with_a_challenge(self, platform: Platform, stranger: requests.Session) -> None:
        answer = stranger.get(f"{platform.url}/v1/models", timeout=20)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert answer.json()["error"]["message"]

    # Few: ten failures in ten minutes are an address's first ban.
    @pytest.mark.parametrize(
        ("key", "method", "path"),
        [
            ("sk-wrong", "GET", "/v1/models"),
            ("", "POST", "/v1/chat/completions"),
            ("sk-" + "0" * 43, "POST", "/ollama/api/chat"),
        ],
    )
    def test_a_wrong_one_is_401(
        self, platform: Platform, stranger: requests.Session, key: str, method: str, path: str
    ) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        answer = stranger.request(method, f"{platform.url}{path}", headers=headers, json=SHORT, timeout=20)
        assert answer.status_code == 401

    def test_the_right_one_lists_the_configured_names(self, platform: Platform, client: requests.Session) -> None:
        answer = client.get(f"{platform.url}/v1/models", timeout=20)
        assert answer.status_code == 200
        assert aliases(platform) <= {model["id"] for model in answer.json()["data"]}

    def test_a_scope_that_it_lacks_is_403(self, platform: Platform) -> None:
        answer = platform.session(platform.key("chat")).post(f"{platform.url}/ollama/api/chat", json=SHORT, timeout=20)
        assert answer.status_code == 403, answer.text

    def test_what_shows_system_prompts_has_a_scope_of_its_own(
        self, platform: Platform, client: requests.Session
    ) -> None:
        answer = client.post(f"{platform.url}/ollama/api/show", json={"model": "default"}, timeout=20)
        assert answer.status_code == 403, answer.text

    def test_the_native_scope_answers(self, platform: Platform, client: requests.Session) -> None:
        body = {"model": "default", "messages": QUESTION, "stream": False, "options": {"num_predict": 4}}
        answer = client.post(f"{platform.url}/ollama/api/chat", json=body, timeout=120)
        assert answer.status_code == 200, answer.text
        assert answer.json()["message"]["content"]
        assert client.get(f"{platform.url}/ollama/api/tags", timeout=20).json()["models"]

    def test_only_this_authority_is_trusted_with_it(self, platform: Platform) -> None:
        session = requests.Session()
        session.trust_env = False
        with pytest.raises(requests.exceptions.SSLError):
            session.get(f"{platform.url}/health", timeout=20)


class TestAnswers:
    def test_a_stream_ends_with_its_usage(self, platform: Platform, client: requests.Session) -> None:
        body = SHORT | {"stream": True, "stream_options": {"include_usage": True}}
        answer = client.post(f"{platform.url}/v1/chat/completions", json=body, stream=True, timeout=120)
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        seen = events(answer)
        assert len([event for event in seen if event["choices"]]) > 1, "it came in one piece"
        usage = seen[-1]["usage"]
        assert isinstance(usage, dict)
        assert usage["completion_tokens"] == 8
        assert usage["prompt_tokens"] > 0

    @pytest.mark.parametrize("model", ["default", "fast", "qwen3:0.6b"])
    def test_every_name_of_the_model_answers(self, platform: Platform, client: requests.Session, model: str) -> None:
        answer = client.post(f"{platform.url}/v1/chat/completions", json=SHORT | {"model": model}, timeout=120)
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"]
        assert answer.json()["usage"]["completion_tokens"] == 8

    def test_embeddings_are_of_one_length_and_differ(self, platform: Platform, client: requests.Session) -> None:
        body = {"model": "embedding", "input": ["a red apple", "the price of steel"]}
        answer = client.post(f"{platform.url}/v1/embeddings", json=body, timeout=120)
        assert answer.status_code == 200, answer.text
        first, second = (entry["embedding"] for entry in answer.json()["data"])
        assert len(first) == len(second) > 8
        assert first != second

    def test_a_model_that_is_not_there_is_404_with_words(self, platform: Platform, client: requests.Session) -> None:
        answer = client.post(f"{platform.url}/v1/chat/completions", json=SHORT | {"model": "no-such"}, timeout=20)
        assert answer.status_code == 404
        assert "no-such" in answer.json()["error"]["message"]

    def test_health_is_open_and_tells_no_more_than_yes(self, platform: Platform, stranger: requests.Session) -> None:
        answer = stranger.get(f"{platform.url}/health", timeout=20)
        assert answer.status_code == 200
        assert "ollama" not in answer.text.lower()


# What would manage models, read the engine's insides, or reach services behind the gateway.
REFUSED = [
    ("POST", "/ollama/api/pull"),
    ("POST", "/ollama/api/push"),
    ("POST", "/ollama/api/create"),
    ("POST", "/ollama/api/copy"),
    ("DELETE", "/ollama/api/delete"),
    ("HEAD", "/ollama/api/blobs/sha256:0"),
    ("POST", "/ollama/api/blobs/sha256:0"),
    ("GET", "/ollama/"),
    ("POST", "/ollama/v1/chat/completions"),
    ("POST", "/api/pull"),
    ("POST", "/api/generate"),
    ("POST", "/v1/files"),
    ("GET", "/metrics"),
    ("GET", "/live"),
    ("GET", "/config/"),
    ("POST", "/load"),
    ("POST", "/openai/config/update"),
    ("GET", "/openai/models"),
    ("POST", "/openai/v1/chat/completions"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("POST", "/api/v1/functions/create"),
    ("POST", "/api/v1/functions/load/url"),
    ("POST", "/api/v1/tools/create"),
    ("POST", "/api/v1/tools/load/url"),
    ("GET", "/api/v1/tools/export"),
    ("GET", "/api/v1/pipelines/"),
    ("GET", "/api/v1/scim/v2/Users"),
    ("GET", "/api/v2/heartbeat"),
    ("GET", "/no/such/path"),
]


class TestRefused:
    @pytest.mark.parametrize(("method", "path"), REFUSED, ids=str)
    def test_whoever_asks(self, platform: Platform, client: requests.Session, method: str, path: str) -> None:
        answer = client.request(method, f"{platform.url}{path}", json={"model": "default"}, timeout=20)
        assert answer.status_code in {404, 405}, f"{method} {path}: {answer.status_code} {answer.text[:200]}"
        assert "Open WebUI" not in answer.text

    @pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings"])
    def test_another_method(self, platform: Platform, client: requests.Session, path: str) -> None:
        assert client.get(f"{platform.url}{path}", timeout=20).status_code == 405

    @pytest.mark.parametrize(
        "target",
        [
            "/v1/../ollama/api/pull",
            "/v1//models",
            "//ollama/api/tags",
            "/ollama/api/chat/../pull",
            "/ollama/api%2fpull",
            "/ollama/api/%2e%2e/api/pull",
            "/v1/models;x=/ollama/api/pull",
            "/ollama\\api\\pull",
            "/v1/models%00",
            "/static/../api/v1/functions/export",
        ],
    )
    def test_odd_paths_reach_nothing(self, platform: Platform, target: str) -> None:
        status, body = request_target(platform, target)
        assert status in {400, 404}, f"{target}: {status} {body[:200]}"
        assert "Open WebUI" not in body

    def test_the_plain_path_beside_them_is_good(self, platform: Platform) -> None:
        assert request_target(platform, "/v1/models")[0] == 200

    @pytest.mark.parametrize("host", ["evil.example", "gateway", "chat:8080", "localhost.evil.example"])
    def test_a_host_name_that_is_not_ours(self, platform: Platform, host: str) -> None:
        status, _ = request_target(platform, "/v1/models", host=host)
        assert status == 421

    def test_plain_http_only_redirects(self, platform: Platform, stranger: requests.Session) -> None:
        plain = f"http://localhost:{platform.http_port}/v1/models?x=1"
        answer = stranger.get(plain, allow_redirects=False, timeout=20)
        assert answer.status_code == 308
        assert answer.headers["Location"] == f"{platform.url}/v1/models?x=1"
        assert "data" not in answer.text
