"""What a report says of the machine and the stack that were measured: no names of hosts, no addresses, no keys."""

from __future__ import annotations

import json
import platform as python
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ops import models, paths
from ops.docker import DockerCli, DockerError
from ops.pulumi import PROJECT, Pulumi, outputs
from stack.config.model import OWN_ENGINE, Accelerator, Platform

LIMIT: Final = 10.0  # seconds for a program to tell something of itself
ENGINE: Final = (
    "accelerator", "instances", "parallel", "max_loaded_models", "context_length", "kv_cache", "flash_attention",
    "keep_alive", "queue",
)  # fmt: skip
# What the report calls it: the service, where its version stands in what it prints, its name, the command.
ASKED: Final = {
    "engine": (OWN_ENGINE, r"version is (\S+)", "Ollama", ("ollama", "--version")),
    "gateway": ("gateway", r"^v?(\S+)", "Caddy", ("caddy", "version")),
    "chat": ("chat", r'"version": *"([^"]+)"', "Open WebUI", ("cat", "/app/package.json")),
}
SMI: Final = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")

Facts = dict[str, dict[str, str]]


def facts(pulumi: Pulumi, platform: Platform, deployment: Mapping[str, Any]) -> Facts:
    """Hardware, versions and configuration, each by name, as far as they can be told. Raises DockerError."""
    docker = pulumi.tools.docker
    info = docker.info()
    return {
        "hardware": machine(docker, info, platform),
        "versions": versions(pulumi, info, deployment) | {"project": project(paths.ROOT)},
        "configuration": configuration(platform)
        | {f"digest {name}": digest for name, digest in models.table(docker, deployment) if digest},
    }


def machine(docker: DockerCli, info: Mapping[str, Any], platform: Platform) -> dict[str, str]:
    """The hardware, with what only a program on that machine can see where this is that machine."""
    return hardware(info, platform, *((None, "") if docker.remote else (gpus(platform), processor())))


def hardware(info: Mapping[str, Any], platform: Platform, cards: Sequence[str] | None, chip: str) -> dict[str, str]:
    """The machine on which the containers are, and the cards that the configuration says it has.

    `cards`: None where nobody could look.
    """
    said = {
        "processor": chip,
        "cores": str(info.get("NCPU") or ""),
        "memory": f"{int(info.get('MemTotal') or 0) / 2**30:.1f} GiB",
        "GPUs": "not known" if cards is None else "; ".join(cards) or "none",
        "cards by configuration": ", ".join(card.device or f"{card.memory}" for card in platform.engine.hardware),
    }
    return {name: value for name, value in said.items() if value}


def processor() -> str:
    """This machine's, as Linux names it; else its kind."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else python.machine()


def gpus(platform: Platform) -> list[str] | None:
    """This machine's NVIDIA cards with their memory and driver, equal ones counted; None for others' cards."""
    if platform.engine.accelerator is Accelerator.AMD:
        return None
    lines = [line.strip() for line in _said(SMI).splitlines() if line.strip()]
    return [f"{lines.count(line)} x {line}" for line in dict.fromkeys(lines)]


def versions(pulumi: Pulumi, info: Mapping[str, Any], deployment: Mapping[str, Any]) -> dict[str, str]:
    """What runs: each service's image, and what it runs on."""
    found = outputs(deployment)
    said = {
        "docker": str(info.get("ServerVersion") or ""),
        "kernel": str(info.get("KernelVersion") or ""),
        "system": str(info.get("OperatingSystem") or ""),
        **programs(pulumi.tools.docker, f"{PROJECT}-{pulumi.stack}"),
        "parts": ", ".join(str(host.get("source")) for host in found.get("hosts") or ()),
    }
    for service in found.get("services") or ():
        if service.get("name") in {"gateway", "chat", OWN_ENGINE}:
            said[f"image of {service['name']}"] = _image(pulumi.tools.docker, str(service["container"]))
    return {name: value for name, value in said.items() if value}


def project(root: Path) -> str:
    """The commit of this program and whether files differ from it; stacks' own settings do not count."""
    git = ("git", "-C", str(root))
    commit = _said((*git, "rev-parse", "--short=12", "HEAD")).strip()
    changed = _said((*git, "status", "--porcelain", "--", ".", ":!Pulumi.*.yaml")).strip() if commit else ""
    return (commit or "not known") + (", with changes" if changed else "")


def configuration(platform: Platform) -> dict[str, str]:
    """What bounds and shapes answers, by its key."""
    engine, limits = platform.engine, platform.gateway.limits.api
    names = type(engine).model_fields
    said = {f"engine.{names[name].alias or name}": str(getattr(engine, name)) for name in ENGINE}
    said["engine.resources"] = f"{engine.resources.memory}, {engine.resources.cpus:g} cores"
    places = engine.instances * (engine.parallel + engine.queue)
    # The gateway's own rule, and the load comes with one key.
    said["at once with one key"] = f"{(places + 1) // 2} of {places}"
    said["gateway.limits.api"] = f"{limits.events} per {limits.per}, {limits.burst} more at once"
    said["models"] = ", ".join(
        model.name + (f" ({', '.join(model.aliases)})" if model.aliases else "") for model in platform.models
    )
    return said


def programs(docker: DockerCli, prefix: str) -> dict[str, str]:
    """Versions as the programs tell them; nothing of what is not there."""
    said = {}
    for name, (service, pattern, form, command) in ASKED.items():
        try:
            done = docker.attempt(["exec", f"{prefix}-{service}", *command], limit=LIMIT)
        except DockerError:
            continue
        if not done.code and (found := re.search(pattern, done.out)):
            said[name] = f"{form} {found[1]}"
    return said


def _image(docker: DockerCli, container: str) -> str:
    try:
        return docker.run(["inspect", "--format", "{{.Image}}", container], limit=LIMIT).strip()[:19]
    except DockerError:
        return ""


def _said(command: Sequence[str]) -> str:
    """What a program prints; nothing where it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def write(folder: Path, found: Facts) -> Path:
    """The file that the run reads."""
    path = folder / "facts.json"
    path.write_text(json.dumps(found, indent=1, sort_keys=True), encoding="utf-8")
    return path
