"""Host checks on recorded answers of `docker info`: what is refused, what is warned of, with which fix."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ops.docker import DockerCli, Result
from ops.preflight import CHECKS, Finding, Host, Level, run_preflight
from ops.preflight.sizes import IMAGES, images_needed, model_gib
from stack import versions
from stack.config.explain import parse_platform
from stack.config.model import Platform
from tests.unit.test_config_errors import GOOD

GIB = 1024**3
# `docker info --format '{{json .}}'` of Debian's docker 20.10.24, less what nobody asks for.
INFO: dict[str, Any] = {
    "ServerVersion": "20.10.24+dfsg1",
    "OSType": "linux",
    "DockerRootDir": "/var/lib/docker",
    "NCPU": 4,
    "MemTotal": 64 * GIB,
    "Runtimes": {"io.containerd.runc.v2": {"path": "runc"}, "runc": {"path": "runc"}},
    "ServerErrors": None,
}
SMI = """\
GPU 0: NVIDIA RTX A6000 (UUID: GPU-11111111-2222-3333-4444-555555555555)
GPU 1: NVIDIA RTX A6000 (UUID: GPU-11111111-2222-3333-4444-666666666666)
"""
ALL_IMAGES = "\n".join(
    reference.rpartition(":")[0].removeprefix("docker.io/").removeprefix("library/")
    for reference in versions.IMAGES.values()
)


class FakeDocker:
    """Answers of the docker command by its first word."""

    def __init__(self, answers: Mapping[str, str] | None = None, **info: Any) -> None:
        self.answers = {"info": json.dumps(INFO | info), "ps": "", "image": "", "system": "{}", "exec": ""} | dict(
            answers or {}
        )
        self.asked: list[str] = []

    def cli(self, host: str = "unix:///var/run/docker.sock") -> DockerCli:
        def runner(command: Sequence[str], env: Mapping[str, str], limit: float, text: str | None) -> Result:
            self.asked.append(command[1])
            return Result(0, self.answers[command[1]], "")

        return DockerCli({"DOCKER_HOST": host}, runner=runner)


def machine(root: Path, *, free: float = 500, tcp: str = "", tcp6: str = "", **commands: Result) -> Host:
    """A host with its own /proc and /dev, `free` GiB of disk, and the given commands installed."""
    net = root / "proc" / "net"
    net.mkdir(parents=True, exist_ok=True)
    (net / "tcp").write_text(tcp)
    (net / "tcp6").write_text(tcp6)

    def runner(command: Sequence[str], env: dict[str, str], limit: float, text: str | None) -> Result:
        if (name := command[0].replace("-", "_")) not in commands:
            raise FileNotFoundError(command[0])
        return commands[name]

    return Host(root=root, environment={}, runner=runner, disk_free=lambda _: int(free * GIB))


def platform(**sections: Any) -> Platform:
    return parse_platform(copy.deepcopy(GOOD) | sections, "Pulumi.dev.yaml")


Ask = Callable[..., list[Finding]]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Runs all checks; returns the findings of one of them."""

    def run(
        check: str, sections: dict[str, Any], docker: FakeDocker, source: str = "official", **host: Any
    ) -> list[Finding]:
        here = machine(tmp_path, **{"iptables": Result(0, "", ""), **host})
        found = run_preflight(
            platform(**sections), docker.cli(), "private-llm", "dev", lambda _: None, source=source, host=here
        )
        return [finding for finding in found if finding.check == check]

    return run


def test_a_good_host_passes_in_one_line(tmp_path: Path) -> None:
    lines: list[str] = []
    host = machine(tmp_path, iptables=Result(0, "", ""))
    assert run_preflight(platform(), FakeDocker().cli(), "private-llm", "dev", lines.append, host=host) == []
    assert lines == [f"host checks: {len(CHECKS)} passed"]


def test_names_are_unique_and_every_local_check_is_skipped_on_another_machine(tmp_path: Path) -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    lines: list[str] = []
    docker = FakeDocker(Runtimes={"nvidia": {}})
    bad = machine(tmp_path, free=0)  # this machine, which says nothing about the other
    found = run_preflight(
        platform(engine={"accelerator": "nvidia", "hardware": [{"device": "nvidia-rtx-4090"}]}),
        docker.cli("ssh://me@gpu-box"),
        "private-llm",
        "dev",
        lines.append,
        host=bad,
    )
    assert found == []
    assert len(lines) == 2
    assert lines[0].startswith("host checks: Docker is at ssh://me@gpu-box, another machine; not checked there: ")
    assert all(check.name in lines[0] for check in CHECKS if check.local)
    assert "ps" not in docker.asked


