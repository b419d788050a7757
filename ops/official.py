"""Parts from their official sources: the Pulumi release with its checksum, plugins, image digests."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Final

import requests

from ops import paths
from ops.errors import OpsError
from ops.progress import Say
from stack.versions import PLUGINS, PULUMI

RELEASES: Final = "https://get.pulumi.com/releases/sdk"
OTHER_WAY: Final = "fix: run the same command again; where this source is closed for good, add SOURCE=mirror"


def pulumi_home() -> Path:
    """Where the official CLI is unpacked: apart from the one built from packages, which has the same version."""
    return paths.cache() / "tools" / f"pulumi-{PULUMI}-official"


def archive_name(system: str, machine: str) -> str:
    """The release's file for this machine. Raises OpsError when there is none."""
    arch = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}.get(machine.lower())
    if system not in {"Linux", "Darwin"} or arch is None:
        raise OpsError(
            f"Pulumi has no release for {system} on {machine}; allowed are Linux and macOS on x86_64 and arm64"
        )
    return f"pulumi-v{PULUMI}-{system.lower()}-{arch}.tar.gz"


def expected_digest(checksums: str, name: str) -> str:
    """The SHA-256 of a file in the release's checksums. Raises OpsError when it is not listed."""
    for line in checksums.splitlines():
        digest, _, file = line.partition(" ")
        if file.strip().lstrip("*") == name and len(digest) == 64:
            return digest.lower()
    raise OpsError(f"the checksums of Pulumi {PULUMI} do not list {name}; nothing was installed")


def install_pulumi(say: Say, releases: str = RELEASES) -> Path:
    """Downloads, verifies and unpacks the release; returns its programs' folder. A bad checksum is an error, always."""
    name = archive_name(platform.system(), platform.machine())
    say(f"pulumi {PULUMI}: downloading the official release...")
    checksums = fetch(f"{releases}/pulumi-{PULUMI}-checksums.txt").decode()
    archive = fetch(f"{releases}/{name}")
    digest, expected = hashlib.sha256(archive).hexdigest(), expected_digest(checksums, name)
    if digest != expected:
        raise OpsError(
            f"{name} has SHA-256 {digest}, its release says {expected}; nothing was installed\n"
            "fix: find out what changes downloads on the way (a proxy?), then run the same command again"
        )
    home = pulumi_home()
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent) as work:
        packed = Path(work) / name
        packed.write_bytes(archive)
        with tarfile.open(packed) as tar:
            tar.extractall(work, filter="data")
        whole = Path(work) / "home"
        whole.mkdir()
        (Path(work) / "pulumi").rename(whole / "bin")
        shutil.rmtree(home, ignore_errors=True)
        whole.rename(home)
    return home / "bin"


def fetch(url: str) -> bytes:
    """The content at a URL. Raises OpsError."""
    try:
        answer = requests.get(url, timeout=(10, 120))
        answer.raise_for_status()
    except requests.RequestException as trouble:
        raise OpsError(f"{url} did not download: {trouble}\n{OTHER_WAY}") from trouble
    return answer.content


def plugin_file(name: str) -> Path:
    """Where Pulumi's plugin cache has the program of a resource plugin."""
    return paths.cache() / "pulumi" / "plugins" / f"resource-{name}-v{PLUGINS[name]}" / f"pulumi-resource-{name}"


def is_official(plugin: Path) -> bool:
    """Official plugins are compiled; those of the package-mirror path are scripts."""
    try:
        with plugin.open("rb") as file:
            return file.read(2) not in {b"", b"#!"}
    except FileNotFoundError:
        return False


def install_plugins(command: Path, say: Say) -> None:
    """Lets the CLI install the plugins that are missing or are stand-ins; it verifies them itself."""
    for name, version in PLUGINS.items():
        if is_official(plugin_file(name)):
            continue
        say(f"plugin {name} {version}: downloading the official one...")
        done = subprocess.run(
            [command, "plugin", "install", "resource", name, f"v{version}", "--reinstall", "--non-interactive"],
            env={**os.environ, "PULUMI_HOME": str(paths.cache() / "pulumi"), "PULUMI_SKIP_UPDATE_CHECK": "true"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise OpsError(f"plugin {name} {version} did not install: {done.stderr.strip()}\n{OTHER_WAY}")
