"""Pulumi's environment, repair after an interrupted run, what is shown, how answers are read."""

from __future__ import annotations

import io
import json
import os
import socket
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ops import ask, look, paths, pulumi, repair, show
from ops.bootstrap import Tools
from ops.docker import DockerCli, Result
from ops.errors import OpsError
from ops.pulumi import Pulumi


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    monkeypatch.setenv("PRIVATE_LLM_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PRIVATE_LLM_CACHE", str(tmp_path / "cache"))
    for name in pulumi.OURS:
        monkeypatch.delenv(name, raising=False)
    docker = DockerCli({"DOCKER_HOST": "unix:///run/docker.sock"}, runner=lambda *_: Result(0, "", ""))
    return Tools(source="mirror", programs=tmp_path / "bin", docker=docker, lock=tmp_path / "lock.json")


class TestEnvironment:
    def test_own_backend_and_passphrase(self, tools: Tools) -> None:
        found = pulumi.settings("dev", tools, {"PATH": "/bin"})
        assert found["PULUMI_BACKEND_URL"] == f"file://{paths.state()}/backend"
        assert found["PULUMI_CONFIG_PASSPHRASE_FILE"] == str(paths.passphrases() / "dev")
        assert found["PATH"] == f"{tools.programs}:/bin"

    def test_in_a_shell_of_make_env_for_another_stack(self, tools: Tools) -> None:
        shell = {"PATH": "/bin", **pulumi.settings("dev", tools, {"PATH": "/bin"})}
        found = pulumi.settings("prod", tools, shell)
        assert found["PULUMI_CONFIG_PASSPHRASE_FILE"] == str(paths.passphrases() / "prod")
        assert found["PATH"] == shell["PATH"]

    @pytest.mark.parametrize(
        ("env", "absent"),
        [
            ({"PULUMI_BACKEND_URL": "s3://mine"}, {"PULUMI_BACKEND_URL"}),
            ({"PULUMI_ACCESS_TOKEN": "pul-x"}, {"PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE_FILE"}),
            ({"PULUMI_CONFIG_PASSPHRASE": "mine"}, {"PULUMI_CONFIG_PASSPHRASE_FILE"}),
        ],
    )
    def test_what_the_person_has_set_stays(self, tools: Tools, env: dict[str, str], absent: set[str]) -> None:
        assert not absent & set(pulumi.settings("dev", tools, {"PATH": "/bin", **env}))

    def test_exports_are_quoted_for_a_shell(self) -> None:
        assert pulumi.exports({"A": "it's"}) == "export A='it'\"'\"'s'"


def locked(tools: Tools, pid: int, host: str) -> Pulumi:
    one = Pulumi("dev", tools)
    one.locks.mkdir(parents=True)
    (one.locks / "a.json").write_text(json.dumps({"pid": pid, "hostname": host}))
    return one


class TestInterruptedRun:
    def test_lock_of_a_dead_process_is_removed(self, tools: Tools) -> None:
        one, lines = locked(tools, 2**22 + 1, socket.gethostname()), list[str]()
        repair.clear_stale_lock(one, lines.append)
        assert not list(one.locks.iterdir())
        assert "is gone" in lines[0]

    def test_lock_of_another_machine_is_respected(self, tools: Tools) -> None:
        with pytest.raises(OpsError, match="pulumi cancel"):
            repair.clear_stale_lock(locked(tools, 1, "elsewhere"), print)

    def test_lock_of_a_living_pulumi_is_respected(self, tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(repair, "is_pulumi", lambda _pid: True)
        with pytest.raises(OpsError, match="right now"):
            repair.clear_stale_lock(locked(tools, os.getpid(), socket.gethostname()), print)

    def test_two_commands_on_one_stack_do_not_meet(self, tools: Tools) -> None:
        one = Pulumi("dev", tools)
        with (
            repair.alone(one, print),
            pytest.raises(OpsError, match=f"process {os.getpid()}"),
            repair.alone(one, print),
        ):
            pytest.fail("both were let in")

    def test_only_what_the_state_does_not_know_is_removed(self) -> None:
        ran: list[list[str]] = []

        def docker(command: Any, _env: Any, _limit: Any, _text: Any) -> Result:
            ran.append(list(command[1:]))
            return Result(0, {"ps": "known\nlost\n", "network": "net\n"}.get(command[1], ""), "")

        host = SimpleNamespace(stack="dev", tools=SimpleNamespace(docker=DockerCli({}, runner=docker)))
        state = {"resources": [{"id": "known"}, {"id": "net", "outputs": {"name": "private-llm-dev-edge"}}]}
        repair.leftovers(cast("Pulumi", host), state, lambda _line: None)
        assert ["rm", "-f", "lost"] in ran
        assert not [words for words in ran if words[:2] == ["network", "rm"]]


def test_unpack_reads_the_one_file() -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        info = tarfile.TarInfo("a.json")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"{}"))
    assert repair.unpack(packed.getvalue()) == b"{}"