def test_what_can_be_asked_of_the_daemon_is_asked_on_another_machine(tmp_path: Path) -> None:
    host = machine(tmp_path)
    (found,) = run_preflight(
        platform(engine={"accelerator": "nvidia", "hardware": [{"device": "nvidia-rtx-4090"}]}),
        FakeDocker().cli("ssh://me@gpu-box"),
        "private-llm",
        "dev",
        lambda _: None,
        host=host,
    )
    assert (found.check, found.refuses) == ("nvidia runtime", True)


def test_a_daemon_that_does_not_answer_is_the_only_finding() -> None:
    def runner(command: Sequence[str], env: Mapping[str, str], limit: float, text: str | None) -> Result:
        return Result(1, "", "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?")

    lines: list[str] = []
    docker = DockerCli({"DOCKER_HOST": "unix:///x"}, runner=runner)
    (found,) = run_preflight(platform(), docker, "private-llm", "dev", lines.append)
    assert found.refuses
    assert found.fix.startswith("start it (`sudo systemctl start docker`")
    assert lines == [found.text()]
    assert "fix: fix:" not in found.text()


@pytest.mark.parametrize(
    ("info", "refused"),
    [
        ({"ServerVersion": "19.03.15"}, True),
        ({"ServerVersion": "20.10.0"}, False),
        ({"ServerVersion": "29.1.3"}, False),
        ({"ServerVersion": "dev"}, False),
        ({"OSType": "windows"}, True),
    ],
)
def test_the_daemon_s_version_and_system(ask: Ask, info: dict[str, Any], refused: bool) -> None:
    assert [finding.refuses for finding in ask("docker version", {}, FakeDocker(**info))] == [True] * refused


@pytest.mark.parametrize(("total", "warned"), [(13 * GIB, False), (12 * GIB, True), (0, False)])
def test_memory_limits_are_summed_up(ask: Ask, total: int, warned: bool) -> None:
    found = ask("memory", {}, FakeDocker(MemTotal=total))
    assert [finding.level for finding in found] == [Level.WARNING] * warned
    if warned:
        # 256 + 8192 + 2048 + 1024 + 512 + 64 + 512
        assert "add up to 12608 MiB, the host has 12288 MiB" in found[0].what
        assert "the largest is ollama with 8192 MiB" in found[0].where


def test_every_instance_and_every_service_of_ones_own_counts(ask: Ask) -> None:
    service = {"name": "reports", "build": "services/reports", "port": 8000, "path": "/reports"}
    more = {"engine": {"instances": 2}, "services": [service]}
    found = ask("memory", more, FakeDocker(MemTotal=20 * GIB))
    assert f"add up to {12608 + 8192 + 512} MiB" in found[0].what


def test_where_engines_are_elsewhere_nothing_is_asked_for_one_here(ask: Ask) -> None:
    box = {"name": "box", "urls": ["http://192.168.1.20:8000"]}
    models = [
        {"name": "a", "aliases": ["default"], "engine": "box"},
        {"name": "b", "role": "embedding", "engine": "box"},
    ]
    more = {"upstreams": [box], "models": models, "engine": {"accelerator": "nvidia"}}
    assert ask("memory", more, FakeDocker(MemTotal=5 * GIB)) == []
    assert ask("nvidia runtime", more, FakeDocker()) == []
    assert "ollama" not in images_needed(platform(**more))


def test_what_is_switched_off_takes_no_memory(ask: Ask) -> None:
    off = {"chat": {"enabled": False}, "observability": {"enabled": False}}
    assert ask("memory", off, FakeDocker(MemTotal=8448 * 1024**2)) == []
    assert ask("memory", off, FakeDocker(MemTotal=8447 * 1024**2)) != []


@pytest.mark.parametrize(("cores", "refused"), [(1, True), (2, False), (0, False)])
def test_a_cpu_limit_above_the_cores_is_refused_as_docker_would(ask: Ask, cores: int, refused: bool) -> None:
    found = ask("cpus", {}, FakeDocker(NCPU=cores))
    assert [finding.refuses for finding in found] == [True] * refused
    if refused:
        assert "private-llm:platform.engine.resources.cpus (2)" in found[0].where
        assert "set them to at most 1 in Pulumi.dev.yaml" in found[0].fix


@pytest.mark.parametrize(
    ("cores", "cpus", "said"), [(16, 2.0, True), (4, 2.0, False), (5, 2.0, True), (16, 8.0, False), (16, 7.75, True)]
)
def test_engine_on_a_small_part_of_the_host_is_noted(ask: Ask, cores: int, cpus: float, said: bool) -> None:
    found = ask("engine cpus", {"engine": {"resources": {"memory": "1GiB", "cpus": cpus}}}, FakeDocker(NCPU=cores))
    assert [finding.level for finding in found] == [Level.NOTE] * said
    if found:
        assert f"on {cpus:g} of the host's {cores} cores" in found[0].what


