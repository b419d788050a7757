"""Which addresses there are, by method; everything else is not there."""

from __future__ import annotations

import json
from typing import Final

import pytest
import requests

from tests.contract.expect import hardened, refused
from tests.contract.target import NO_MODEL, Client
from tests.contract.world import HELLO, World

PROBE: Final = {"model": NO_MODEL, "name": NO_MODEL, "source": NO_MODEL, "destination": NO_MODEL, "messages": []}

POSTS: Final = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")
NATIVE_POSTS: Final = tuple(f"/ollama/api/{name}" for name in ("chat", "generate", "embed", "embeddings"))
GETS: Final = ("/v1/models", "/ollama/api/tags", "/ollama/api/ps", "/ollama/api/version", "/health")

# What would change the platform. Each is harmless where the block is missing: it names nothing that exists, or what it
# carries cannot be taken. (What acts without being given anything, such as POST /-/quit, is only read.)
BLOCKED: Final = [
    ("POST", "/ollama/api/pull"), ("POST", "/ollama/api/push"), ("POST", "/ollama/api/create"),
    ("POST", "/ollama/api/copy"), ("DELETE", "/ollama/api/delete"), ("GET", "/ollama/api/pull"),
    ("HEAD", "/ollama/api/blobs/sha256:0"), ("POST", "/ollama/api/blobs/sha256:0"),
    ("POST", "/api/pull"), ("DELETE", "/api/delete"), ("POST", "/api/create"), ("POST", "/api/chat"),
    ("GET", "/api/tags"), ("GET", "/ollama"), ("GET", "/ollama/"), ("GET", "/ollama/v1/models"),
    ("POST", "/ollama/v1/chat/completions"), ("GET", "/v1"), ("GET", "/v1/"), ("GET", "/v1/files"),
    ("POST", "/v1/fine_tuning/jobs"), ("POST", "/v1/audio/transcriptions"), ("DELETE", f"/v1/models/{NO_MODEL}"),
    ("GET", "/metrics"), ("GET", "/live"), ("GET", "/config/"), ("GET", "/pki/ca/local"),
    ("GET", "/reverse_proxy/upstreams"),
    ("GET", "/-/quit"), ("GET", "/-/reload"), ("GET", "/api/v1/admin/tsdb/snapshot"), ("GET", "/federate"),
    ("GET", "/key/list"), ("GET", "/model/info"), ("GET", "/models/available"), ("GET", "/debug/pprof/heap"),
    ("GET", "/docs"), ("GET", "/redoc"), ("GET", "/openapi.json"), ("GET", "/openai/models"),
    ("POST", "/openai/chat/completions"), ("GET", "/ollama/api/tags/0"), ("POST", "/api/v1/functions/create"),
    ("POST", "/api/v1/tools/create"), ("POST", "/api/v1/skills/create"), ("POST", "/api/v1/pipelines/add"),
    ("GET", "/api/v1/scim/v2/Users"), ("POST", "/api/v1/functions/%66ree"), ("GET", "/.env"), ("GET", "/.git/config"),
    ("GET", "/nonsense"), ("GET", "/ws"), ("PROPFIND", "/"), ("POST", "/api/v1/terminals/"),
]  # fmt: skip

ODD: Final = [
    "//v1/models", "/v1//models", "/v1/models/..", "/v1/./models", "/..", "/ollama/api/../api/pull",
    "/ollama/api/chat/../pull", "/ollama/./api/pull", "/ollama/api/%2e%2e/pull", "/ollama/api%2fpull",
    "/ollama/api%2Fpull", "/ollama/api/tags/%2E%2E/pull", "/ollama%5capi%5cpull", "/ollama\\api\\pull",
    "/ollama/api/tags;/pull", "/ollama/api/tags%3b/pull", "/ollama/api/%252e%252e/pull", "/v1/models%00",
    "/v1/%6dodels", "/v1/models%20", "/v1/models%0d%0aX: y", "/static/..;/api/v1/functions/",
]  # fmt: skip


