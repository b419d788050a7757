"""Another stack on the same Docker host, as far as labels go: what tests of one stack must leave alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ops.docker import DockerCli
from ops.settings import STACK_LABEL
from tests.support.live import sweep


class Bystander:
    """A running container with a network and a volume of its own, all labelled as a stack's."""

    def __init__(self, docker: DockerCli, stack: str, image: str) -> None:
        self.docker, self.stack = docker, stack
        name, label = f"private-llm-{stack}-chat", f"{STACK_LABEL}={stack}"
        docker.run(["network", "create", "--label", label, f"private-llm-{stack}-app"])
        docker.run(["volume", "create", "--label", label, f"private-llm-{stack}-chat-data"])
        docker.run(
            ["run", "--detach", "--name", name, "--label", label, "--network", f"private-llm-{stack}-app",
             "--volume", f"private-llm-{stack}-chat-data:/data", "--restart", "unless-stopped", image,
             "sleep", "infinity"]
        )  # fmt: skip
        self.before = self.now()

    def now(self) -> dict[str, Any]:
        """What would differ, had somebody touched it."""
        container = self.docker.json(["inspect", f"private-llm-{self.stack}-chat"])[0]
        return {
            "id": container["Id"],
            "started": container["State"]["StartedAt"],
            "running": container["State"]["Running"],
            "restarts": container["RestartCount"],
            "networks": {name: one["NetworkID"] for name, one in container["NetworkSettings"]["Networks"].items()},
            "all": sorted(sweep.what_is_left(self.docker, self.stack)),
        }


@contextmanager
def standing_by(docker: DockerCli, image: str) -> Iterator[Bystander]:
    """Makes the other stack and removes it."""
    stack = f"{sweep.stack_name()}-other"
    try:
        yield Bystander(docker, stack, image)
    finally:
        sweep.remove(docker, stack)
