"""A stack's volumes on its host: those with people's data, and those that only carry configuration files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ops.docker import DockerError
from ops.errors import OpsError
from ops.pulumi import Pulumi

STACK_LABEL: Final = "private-llm.stack"
FILES: Final = "-files"  # how a volume's name ends that holds rendered files: `make up` writes them again
VOLUME: Final = "docker:index/volume:Volume"


def there(pulumi: Pulumi) -> list[str]:
    """Names of all volumes of this stack on its host. Raises OpsError."""
    try:
        found = pulumi.tools.docker.run(["volume", "ls", "-q", "--filter", f"label={STACK_LABEL}={pulumi.stack}"])
    except DockerError as trouble:
        raise OpsError(str(trouble)) from trouble
    return found.split()


def with_data(names: Iterable[str]) -> list[str]:
    """Those that hold something of the user's."""
    return [name for name in names if not name.endswith(FILES)]


def with_files(names: Iterable[str]) -> list[str]:
    """Those that hold nothing but rendered files."""
    return [name for name in names if name.endswith(FILES)]


def known(deployment: Mapping[str, Any]) -> set[str]:
    """Names of the data volumes that a state has, or was about to have when its run was interrupted."""
    resources = [*(deployment.get("resources") or ())]
    resources += [entry["resource"] for entry in deployment.get("pending_operations") or ()]
    names = set()
    for resource in resources:
        if resource.get("type") == VOLUME:
            stored = {**(resource.get("inputs") or {}), **(resource.get("outputs") or {})}
            names.add(str(stored.get("name") or resource.get("id") or ""))
    return set(with_data(names - {""}))
