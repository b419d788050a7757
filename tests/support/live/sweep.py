"""Removes what tests left on the Docker host: found by label, whatever way they ended."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from typing import Final

from ops.docker import DockerCli
from ops.settings import STACK_LABEL

NAME: Final = "live-{machine}-{pid}"


def machine() -> str:
    """Four digits for this machine: several may share one Docker host."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:4]


def stack_name() -> str:
    """The name of this process's stack; its number tells later runs whether it still lives."""
    return NAME.format(machine=machine(), pid=os.getpid())


def remove(docker: DockerCli, stack: str) -> None:
    """Removes every container, network and volume of a stack. Data of tests is worth nothing."""
    label = f"label={STACK_LABEL}={stack}"
    for listing, removal in (
        (["ps", "-aq"], ["rm", "-f", "-v"]),
        (["network", "ls", "-q"], ["network", "rm"]),
        (["volume", "ls", "-q"], ["volume", "rm", "-f"]),
    ):
        if found := docker.run([*listing, "--filter", label]).split():
            docker.attempt([*removal, *found], limit=180)


def what_is_left(docker: DockerCli, stack: str) -> list[str]:
    """Names of everything that carries a stack's label."""
    label = f"label={STACK_LABEL}={stack}"
    found = docker.run(["ps", "-a", "--filter", label, "--format", "container {{.Names}}"])
    found += docker.run(["network", "ls", "--filter", label, "--format", "network {{.Name}}"])
    found += docker.run(["volume", "ls", "--filter", label, "--format", "volume {{.Name}}"])
    return found.splitlines()


def remove_dead(docker: DockerCli) -> list[str]:
    """Removes the stacks of test processes of this machine that are gone (killed before they could tidy up)."""
    listed = docker.run(["ps", "-a", "--filter", f"label={STACK_LABEL}", "--format", f'{{{{.Label "{STACK_LABEL}"}}}}'])
    listed += docker.run(
        ["volume", "ls", "--filter", f"label={STACK_LABEL}", "--format", f'{{{{.Label "{STACK_LABEL}"}}}}']
    )
    dead = [name for name in sorted(set(listed.split())) if (pid := owner(name)) and not alive(pid)]
    for stack in dead:
        remove(docker, stack)
    return dead


def owner(stack: str) -> int | None:
    """The process that a stack of ours belongs to; None for stacks that are not the tests' of this machine."""
    found = re.fullmatch(NAME.format(machine=machine(), pid=r"(\d+)") + "(-fresh|-other|-own)?", stack)
    return int(found[1]) if found else None


def alive(pid: int) -> bool:
    """Whether a process lives."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
