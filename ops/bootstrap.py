"""Finds or installs what `pulumi up` needs: what is there already, else the official source, else package mirrors."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ops import engine, paths, record, sources
from ops.docker import DockerCli
from ops.errors import OpsError
from ops.progress import Say
from ops.request import Source
from stack import parts
from stack.config.model import Platform
from stack.versions import IMAGES, PLUGINS, PULUMI

OFFICIAL_LOCK: Final = paths.ROOT / "locks" / "official.json"


@dataclass(frozen=True, kw_only=True)
class Tools:
    """Everything found: where the CLI is, which daemon, which lock."""

    source: Source
    programs: Path
    docker: DockerCli
    lock: Path

    @property
    def pulumi(self) -> Path:
        """The CLI."""
        return self.programs / "pulumi"


def bootstrap(stack: str, wanted: Source | None, say: Say, *, platform: Platform | None = None) -> Tools:
    """Idempotent; one line for each thing that had to be done, none when all is there. Raises OpsError.

    Only what runs the program needs the images, and gives its platform; looking and removing must not wait for them.
    """
    if problem := cache_problem(paths.cache()):
        raise OpsError(problem)
    source = sources.choose(stack, wanted, say)
    docker = engine.ensure_engine(source, say)
    programs = ensure_cli(stack, source, say)
    ensure_plugins(source, programs / "pulumi", say)
    lock = ensure_lock(stack, source, docker, platform, say) if platform else lock_file(stack, source)
    return Tools(source=source, programs=programs, docker=docker, lock=lock)


def cache_problem(cache: Path) -> str | None:
    """Why the cache folder cannot be used, in words, or None."""
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        return (
            f"the cache folder {cache} cannot be written: {existing} is not writable for this user\n"
            "fix: make it writable, or set PRIVATE_LLM_CACHE to another folder (20 GB free)"
        )
    return None


def ensure_cli(stack: str, source: Source, say: Say) -> Path:
    """The folder of the Pulumi CLI and its Python language host."""
    if found := on_path(stack, say):
        return found
    from ops import official

    if (official.pulumi_home() / "bin" / "pulumi").exists():
        return official.pulumi_home() / "bin"
    if source == "official":
        programs = official.install_pulumi(say)
        say(f"pulumi {PULUMI}: the official release")
        return programs
    from offline.toolchain import ensure_toolchain

    programs = paths.cache() / "tools" / f"pulumi-{PULUMI}" / "bin"
    once(
        programs / "pulumi",
        lambda: ensure_toolchain(paths.cache(), say),
        f"pulumi {PULUMI}: built from its Go module (package mirror)",
        say,
    )
    return programs


def once(made: Path, make: Callable[[], object], line: str, say: Say) -> None:
    """Runs `make`, and says the line when it was this call that made the file."""
    before = made.exists()
    make()
    if not before and made.exists():
        say(line)


def on_path(stack: str, say: Say) -> Path | None:
    """The folder of a CLI on PATH that is new enough and has its language host; a good one is remembered."""
    command = shutil.which("pulumi")
    if command is None:
        return None
    folder = Path(command).resolve().parent
    if paths.cache() in folder.parents:  # ours, in a shell of `make env`
        return None
    if not (folder / "pulumi-language-python").exists():
        return None
    stat = (folder / "pulumi").stat()
    stamp = f"{folder}|{stat.st_size}|{stat.st_mtime_ns}"
    if record.load(stack).checked == stamp:
        return folder
    try:
        version = subprocess.run(
            [command, "version"], capture_output=True, text=True, timeout=30, check=False
        ).stdout.strip()
    except (subprocess.TimeoutExpired, OSError) as trouble:
        say(f"pulumi at {command} is not used: it does not say its version ({trouble})")
        return None
    if not new_enough(version, PULUMI):
        say(f"pulumi {version or '(no version)'} at {command} is not used: {PULUMI} or newer of that major is needed")
        return None
    say(f"pulumi {version.removeprefix('v')}: found at {command}")
    record.remember(stack, checked=stamp)
    return folder


def new_enough(version: str, minimum: str) -> bool:
    """Same major, and not older."""
    have = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    need = tuple(int(part) for part in minimum.split("."))
    return len(have) == len(need) and have[0] == need[0] and have >= need


def ensure_plugins(source: Source, command: Path, say: Say) -> None:
    """The resource plugins, in Pulumi's own plugin cache under their version."""
    from ops import official

    files = [official.plugin_file(name) for name in PLUGINS]
    if all(official.is_official(file) for file in files):
        return
    if source == "official":
        official.install_plugins(command, say)
        return
    from offline.toolchain import ensure_plugins as build_plugins

    names = ", ".join(f"{name} {version}" for name, version in PLUGINS.items())
    once(
        files[0],
        lambda: build_plugins(paths.cache(), say),
        f"plugins {names}: from packages (package mirror): Pulumi's Terraform bridge with the real docker provider, "
        "stand-ins for the others",
        say,
    )


def lock_file(stack: str, source: Source, names: Iterable[str] = IMAGES) -> Path:
    """Where the lock of this source is: the committed one when it pins all these images."""
    from ops import registry

    if source == "mirror":
        return paths.cache() / "images" / "lock.json"
    return OFFICIAL_LOCK if registry.complete(OFFICIAL_LOCK, names) else record.folder() / f"{stack}.lock.json"


def extras(platform: Platform) -> list[str]:
    """Images that the platform uses where they can be had, and does without where not."""
    return ["grafana"] if platform.observability.enabled and platform.observability.grafana else []


def ensure_lock(stack: str, source: Source, docker: DockerCli, platform: Platform, say: Say) -> Path:
    """The file that pins images and models for this stack."""
    names, optional = parts.needed(platform), extras(platform)
    lock = lock_file(stack, source, [*names, *optional])
    if source == "mirror":
        from offline.images import ensure_images

        line = "images: built from packages, in a registry on 127.0.0.1:5005 (package mirror)"
        once(lock, lambda: ensure_images(paths.cache(), docker.env.get("DOCKER_HOST"), say), line, say)
        return lock
    from ops import registry

    if not registry.complete(lock, [*names, *optional]):
        registry.resolve(lock, say, names, optional)
        say(f"images: digests from their registries, kept in {lock}")
    return lock
