"""What this machine and its model are now, to hold a load run against."""

from __future__ import annotations

from loadtests.sizing.place import Here
from ops import models
from ops.docker import DockerCli, DockerError
from ops.load import facts
from ops.pulumi import PROJECT
from stack.config.model import OWN_ENGINE, Platform


def here(docker: DockerCli, platform: Platform, stack: str, model: str) -> Here:
    """As far as docker and the stack's engine tell."""
    try:
        hardware = facts.machine(docker, docker.info(), platform)
    except DockerError:
        return Here(hardware={}, model=model, digest="")
    engines = models.digests(docker, [f"{PROJECT}-{stack}-{OWN_ENGINE}"]) if platform.uses_engine else None
    return Here(hardware=hardware, model=model, digest=(engines or {}).get(models.tagged(model), ""))
