"""`make load TAX=1`: from where it is measured, and what is said where it cannot be."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from loadtests.compare import tax as figures
from loadtests.results.schema import Tax
from ops.docker import DockerCli, Result
from ops.errors import OpsError
from ops.load import tax
from stack.config.explain import parse_platform
from stack.config.model import Platform
from tests.unit.test_config_errors import GOOD

SERVED = [
    {"id": "tiny-chat", "aliases": ["default", "qwen3:8b"], "role": "chat"},
    {"id": "Qwen/Qwen3-32B", "aliases": ["powerful"], "role": "chat"},
]
GATEWAY = {
    "State": {"Running": True, "Pid": 4711},
    "NetworkSettings": {
        "Ports": {"8080/tcp": [{"HostPort": "80"}], "8443/tcp": [{"HostPort": "443"}], "9443/tcp": None},
        "Networks": {"edge": {"IPAddress": "172.20.0.2"}, "engine": {"IPAddress": "172.21.0.3"}},
    },
}
ENGINE = {
    "State": {"Running": True},
    "Config": {"ExposedPorts": {"11434/tcp": {}}},
    "NetworkSettings": {"Networks": {"pull": {"IPAddress": "172.9.0.2"}, "engine": {"IPAddress": "172.21.0.2"}}},
}


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda _name: "/usr/bin/nsenter")


def platform() -> Platform:
    content = GOOD | {
        "upstreams": [{"name": "big-box", "urls": ["http://192.168.1.20:8000"]}],
        "models": [
            {"name": "qwen3:8b", "aliases": ["default"]},
            {"name": "Qwen/Qwen3-32B", "aliases": ["powerful"], "engine": "big-box"},
            {"name": "all-minilm", "role": "embedding"},
        ],
    }
    return parse_platform(content, "Pulumi.dev.yaml")


def docker(gateway: Any = GATEWAY, engine: Any = ENGINE, host: str = "unix:///run/docker.sock") -> DockerCli:
    def inspect(command: Any, _env: Any, _limit: Any, _text: Any) -> Result:
        assert command[:2] == ["docker", "inspect"]
        known = {"private-llm-dev-gateway": gateway, "private-llm-dev-ollama": engine}
        return Result(0, json.dumps([known[command[2]]]), "")

    return DockerCli({"DOCKER_HOST": host}, runner=inspect)


def planned(
    direct: str | None = "", model: str = "default", on: DockerCli | None = None, url: str = "https://llm.lan/v1"
) -> dict[str, Any] | None:
    return tax.planned(direct, on or docker(), "dev", platform(), SERVED, url=url, ca="/state/ca.pem", model=model)


def test_both_ways_begin_in_the_gateways_network() -> None:
    assert planned() == {
        "direct": {"url": "http://172.21.0.2:11434", "model": "tiny-chat"},
        "through": {"url": "https://llm.lan", "model": "tiny-chat", "ca": "/state/ca.pem", "at": "127.0.0.1:8443"},
        "process": 4711,
    }


def test_an_engine_that_can_be_reached_is_asked_from_here() -> None:
    found = planned("http://10.0.0.5:8000/v1/", model="powerful")
    assert found is not None
    assert found["direct"] == {"url": "http://10.0.0.5:8000", "model": "Qwen/Qwen3-32B"}
    assert (found["through"]["url"], found["through"]["at"], found["process"]) == ("https://llm.lan", "", 0)


def test_nobody_measures_what_is_not_wanted() -> None:
    assert tax.wanted({}) is None
    assert planned(None) is None
    assert tax.wanted({"TAX": "1"}) == ""
    assert tax.wanted({"TAX": "1", "DIRECT": "http://x"}) == "http://x"
    with pytest.raises(OpsError, match="DIRECT=http://x would do nothing"):
        tax.wanted({"DIRECT": "http://x"})


def gone(part: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**part, **changes}


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"model": "powerful"}, "Qwen/Qwen3-32B is served by big-box.*\n.*DIRECT=http"),
        ({"model": "all-minilm"}, "there are qwen3:8b, Qwen/Qwen3-32B"),
        ({"model": "gone"}, "gone is no model of this stack"),
        ({"direct": "engine"}, "DIRECT=engine: write the engine's own address"),
        ({"direct": "http://me:secret@engine"}, "write the engine's own address"),
        ({"on": docker(host="ssh://box")}, "on another machine"),
        ({"on": docker(engine=gone(ENGINE, State={"Running": False}))}, "private-llm-dev-ollama does not run"),
        ({"on": docker(engine=gone(ENGINE, NetworkSettings={"Networks": {"x": {"IPAddress": "1"}}}))}, "no network"),
        ({"url": "https://llm.lan:8443/v1"}, "does not publish port 8443"),
    ],
)
def test_what_cannot_be_measured_is_told_with_the_way_out(how: dict[str, Any], said: str) -> None:
    with pytest.raises(OpsError, match=said):
        planned(**how)


def test_without_root_it_says_who_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(OpsError, match=r"(?s)only root.*sudo.*DIRECT=http"):
        planned()
    assert planned("http://10.0.0.5:8000") is not None


def test_an_unknown_engine_elsewhere_is_asked_for() -> None:
    with pytest.raises(OpsError, match="DIRECT=http://… says where"):
        tax.beside("", url="https://llm.example.org", ca="", model="default")


def test_the_command_enters_the_network_and_the_run_is_told_where_its_tax_is(tmp_path: Path) -> None:
    what = planned()
    assert what is not None
    command, told = tax.command(what, tmp_path)
    assert command[:5] == ["nsenter", "--target", "4711", "--net", "--"]
    assert command[6:] == ["-m", "loadtests.compare.pairs", str(tmp_path / "asked.json"), str(tmp_path / "tax.json")]
    assert json.loads((tmp_path / "asked.json").read_text()) == what
    assert told == {figures.FILE: str(tmp_path / "tax.json")}
    assert tax.command(what | {"process": 0}, tmp_path)[0] == command[5:]


# --- what the run reads ----------------------------------------------------------------------------------------------


def test_a_run_reads_what_was_measured_before_it(tmp_path: Path) -> None:
    one = Tax(
        direct="http://engine", through="https://gateway", model="m", router="not present", seed=1, tokens=8,
        levels=[], handshake=None, caution="",
    )  # fmt: skip
    (tmp_path / "tax.json").write_text(one.model_dump_json())
    assert figures.from_environment({figures.FILE: str(tmp_path / "tax.json"), "LOAD_TAX": "1"}) == one
    assert figures.from_environment({"LOAD_TAX": "0"}) is None


@pytest.mark.parametrize("text", [None, "{", "{}"], ids=["no file", "no JSON", "another form"])
def test_a_file_that_is_none_is_told(tmp_path: Path, text: str | None) -> None:
    place = tmp_path / "tax.json"
    if text is not None:
        place.write_text(text)
    with pytest.raises(ValueError, match="is no tax as `make load TAX=1` writes it"):
        figures.from_environment({figures.FILE: str(place)})


def test_a_run_by_itself_says_who_measures_it() -> None:
    with pytest.raises(ValueError, match="a word of `make load`"):
        figures.from_environment({"LOAD_TAX": "1"})