class TestWhatIsThere:
    def test_the_list_of_models(self, client: Client) -> None:
        answer = client.ask("/v1/models")
        assert answer.status_code == 200
        hardened(answer)
        assert answer.json()["object"] == "list"
        assert "default" in [model["id"] for model in answer.json()["data"]]

    def test_one_model(self, client: Client) -> None:
        card = client.ask("/v1/models/default").json()
        assert (card["id"], card["object"]) == ("default", "model")

    def test_heads_are_gets_without_a_body(self, client: Client) -> None:
        answer = client.ask("/v1/models", "HEAD")
        assert (answer.status_code, answer.content) == (200, b"")

    def test_health_needs_no_key_and_says_only_yes_or_no(self, client: Client) -> None:
        answer = client.ask("/health", key=None)
        assert (answer.status_code, answer.json()) in [(200, {"status": "ok"}), (503, {"status": "unavailable"})]
        assert (answer.status_code == 503) == ("Retry-After" in answer.headers)
        hardened(answer)

    @pytest.mark.parametrize("path", NATIVE_POSTS)
    def test_native_inference(self, world: World, path: str) -> None:
        model = "embedding" if "embed" in path else "default"
        answer = world.client().ask(path, "POST", json=HELLO | {"model": model, "input": "x", "stream": False})
        assert answer.status_code == 200
        assert [asked.target for asked in world.asked] == [path.removeprefix("/ollama")]

    @pytest.mark.parametrize("path", POSTS)
    def test_inference(self, world: World, path: str) -> None:
        model = "embedding" if "embed" in path else "default"
        answer = world.client().ask(path, "POST", json=HELLO | {"model": model, "input": "x"})
        assert answer.status_code == 200
        hardened(answer)
        assert [asked.target for asked in world.asked] == [path]

    @pytest.mark.parametrize("path", ["/", "/auth", "/c/some-chat", "/_app/version.json", "/static/favicon.png"])
    def test_pages_of_the_chat_can_be_read_and_not_written(self, world: World, path: str) -> None:
        answer = world.client().ask(path, key=None)
        assert answer.status_code == 200
        hardened(answer)
        assert world.client().ask(path, "POST", key=None).status_code in (404, 405)


class TestWhatIsNot:
    @pytest.mark.parametrize(("method", "path"), BLOCKED)
    def test_what_is_not_listed_is_not_there(self, client: Client, method: str, path: str) -> None:
        key = "mine" if path.startswith(("/v1", "/ollama")) else None  # the chat refuses it before all else
        answer = client.ask(path, method, key=key, json=None if method in ("GET", "HEAD") else PROBE)
        if method == "HEAD":
            assert answer.status_code == 404
        elif answer.status_code == 405:
            refused(answer, 405, "method_not_allowed")
        else:
            refused(answer, 404, "not_found")

    @pytest.mark.parametrize("target", ODD)
    def test_odd_paths_are_refused_before_anything_reads_them(self, client: Client, target: str) -> None:
        answer = client.target(target)
        assert answer.status == 400
        if answer.headers.get("Content-Type") == "application/json":  # else it was no HTTP at all
            refused(answer, 400, "invalid_path")

    @pytest.mark.parametrize("target", ["/V1/models", "/v1/Models", "/OLLAMA/api/tags", "/HEALTH"])
    def test_letters_are_not_folded(self, client: Client, target: str) -> None:
        refused(client.target(target), 404, "not_found")

    def test_none_of_it_reaches_anybody(self, world: World) -> None:
        client = world.client()
        for method, path in BLOCKED:
            client.ask(path, method, json=PROBE)
        for target in ODD:
            client.target(target)
            client.target(target, "POST")
        assert world.asked == []

    @pytest.mark.parametrize("method", ["TRACE", "CONNECT", "FOO", "post", "OPTIONS", "PUT", "PATCH", "DELETE", "GET"])
    def test_other_methods_name_the_right_one(self, client: Client, method: str) -> None:
        if method == "CONNECT":  # has a form of its own
            assert client.target("/v1/chat/completions", "CONNECT").status in (400, 404, 405)
            return
        answer = client.target("/v1/chat/completions", method)
        refused(answer, 405, "method_not_allowed")
        assert answer.headers["Allow"] == "POST"

    @pytest.mark.parametrize("path", GETS)
    def test_what_is_read_is_not_written(self, client: Client, path: str) -> None:
        answer = client.ask(path, "DELETE")
        refused(answer, 405, "method_not_allowed")
        assert answer.headers["Allow"] == "GET, HEAD"

    @pytest.mark.parametrize("path", NATIVE_POSTS)
    def test_what_is_asked_is_not_read(self, client: Client, path: str) -> None:
        answer = client.ask(path)
        refused(answer, 405, "method_not_allowed")
        assert answer.headers["Allow"] == "POST"