class TestShow:
    def test_summary_tells_where_how_and_what_is_different(self) -> None:
        outputs = {
            "endpoints": {"chat": "https://localhost:8443", "api": "https://localhost:8443/v1"},
            "models": [{"id": "tiny", "aliases": ["default"], "note": "speaks gibberish"}],
            "leftOut": [{"name": "grafana", "why": "no image"}],
        }
        text = show.summary("dev", outputs, "admin@localhost", "mirror")
        for part in (
            "https://localhost:8443/v1",
            "make password",
            "make key NAME=default",
            "gibberish",
            "grafana: no image",
        ):
            assert part in text
        assert "STACK=" not in text
        assert "make password STACK=prod" in show.summary("prod", outputs, "a@b", "official")

    def test_summary_without_a_chat_has_no_sign_in(self) -> None:
        text = show.summary("prod", {"endpoints": {"api": "https://localhost:8443/v1"}}, None, "official")
        assert "sign in" not in text
        commands = [line for line in text.splitlines() if "make " in line]
        assert commands
        assert all("STACK=prod" in line for line in commands)

    @pytest.mark.parametrize(
        ("text", "value"),
        [("12.5MiB / 1GiB", 12.5), ("1.5GiB / 2GiB", 1536), ("512KiB / 1GiB", 0.5), ("0B / 0B", 0), ("--", 0)],
    )
    def test_memory_texts(self, text: str, value: float) -> None:
        assert show.mebibytes(text) == value

    def test_services_are_summed_and_seeds_left_out(self) -> None:
        rows = [{"Names": "p-dev-chat", "State": "running", "Status": "Up", "Image": "x/y:1@sha256:1"}]
        text = show.services(rows, [{"Name": "p-dev-chat", "MemUsage": "10MiB / 1GiB"}], "p-dev-")
        assert "chat" in text
        assert "total memory: 10 MiB" in text


def row(name: str, state: str = "running", status: str = "Up 2 minutes (healthy)") -> dict[str, str]:
    return {"Names": f"private-llm-dev-{name}", "State": state, "Status": status}


class TestStatus:
    DECLARED = ({"container": "private-llm-dev-chat"}, {"container": "private-llm-dev-gateway"})

    def test_all_is_well(self) -> None:
        assert look.not_well([row("chat"), row("gateway")], self.DECLARED) == {}

    @pytest.mark.parametrize(
        ("state", "status"),
        [
            ("exited", "Exited (0) 2 hours ago"),  # as `docker stop` leaves a gateway that stops cleanly
            ("created", "Created"),
            ("restarting", "Restarting (1) 5 seconds ago"),
            ("running", "Up 2 minutes (unhealthy)"),
        ],
    )
    def test_a_gateway_that_does_not_serve_is_named(self, state: str, status: str) -> None:
        assert list(look.not_well([row("chat"), row("gateway", state, status)], self.DECLARED)) == [
            "private-llm-dev-gateway"
        ]

    def test_a_removed_service_is_named(self) -> None:
        assert look.not_well([row("chat")], self.DECLARED) == {"private-llm-dev-gateway": "has no container"}

    @pytest.mark.parametrize("name", ["gateway-config-seed", "chat-owner", "model-pull"])
    def test_jobs_are_told_by_their_names(self, name: str) -> None:
        assert look.is_job(row(name, "created"))
        assert not look.is_job(row("gateway", "created"))


class TestAsk:
    def test_stream_is_gathered_with_the_servers_count(self) -> None:
        lines = [
            b'data: {"choices":[{"delta":{"content":"a"}}]}',
            b"",
            b'data: {"choices":[{"delta":{"content":"b"}}]}',
            b'data: {"choices":[],"usage":{"completion_tokens":7}}',
            b"data: [DONE]",
            b'data: {"choices":[{"delta":{"content":"never"}}]}',
        ]
        answer = ask.collect(ask.events(lines), 0.0, echo=False)
        assert (answer.text, answer.tokens) == ("ab", 7)

    def test_error_event_is_told(self) -> None:
        with pytest.raises(OpsError, match="out of memory"):
            list(ask.events([b'data: {"error":{"message":"out of memory"}}']))

    def test_empty_answer_is_told(self) -> None:
        with pytest.raises(OpsError, match="nothing"):
            ask.collect([], 0.0, echo=False)

    @pytest.mark.parametrize("status", [401, 403, 404, 429, 502, 503, 504, 418])
    def test_refusals_carry_what_was_said_and_a_fix(self, status: int) -> None:
        text = ask.refusal(status, '{"error":{"message":"because"}}', "default")
        assert "because" in text
        assert "fix:" in text

    @pytest.mark.parametrize("url", ["https://h:1", "https://h:1/", "https://h:1/v1", "https://h:1/v1/"])
    def test_base_url_ends_with_v1_once(self, url: str) -> None:
        assert ask.api_base(url) == "https://h:1/v1"
