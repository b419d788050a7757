"""What is on the host beside what the state says: data without a state, models that are gone, a silent gateway."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import requests

from ops import health, lifecycle, models, repair, volumes
from ops.docker import DockerCli, Result
from ops.errors import OpsError
from ops.pulumi import Pulumi

DATA, FILES = "private-llm-dev-chat-data", "private-llm-dev-gateway-config-files"
ENGINE, MODELS = "private-llm-dev-ollama", "private-llm-dev-ollama-models"
URN = "urn:pulumi:dev::private-llm::command:local:Command::models-pull"


def volume(name: str) -> dict[str, Any]:
    return {"type": volumes.VOLUME, "id": name, "inputs": {"name": name}, "outputs": {"name": name}}


def host(there: Sequence[str] = (), listed: Sequence[str] | None = None) -> Pulumi:
    """A stack on a host with these volumes, whose engine lists these models (None: it does not run)."""

    def docker(command: Any, _env: Any, _limit: Any, _text: Any) -> Result:
        if command[1] == "volume":
            return Result(0, "\n".join(there), "")
        if listed is None:
            return Result(1, "", "is not running")
        return Result(0, "\n".join(["NAME ID SIZE MODIFIED", *(f"{name} 1 1 MB now" for name in listed)]), "")

    cli = DockerCli({"DOCKER_HOST": "unix:///run/docker.sock"}, runner=docker)
    return cast(
        "Pulumi",
        SimpleNamespace(
            stack="dev", tools=SimpleNamespace(docker=cli), keeps_files=True, checkpoint=Path("dev.json"), env={}
        ),
    )


class TestLostState:
    def test_data_is_refused_though_there_is_an_empty_checkpoint(self) -> None:
        with pytest.raises(OpsError, match=rf"{DATA}\n(.|\n)*make adopt") as refused:
            lifecycle.refuse_orphans(host([DATA, FILES]), {"resources": [{"type": "pulumi:pulumi:Stack"}]})
        assert FILES not in str(refused.value)

    @pytest.mark.parametrize(
        "deployment",
        [
            {"resources": [volume(DATA)]},
            # killed while it was being made
            {"resources": [], "pending_operations": [{"resource": {**volume(DATA), "outputs": None}}]},
        ],
    )
    def test_data_that_the_state_knows_is_its_own(self, deployment: dict[str, Any]) -> None:
        lifecycle.refuse_orphans(host([DATA, FILES]), deployment)

    def test_rendered_files_are_nobodys_data(self) -> None:
        lifecycle.refuse_orphans(host([FILES]), {})
        assert volumes.known({"resources": [volume(FILES)]}) == set()


def deployed(*names: str) -> dict[str, Any]:
    digests = json.dumps([{"name": name, "digest": f"sha256:{name}"} for name in names])
    return {
        "resources": [
            {
                "type": "pulumi:pulumi:Stack",
                "outputs": {"modelSet": {"urn": URN, "engines": [ENGINE], "volume": MODELS, "models": list(names)}},
            },
            {"type": "command:local:Command", "urn": URN, "outputs": {"stdout": digests}},
        ]
    }


class TestModels:
    @pytest.mark.parametrize(
        ("there", "listed", "again"),
        [
            ([MODELS], ["a:latest", "b:1"], False),
            ([MODELS], ["a:latest"], True),
            ([MODELS], None, False),  # stopped: nobody can tell
            ([DATA], None, True),
        ],
    )
    def test_are_pulled_again_when_they_are_gone(
        self, there: list[str], listed: list[str] | None, *, again: bool
    ) -> None:
        lines: list[str] = []
        found = models.replacements(host(there, listed), deployed("a:latest", "b:1"), lines.append)
        assert found == (["--replace", URN] if again else [])
        assert len(lines) == int(again)

    def test_nothing_is_replaced_that_the_state_does_not_have(self) -> None:
        deployment = deployed("a:latest")
        del deployment["resources"][1]
        assert models.replacements(host(), deployment, print) == []
        assert models.replacements(host(), {}, print) == []

    def test_table_has_the_verified_digests_and_what_is_gone(self) -> None:
        docker = host([], ["a:latest"]).tools.docker
        assert models.table(docker, deployed("a:latest", "b:1")) == [
            ("a:latest", "sha256:a:latest"),
            ("b:1", models.ABSENT),
        ]
        assert models.table(host().tools.docker, deployed("b:1")) == [("b:1", "sha256:b:1")]
        assert models.table(docker, {}) == []


def test_dropping_an_interrupted_operation_keeps_the_version_of_the_export() -> None:
    given: list[str] = []

    def call(*args: str, text: str = "") -> str:
        given.append(text)
        return json.dumps({"version": 7, "deployment": {}}) if args[1] == "export" else ""

    deployment = {"resources": [], "pending_operations": [{"resource": {"urn": "urn::a"}}]}
    repair.drop_pending(cast("Pulumi", SimpleNamespace(call=call)), deployment, lambda _line: None)
    assert json.loads(given[-1]) == {"version": 7, "deployment": {"resources": []}}


class Gateway(BaseHTTPRequestHandler):
    """Answers by a table: path -> statuses, the last one stays."""

    answers: dict[str, list[int]]
    body = b'{"data": [{"id": "tiny"}]}'

    def do_GET(self) -> None:
        left = self.answers[self.path]
        self.send_response(left.pop(0) if len(left) > 1 else left[0])
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        """No lines in the tests' output."""


@pytest.fixture
def gateway() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()


class TestHealth:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(health, "PAUSE", 0.01)

    def test_services_that_are_starting_are_waited_for_and_named(self) -> None:
        said: list[str] = []
        looks = iter([["Up 1 second (health: starting)", "Up 1 minute"], ["Up 2 seconds (healthy)", "Exited (0)"]])
        health.started(lambda: [{"Names": f"c{n}", "Status": s} for n, s in enumerate(next(looks))], said.append)
        assert said == ["waiting for c0 to start..."]
        assert next(looks, None) is None

    def test_a_service_that_never_starts_is_not_waited_for_for_ever(self) -> None:
        said: list[str] = []
        health.started(lambda: [{"Names": "c", "Status": "Up (health: starting)"}], said.append, patience=0.05)
        assert said == ["waiting for c to start..."]

    def test_a_gateway_that_becomes_healthy_is_waited_for(self, gateway: str) -> None:
        Gateway.answers = {"/health": [503, 503, 200]}
        with requests.Session() as session:
            assert health.wait(session, f"{gateway}/health", 5) is None

    def test_one_that_stays_ill_is_told_with_its_answer(self, gateway: str) -> None:
        Gateway.answers = {"/health": [503]}
        with requests.Session() as session:
            assert "answers 503" in str(health.wait(session, f"{gateway}/health", 0))

    def test_nothing_at_the_address_is_told(self) -> None:
        with requests.Session() as session:
            assert "gives no answer" in str(health.wait(session, "http://127.0.0.1:9/health", 0))

    @pytest.mark.parametrize(("status", "text"), [(200, None), (403, None), (401, "401"), (502, "502")])
    def test_models_are_listed_or_it_is_told(self, gateway: str, status: int, text: str | None) -> None:
        Gateway.answers = {"/v1/models": [status]}
        with requests.Session() as session:
            found = health.models(session, f"{gateway}/v1/models")
        assert (text in str(found)) if text else found is None

    def test_an_unknown_name_cannot_be_asked_from_here(self) -> None:
        assert "does not know" in str(health.out_of_reach(host(), "https://gateway.invalid:8443/health"))
        assert health.out_of_reach(host(), "https://127.0.0.1:8443/health") is None
