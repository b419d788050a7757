"""`make load TAX=1`: what the gateway adds, measured before the load from where the gateway itself is.

The engine is on a network that only the gateway reaches. So root measures in the gateway's network namespace, where
both ways begin at the same place; with DIRECT=http://… anybody measures an engine that this machine reaches by itself.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ops.docker import DockerCli
from ops.errors import OpsError
from ops.pulumi import PROJECT
from stack.config.model import Model, Platform, Role

PROGRAM: Final = (sys.executable, "-m", "loadtests.compare.pairs")
FILE: Final = "LOAD_TAX_FILE"
"""The variable that tells a run where its tax is."""


def wanted(environ: Mapping[str, str]) -> str | None:
    """DIRECT, empty where it is not given; None without TAX=1. Raises OpsError where one is there without the other."""
    direct, yes = environ.get("DIRECT", ""), environ.get("TAX") == "1"
    if direct and not yes:
        raise OpsError(f"DIRECT={direct} would do nothing here: it is where TAX=1 finds the engine without the gateway")
    return direct if yes else None


def planned(
    direct: str | None, docker: DockerCli, stack: str, platform: Platform, served: Sequence[Mapping[str, Any]], *,
    url: str, ca: str, model: str,
) -> dict[str, Any] | None:  # fmt: skip
    """The measurement on a stack of ours, by `wanted`; None where none is. Raises OpsError where it cannot be made.

    `served`: the stack's output `models`; package mirrors serve stand-ins under the models' names.
    """
    if direct is None:
        return None
    wanted = chosen(platform, model)
    name = next((str(one["id"]) for one in served if wanted.name in {one["id"], *one["aliases"]}), wanted.name)
    return (
        beside(direct, url=url, ca=ca, model=name)
        if direct
        else inside(docker, stack, platform, wanted, url=url, ca=ca, model=name)
    )


def inside(
    docker: DockerCli, stack: str, platform: Platform, wanted: Model, *, url: str, ca: str, model: str
) -> dict[str, Any]:
    """A measurement in the gateway's network namespace. Raises OpsError where it cannot be made.

    `model`: the name that the engine knows.
    """
    if wanted.engine is not None:
        raise OpsError(
            f"TAX=1: {wanted.name} is served by {wanted.engine}, of which nothing is known here\n"
            "fix: DIRECT=http://… if this machine reaches it and it needs no key"
        )
    if docker.remote:
        raise OpsError(
            "TAX=1: the containers are on another machine, and the engine can be reached from nowhere else\n"
            "fix: run it there; or with DIRECT=http://… for an engine that this machine reaches"
        )
    if os.geteuid() != 0 or not shutil.which("nsenter"):
        raise OpsError(
            "TAX=1: only the gateway reaches the engine, and only root can measure from there (with nsenter, of "
            "util-linux)\nfix: run it as root (`sudo --preserve-env=HOME make load TAX=1`); or with DIRECT=http://… "
            "for an engine that this machine reaches"
        )
    gateway, engine = (
        _container(docker, f"{PROJECT}-{stack}-{name}") for name in ("gateway", platform.engine.names[0])
    )
    direct = f"http://{_address(gateway, engine)}:{_port(engine)}"
    at = f"127.0.0.1:{_inner(gateway, url)}"
    return asked(direct, url, ca=ca, model=model, at=at, process=int(gateway["State"]["Pid"]))


def beside(direct: str, *, url: str, ca: str, model: str) -> dict[str, Any]:
    """A measurement from here, of an engine that can be reached. Raises OpsError for what is no address."""
    if not direct:
        raise OpsError("TAX=1 with URL=…: the engine behind it is not known\nfix: DIRECT=http://… says where it is")
    if not re.fullmatch(r"https?://[^/?#\s@]+(/v1)?/?", direct):
        raise OpsError(f"DIRECT={direct}: write the engine's own address, for example DIRECT=http://192.168.1.20:11434")
    return asked(direct.rstrip("/").removesuffix("/v1"), url, ca=ca, model=model)


def asked(direct: str, through: str, *, ca: str, model: str, at: str = "", process: int = 0) -> dict[str, Any]:
    """What `loadtests.compare.pairs` reads. An engine has its model by one name only: both are asked for that."""
    return {
        "direct": {"url": direct, "model": model},
        "through": {"url": through.rstrip("/").removesuffix("/v1"), "model": model, "ca": ca, "at": at},
        "process": process,
    }


def command(what: Mapping[str, Any], folder: Path) -> tuple[list[str], dict[str, str]]:
    """The command that measures it, and the variable that tells a run where to find it then."""
    (folder / "asked.json").write_text(json.dumps(what), encoding="utf-8")
    enter = ["nsenter", "--target", str(what["process"]), "--net", "--"] if what["process"] else []
    out = folder / "tax.json"
    return [*enter, *PROGRAM, str(folder / "asked.json"), str(out)], {FILE: str(out)}


def chosen(platform: Platform, name: str) -> Model:
    """The model of this name or alias. Raises OpsError where none that answers questions has it."""
    for model in platform.models:
        if name in {model.name, *model.aliases} and model.role is not Role.EMBEDDING:
            return model
    known = ", ".join(model.name for model in platform.models if model.role is not Role.EMBEDDING)
    raise OpsError(f"TAX=1 asks questions, and {name} is no model of this stack that answers any; there are {known}")


def _container(docker: DockerCli, name: str) -> dict[str, Any]:
    found: dict[str, Any] = docker.json(["inspect", name])[0]
    if not found["State"].get("Running"):
        raise OpsError(f"TAX=1: {name} does not run\nfix: `make status` says what is wrong, `make up` starts it")
    return found


def _address(gateway: Mapping[str, Any], engine: Mapping[str, Any]) -> str:
    """The engine's, on a network that both are on."""
    theirs = gateway["NetworkSettings"]["Networks"]
    for name, network in engine["NetworkSettings"]["Networks"].items():
        if name in theirs and network.get("IPAddress"):
            return str(network["IPAddress"])
    raise OpsError("TAX=1: gateway and engine share no network\nfix: `make up` puts them where they belong")


def _port(engine: Mapping[str, Any]) -> str:
    return str(next(iter(engine["Config"].get("ExposedPorts") or {"11434/tcp": {}}))).partition("/")[0]


def _inner(gateway: Mapping[str, Any], url: str) -> str:
    """Where the gateway listens for what is published at the URL's port."""
    wanted = str(urlsplit(url).port or 443)
    for inner, published in (gateway["NetworkSettings"].get("Ports") or {}).items():
        if any(one["HostPort"] == wanted for one in published or ()):
            return str(inner).partition("/")[0]
    raise OpsError(f"TAX=1: the gateway does not publish port {wanted} of {url}\nfix: `make up`")