class TestNames:
    @pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "gateway", "ollama:11434"])
    def test_another_host_name_is_misdirected(self, client: Client, host: str) -> None:
        refused(client.target("/v1/models", host=host), 421, "misdirected_request")

    def test_another_port_is_misdirected(self, client: Client) -> None:
        refused(client.target("/v1/models", host=f"{client.where[0]}:1"), 421, "misdirected_request")

    def test_letters_of_a_name_do_not_matter(self, client: Client) -> None:
        assert client.target("/v1/models", host=client.host.upper()).status == 200

    @pytest.mark.parametrize(
        "hosts", ["", "Host: {host}\nHost: evil.example", "Host: {host}\nHost: {host}", "Host: a/b"]
    )
    def test_a_host_is_named_once_and_well(self, client: Client, hosts: str) -> None:
        lines = hosts.format(host=client.host)
        head = f"GET /v1/models HTTP/1.1\n{lines}\nConnection: close".replace("\n\n", "\n")
        assert client.raw(head).status in (400, 421)

    def test_a_target_with_a_name_of_its_own_is_misdirected(self, client: Client) -> None:
        answer = client.target("https://evil.example/v1/models")
        assert answer.status in (400, 421)

    def test_the_administration_of_the_gateway_is_off(self, world: World) -> None:
        assert world.gateway.ask("/v1/models").status_code == 401
        with pytest.raises(requests.ConnectionError):
            requests.get("http://127.0.0.1:2019/config/", timeout=2)


class TestListeners:
    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
    def test_plain_http_only_leads_to_https(self, world: World, host: str) -> None:
        url = f"http://{host}:{world.gateway.http}"
        answer = requests.get(f"{url}/c/x?y=z", timeout=5, allow_redirects=False)
        wanted = f"https://{host}:{world.gateway.https}/c/x?y=z"
        assert (answer.status_code, answer.headers["Location"]) == (308, wanted)
        hardened(answer)
        foreign = requests.get(url, headers={"Host": "evil.example"}, timeout=5, allow_redirects=False)
        refused(foreign, 421, "misdirected_request")

    def test_the_certificate_is_good_for_name_and_address(self, world: World) -> None:
        for host in ("localhost", "127.0.0.1"):
            url = f"https://{host}:{world.gateway.https}/health"
            assert requests.get(url, verify=world.gateway.ca, timeout=5).status_code == 200

    def test_the_inner_listener_has_the_api_with_a_key_and_no_pages(self, world: World) -> None:
        key = {"Authorization": f"Bearer {world.keys['chat']}"}

        def status(path: str, headers: dict[str, str]) -> int:
            return requests.get(world.gateway.inside + path, headers=headers, timeout=5).status_code

        assert [status("/v1/models", {}), status("/v1/models", key), status("/live", {})] == [401, 200, 200]
        assert [status(path, key) for path in ("/", "/ollama/api/tags", "/api/config")] == [404, 404, 404]
        with requests.Session() as session:
            request = requests.Request("GET", world.gateway.inside).prepare()
            request.url = f"{world.gateway.inside}/v1//models"
            assert session.send(request, timeout=5).status_code == 400


def test_a_probe_is_never_good_for_anything() -> None:
    """The suite's own promise: no blocked address is sent something that could be done."""
    acting = {"/-/quit", "/-/reload", "/api/v1/admin/tsdb/snapshot"}
    assert {method for method, path in BLOCKED if path in acting} == {"GET"}
    assert NO_MODEL in json.dumps(PROBE)
    assert {value for value in PROBE.values() if isinstance(value, str)} == {NO_MODEL}