def test_engine_on_a_graphics_card_needs_no_cores(ask: Ask) -> None:
    assert ask("engine cpus", {"engine": {"accelerator": "nvidia"}}, FakeDocker(NCPU=64)) == []


# GOOD: images 13.7 GiB in all (gateway 0.1, builder 1.5, ollama 5, open-webui 5, chroma 0.8, prometheus 0.4,
# node-exporter 0.1, grafana 0.8), models 0.59 + 0.1.
@pytest.mark.parametrize(
    ("free", "level"), [(100, None), (19, Level.WARNING), (15, Level.REFUSED), (0.1, Level.REFUSED)]
)
def test_disk_is_refused_under_the_floor_and_warned_of_under_the_margin(
    ask: Ask, free: float, level: Level | None
) -> None:
    found = ask("disk", {}, FakeDocker(), free=free)
    assert [finding.level for finding in found] == ([level] if level else [])
    assert [finding.refuses for finding in found] == ([level is Level.REFUSED] if level else [])
    if found:
        assert f"{free:.1f} GiB are free; about 14.5 GiB are still to come (estimate)" in found[0].what
        assert "/var/lib/docker" in found[0].where
        assert "docker system df" in found[0].fix


def test_images_that_are_there_are_not_counted(ask: Ask) -> None:
    docker = FakeDocker({"image": f"{ALL_IMAGES}\nprivate-llm-gateway\n"})
    assert ask("disk", {}, docker, free=6) == []
    mirror = "\n".join(f"127.0.0.1:5005/private-llm/{name}" for name in versions.IMAGES) + "\nprivate-llm-gateway"
    assert ask("disk", {}, FakeDocker({"image": mirror}), free=6) == []


def test_models_that_are_there_are_not_counted_and_docker_is_asked_only_when_it_is_tight(ask: Ask) -> None:
    big = {"models": [{"name": "llama:70b", "aliases": ["default"]}], "memory": {"enabled": False}}
    there = {"Volumes": [{"Name": "private-llm-dev-engine-models", "Size": "49.9GB"}]}
    images = f"{ALL_IMAGES}\nprivate-llm-gateway\n"
    other = {"Volumes": [{"Name": "private-llm-prod-engine-models", "Size": "49.9GB"}]}
    assert ask("disk", big, FakeDocker({"image": images, "system": json.dumps(there)}), free=10) == []
    assert ask("disk", big, FakeDocker({"image": images, "system": json.dumps(other)}), free=10)[0].refuses
    roomy = FakeDocker({"image": images})
    assert ask("disk", big, roomy, free=500) == []
    assert "system" not in roomy.asked


def test_a_model_of_unknown_size_is_said(ask: Ask) -> None:
    models = [{"name": "mystery", "aliases": ["default"]}, {"name": "all-minilm", "role": "embedding"}]
    (found,) = ask("disk", {"models": models}, FakeDocker(), free=500)
    assert (found.level, found.fix) == (Level.NOTE, "")
    assert "and mystery of unknown size" in found.what


def test_stand_ins_of_package_mirrors_are_small(ask: Ask) -> None:
    big = {"models": [{"name": "llama:70b", "aliases": ["default"]}], "memory": {"enabled": False}}
    assert ask("disk", big, FakeDocker(), free=12, source="mirror") == []
    assert ask("disk", big, FakeDocker(), free=12)[0].refuses


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        # The registry's download sizes: 0.52, 5.2, 43, 0.05, 26, 2.0 and 16 GB.
        ("qwen3:0.6b", 0.5, 0.8),
        ("qwen3:8b", 4.8, 6.5),
        ("llama3.3:70b", 40, 52),
        ("library/all-minilm:latest", 0.05, 0.2),
        ("mixtral:8x7b", 24, 40),
        ("llama3.2:3b-instruct-q4_K_M", 1.9, 2.6),
        ("llama3.1:8b-instruct-fp16", 15, 18),
        ("smollm2:135m", 0.1, 0.4),
    ],
)
def test_model_sizes_are_near_the_real_ones(name: str, low: float, high: float) -> None:
    size = model_gib(name)
    assert size is not None
    assert low <= size <= high


def test_a_tag_without_a_size_is_not_guessed() -> None:
    assert [model_gib(name) for name in ("mystery", "mystery:latest", "phi:v2")] == [None] * 3


def test_every_image_that_can_be_needed_has_a_size_and_a_version() -> None:
    engines = ({"accelerator": "cpu"}, {"accelerator": "nvidia"}, {"accelerator": "amd", "deviceGroups": [44]})
    service = {"name": "reports", "build": "services/reports", "port": 8000, "path": "/reports"}
    needed = {name for engine in engines for name in images_needed(platform(engine=engine, services=[service]))}
    assert needed == set(IMAGES)
    assert needed - {"gateway"} <= set(versions.IMAGES)


