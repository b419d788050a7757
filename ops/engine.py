"""The Docker engine: the one that answers, or installed and started where that is ours to do (root, Debian, Ubuntu)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ops import paths
from ops.docker import DaemonDown, DockerCli, DockerError, DockerMissing
from ops.errors import OpsError
from ops.files import write_atomic
from ops.progress import Say
from ops.request import Source

STANDARD: Final = ("unix:///var/run/docker.sock", "unix:///run/docker.sock")
START_LIMIT: Final = 60  # seconds for dockerd to answer
SAFE_LOOPBACK: Final = 28  # from this major version on, neighbours cannot reach ports published on 127.0.0.1
LOOPBACK_RULE: Final = ("PREROUTING", "!", "-i", "lo", "-d", "127.0.0.0/8", "-j", "DROP")
DOCKER_APT: Final = "https://download.docker.com/linux"
DOCKER_DOCS: Final = "https://docs.docker.com/engine/install/"
DOCKER_KEY: Final = "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"  # as its installation guide prints it
PACKAGES: Final[dict[Source, tuple[str, ...]]] = {
    "official": ("docker-ce", "docker-ce-cli", "containerd.io"),
    "mirror": ("docker.io", "iptables"),
}


def ensure_engine(source: Source, say: Say) -> DockerCli:
    """A Docker engine that answers, installed or started when need be. Raises OpsError with what to do."""
    docker = DockerCli()
    try:
        version = server_version(docker)
    except DockerMissing:
        install(source, say)
        version = start(docker, say)
    except DaemonDown as down:
        # Nothing that is started here would answer at another address.
        if docker.host not in STANDARD or os.geteuid() != 0:
            raise OpsError(str(down)) from down
        if shutil.which("dockerd") is None:
            install(source, say)
        version = start(docker, say)
    except DockerError as trouble:
        raise OpsError(str(trouble)) from trouble
    close_loopback(docker, version, say)
    return docker


def server_version(docker: DockerCli) -> str:
    """The engine's version. Raises DockerError when it does not answer."""
    return docker.run(["version", "--format", "{{.Server.Version}}"], limit=20).strip()


def distribution(text: str) -> tuple[str, str]:
    """(id, release name) from the text of /etc/os-release, for example ("debian", "bookworm")."""
    fields = dict(re.findall(r'^([A-Z_]+)="?([^"\n]*)"?$', text, re.MULTILINE))
    return fields.get("ID", ""), fields.get("VERSION_CODENAME", "")


def install(source: Source, say: Say) -> None:
    """Installs the engine's packages. Raises OpsError where that is not ours to do, with the commands."""
    release = Path("/etc/os-release")
    system, name = distribution(release.read_text() if release.exists() else "")
    ours = system in {"debian", "ubuntu"} and shutil.which("apt-get")
    if not ours or os.geteuid() != 0:
        command = "sudo apt-get update && sudo apt-get install -y docker.io" if ours else ""
        raise OpsError(
            "Docker Engine is not installed on this machine\n"
            + (
                f"fix: run `{command}`"
                if command
                else "fix: install it as https://docs.docker.com/engine/install/ says"
            )
            + ", then `sudo usermod -aG docker $USER`, sign out and in again, and run the same command"
        )
    packages = PACKAGES[source]
    say(f"docker: installing {' '.join(packages)} (about 1 min)...")
    if source == "official":
        add_docker_apt(system, name, say)
    apt("update", "-qq")
    apt("install", "-y", "-qq", "--no-install-recommends", *packages)
    say(f"docker: installed from {'Docker' if source == 'official' else system.capitalize()}'s packages")


def add_docker_apt(system: str, name: str, say: Say, root: Path = Path("/etc/apt")) -> None:
    """Adds Docker's own package source, signed by its key. Raises OpsError, leaving the sources as they were."""
    import requests

    if not name:
        raise OpsError(
            f"this {system} does not say which release it is (VERSION_CODENAME in /etc/os-release is empty), "
            f"and Docker's packages are sorted by it\nfix: install Docker as {DOCKER_DOCS}{system}/ says"
        )
    url = f"{DOCKER_APT}/{system}/gpg"
    try:
        answer = requests.get(url, timeout=20)
        answer.raise_for_status()
    except requests.RequestException as trouble:
        raise OpsError(
            f"the key of Docker's packages cannot be fetched from {url}: {trouble}\n"
            f"fix: see whether this machine reaches it, or install Docker as {DOCKER_DOCS}{system}/ says"
        ) from trouble
    check_key(answer.content, url, say)
    keyring = root / "keyrings" / "docker.asc"
    write_atomic(keyring, answer.content, 0o644)
    line = f"deb [signed-by={keyring}] {DOCKER_APT}/{system} {name} stable\n"
    write_atomic(root / "sources.list.d" / "docker.list", line, 0o644)


