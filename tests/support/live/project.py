"""A copy of the project in a folder of its own, so that tests write no settings into the working tree."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any, Final

import yaml

from ops import paths

# Copied, not linked: the commands find the project by where their own files really are.
FOLDERS: Final = ("stack", "ops", "offline", "images", "locks", "requirements", "examples", "loadtests")
FILES: Final = ("__main__.py", "Pulumi.yaml", "Makefile")
PLATFORM: Final = "private-llm:platform"


def copy(folder: Path) -> None:
    """Copies the program and its commands; Python's packages are linked."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FOLDERS:
        shutil.copytree(paths.ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy2(paths.ROOT / name, folder / name)
    (folder / ".venv").symlink_to(paths.VENV.resolve())


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody holds now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def committed() -> dict[str, Any]:
    """The platform of the committed Pulumi.dev.yaml: what people get is what is tested."""
    data: dict[str, Any] = yaml.safe_load((paths.ROOT / "Pulumi.dev.yaml").read_text())["config"][PLATFORM]
    return data


def write_platform(file: Path, platform: dict[str, Any]) -> None:
    """Sets the platform in a stack's settings file; salt and secrets that are there stay."""
    data = yaml.safe_load(file.read_text()) if file.exists() else {"config": {}}
    data["config"][PLATFORM] = platform
    file.write_text(yaml.safe_dump(data, sort_keys=False))


def read_platform(file: Path) -> dict[str, Any]:
    """The platform in a stack's settings file."""
    data: dict[str, Any] = yaml.safe_load(file.read_text())["config"][PLATFORM]
    return data