HOOK = "usr/bin/nvidia-container-runtime-hook"


@pytest.mark.parametrize(
    ("info", "hook", "refused"),
    [
        ({}, False, True),
        ({"Runtimes": {"runc": {}, "nvidia": {"path": "nvidia-container-runtime"}}}, False, False),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]}, False, False),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "amd.com/gpu=0"}]}, False, True),
        ({}, True, False),
    ],
)
def test_nvidia_needs_a_runtime(ask: Ask, tmp_path: Path, info: dict[str, Any], hook: bool, refused: bool) -> None:
    if hook:
        (tmp_path / HOOK).parent.mkdir(parents=True)
        (tmp_path / HOOK).touch()
    found = ask("nvidia runtime", {"engine": {"accelerator": "nvidia"}}, FakeDocker(**info))
    assert [finding.refuses for finding in found] == [True] * refused
    if refused:
        assert "nvidia-ctk runtime configure --runtime=docker" in found[0].fix
        assert "accelerator: cpu" in found[0].fix


@pytest.mark.parametrize(
    ("gpus", "smi", "says"),
    [
        ([], Result(0, SMI, ""), None),
        (["0", "1"], Result(0, SMI, ""), None),
        (["GPU-11111111-2222-3333-4444-666666666666"], Result(0, SMI, ""), None),
        (["0", "2"], Result(0, SMI, ""), "GPU 2 is not there; there are 0, 1, GPU-"),
        ([], Result(0, "", ""), "nvidia-smi lists no GPU"),
        ([], Result(9, "", "couldn't communicate with the NVIDIA driver"), "couldn't communicate"),
        ([], None, "nvidia-smi is not installed"),
    ],
)
def test_nvidia_needs_a_driver_with_the_listed_gpus(
    ask: Ask, gpus: list[str], smi: Result | None, says: str | None
) -> None:
    commands = {"nvidia_smi": smi} if smi else {}
    engine = {"engine": {"accelerator": "nvidia", "gpus": gpus}}
    found = ask("nvidia gpus", engine, FakeDocker(Runtimes={"nvidia": {}}), **commands)
    assert [finding.refuses for finding in found] == [True] * (says is not None)
    assert says is None or says in found[0].what


@pytest.mark.parametrize(
    ("devices", "gpus", "says"),
    [
        ([], [], "/dev/kfd and /dev/dri not there"),
        (["dri/renderD128"], [], "/dev/kfd not there"),
        (["kfd", "dri/renderD128"], ["0"], None),
        (["kfd", "dri/renderD128", "dri/card0"], ["0", "1"], "GPU 1 is not there; /dev/dri has 1 render nodes"),
    ],
)
def test_amd_needs_its_devices(ask: Ask, tmp_path: Path, devices: list[str], gpus: list[str], says: str | None) -> None:
    for device in devices:
        path = tmp_path / "dev" / device
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = ask("amd gpus", {"engine": {"accelerator": "amd", "deviceGroups": [44], "gpus": gpus}}, FakeDocker())
    assert [finding.refuses for finding in found] == [True] * (says is not None)
    assert says is None or says in found[0].what


@pytest.mark.parametrize(
    ("version", "iptables", "warned", "unseen"),
    [
        ("20.10.24+dfsg1", Result(0, "", ""), False, False),
        (
            "20.10.24+dfsg1",
            Result(1, "", "iptables: Bad rule (does a matching rule exist in that chain?)."),
            True,
            False,
        ),
        (
            "27.5.1",
            Result(4, "", "Could not fetch rule set generation id: Permission denied (you must be root)"),
            True,
            True,
        ),
        ("27.5.1", None, True, True),
        ("28.0.0", None, False, False),
    ],
)
def test_loopback_is_not_private_before_docker_28(
    tmp_path: Path, version: str, iptables: Result | None, warned: bool, unseen: bool
) -> None:
    host = machine(tmp_path, **({"iptables": iptables} if iptables else {}))
    docker = FakeDocker(ServerVersion=version)
    found = run_preflight(platform(), docker.cli(), "private-llm", "dev", lambda _: None, host=host)
    assert [(finding.check, finding.level) for finding in found] == [("loopback", Level.WARNING)] * warned
    if warned:
        assert "`sudo iptables -t raw -I PREROUTING ! -i lo -d 127.0.0.0/8 -j DROP`" in found[0].fix
        assert ("without root" in found[0].what) is unseen


def test_the_real_daemon_answers_the_same_questions() -> None:
    docker = DockerCli()
    if not docker.available():
        pytest.skip("no Docker daemon here")
    info = docker.info()
    assert set(INFO) - {"ServerErrors"} <= set(info)
    found = run_preflight(platform(), docker, "private-llm", "preflight-test", lambda _: None)
    assert "daemon" not in {finding.check for finding in found}