def check_key(key: bytes, url: str, say: Say) -> None:
    """Compares a key with the fingerprint that Docker publishes. Raises OpsError for another one."""
    if shutil.which("gpg") is None:
        say(f"docker: the fingerprint of {url} was not checked (no `gpg` here); it came by TLS")
        return
    with tempfile.TemporaryDirectory() as home:
        command = ["gpg", "--homedir", home, "--batch", "--with-colons", "--show-keys"]
        done = subprocess.run(command, input=key, capture_output=True, check=False)
    found = re.findall(r"^fpr:+([0-9A-F]{40}):", done.stdout.decode(errors="replace"), re.MULTILINE)
    if DOCKER_KEY not in found[:1]:
        raise OpsError(
            f"{url} gives another key than Docker's: {', '.join(found) or 'no key at all'}, not {DOCKER_KEY}\n"
            f"fix: nothing was installed; see what stands between this machine and {DOCKER_APT}"
        )


def apt(*args: str) -> None:
    """Runs apt-get. Raises OpsError with its last lines."""
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(["apt-get", *args], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
        raise OpsError(
            f"`apt-get {' '.join(args)}` failed:\n{tail}\nfix: mend the package sources, then run this again"
        )


def start(docker: DockerCli, say: Say) -> str:
    """Starts the engine, by systemd or by hand, and returns its version. Raises OpsError with the log's last lines."""
    if Path("/run/systemd/system").exists():
        say("docker: starting it (systemctl start docker)...")
        subprocess.run(["systemctl", "start", "docker"], check=False)
        log = None
    else:
        log = paths.private_folder(paths.state()) / "dockerd.log"
        say(f"docker: starting dockerd (log: {log})...")
        (paths.state() / "dockerd.pid").write_text(f"{detached(['dockerd'], log)}\n")
    return wait_for_engine(docker, log)


def detached(command: Sequence[str], log: Path) -> int:
    """Starts a program that outlives this one, and returns its process id.

    In a session of its own: Ctrl-C in this terminal must not stop everybody's containers. Not a `Popen`: nobody here
    waits for its end.
    """
    program = shutil.which(command[0])
    if program is None:
        raise OpsError(f"{command[0]} is not installed")
    with log.open("ab") as out, Path(os.devnull).open() as nothing:
        files = [(os.POSIX_SPAWN_DUP2, source.fileno(), number) for number, source in enumerate((nothing, out, out))]
        return os.posix_spawn(program, list(command), os.environ, file_actions=files, setsid=True)


def wait_for_engine(docker: DockerCli, log: Path | None) -> str:
    """Waits until the engine answers. Raises OpsError after START_LIMIT seconds."""
    until = time.monotonic() + START_LIMIT
    while True:
        try:
            return server_version(docker)
        except DockerError as trouble:
            if time.monotonic() > until:
                said = (
                    "\n".join(log.read_text(errors="replace").splitlines()[-5:])
                    if log
                    else "see `journalctl -u docker`"
                )
                raise OpsError(
                    f"the Docker engine did not start within {START_LIMIT} s: {trouble}\n{said}"
                ) from trouble
        time.sleep(0.3)


def major(version: str) -> int:
    """The first number of a version text; 0 when there is none."""
    found = re.match(r"\d+", version)
    return int(found.group()) if found else 0


def close_loopback(docker: DockerCli, version: str, say: Say) -> None:
    """Before Docker 28 a neighbour on the same network reaches ports published on 127.0.0.1: drop those packets.

    Without root it is only said, with the command (preflight says it too, where it can see the rules).
    """
    if docker.remote or major(version) >= SAFE_LOOPBACK or shutil.which("iptables") is None or os.geteuid() != 0:
        return
    check = subprocess.run(["iptables", "-w", "-t", "raw", "-C", *LOOPBACK_RULE], capture_output=True, check=False)
    if check.returncode == 0:
        return
    added = subprocess.run(
        ["iptables", "-w", "-t", "raw", "-I", *LOOPBACK_RULE], capture_output=True, text=True, check=False
    )
    command = f"iptables -t raw -I {' '.join(LOOPBACK_RULE)}"
    if added.returncode:
        say(
            f"warning: Docker {version} lets neighbours reach 127.0.0.1, and `{command}` failed: {added.stderr.strip()}"
        )
    else:
        say(
            f"docker {version}: packets from outside to 127.0.0.0/8 are dropped (`{command}`; Docker 28 does so itself)"
        )
