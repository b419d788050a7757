"""What an interrupted run or a hand in a volume left behind, found and put right before the next `up`."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import socket
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ops import record
from ops.docker import DockerCli, DockerError
from ops.errors import OpsError
from ops.files import read_json
from ops.progress import Say
from ops.pulumi import Pulumi
from ops.settings import STACK_LABEL

WORKERS: Final = 6  # docker commands at the same time


@contextlib.contextmanager
def alone(pulumi: Pulumi, say: Say) -> Iterator[None]:
    """Lets one changing command run on a stack at a time. The kernel frees this lock however the other one ends."""
    path = record.folder() / f"{pulumi.stack}.running"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            who = file.read().strip() or "another command"
            raise OpsError(
                f"stack {pulumi.stack} is being changed right now by {who}\n"
                "fix: wait until it has ended; nothing was started here"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        clear_stale_lock(pulumi, say)
        yield


def clear_stale_lock(pulumi: Pulumi, say: Say) -> None:
    """The file backend's own lock: refused while its process lives, removed when that is gone (killed, power cut)."""
    if not pulumi.keeps_files or not pulumi.locks.is_dir():
        return
    for path in pulumi.locks.glob("*.json"):
        owner = read_json(path) or {}
        pid, host = int(owner.get("pid") or 0), str(owner.get("hostname") or "")
        if host != socket.gethostname():
            raise OpsError(
                f"stack {pulumi.stack} is locked by process {pid} on {host or 'another machine'} ({path})\n"
                f"fix: when that one is gone for good, run `pulumi cancel --yes --stack {pulumi.stack}` "
                f"in a shell with `make env STACK={pulumi.stack}`"
            )
        if is_pulumi(pid):
            raise OpsError(
                f"stack {pulumi.stack} is being changed right now by `pulumi` (process {pid})\n"
                "fix: wait until it has ended; nothing was started here"
            )
        path.unlink(missing_ok=True)
        say(f"state: removed the lock of an interrupted run (process {pid} is gone)")


def is_pulumi(pid: int) -> bool:
    """Whether a process lives and is Pulumi: numbers are used again."""
    try:
        return b"pulumi" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        pass
    try:  # no /proc on macOS
        os.kill(pid, 0)
    except OSError:
        return False
    return not Path("/proc/self").exists()


def drop_pending(pulumi: Pulumi, deployment: dict[str, Any], say: Say) -> dict[str, Any]:
    """Forgets operations that an interrupted run never finished; `leftovers` removes what they left on the host."""
    pending = deployment.get("pending_operations") or []
    if not pending:
        return deployment
    names = ", ".join(str(entry["resource"]["urn"]).rsplit("::", 1)[-1] for entry in pending)
    clean = {key: value for key, value in deployment.items() if key != "pending_operations"}
    # Asked again for what is around the deployment: its version is Pulumi's to choose.
    whole = json.loads(pulumi.call("stack", "export"))
    pulumi.call("stack", "import", text=json.dumps({**whole, "deployment": clean}))
    say(f"state: the last run was interrupted at {names}; going on from there")
    return clean


def known_ids(deployment: Mapping[str, Any]) -> set[str]:
    """Ids (and names) of what the state knows."""
    found: set[str] = set()
    for resource in deployment.get("resources", ()):
        found |= {str(resource.get("id", "")), str((resource.get("outputs") or {}).get("name", ""))} - {""}
    return found


def leftovers(pulumi: Pulumi, deployment: Mapping[str, Any], say: Say) -> None:
    """Removes this stack's containers and networks that the state does not know; they hold no data."""
    docker, known = pulumi.tools.docker, known_ids(deployment)
    label = f"label={STACK_LABEL}={pulumi.stack}"
    containers = docker.run(["ps", "-aq", "--no-trunc", "--filter", label]).split()
    networks = docker.run(["network", "ls", "-q", "--no-trunc", "--filter", label]).split()
    lost = [one for one in containers if one not in known]
    if lost:
        docker.run(["rm", "-f", *lost], limit=120)
        say(f"docker: removed {len(lost)} containers of an interrupted run (no data in them)")
    stray = [one for one in networks if one not in known]
    for one in stray:
        docker.attempt(["network", "rm", one])
    if stray:
        say(f"docker: removed {len(stray)} networks of an interrupted run")


@dataclass(frozen=True)
class Drift:
    """A file in a volume that is not what the stack wrote there."""

    path: str
    urns: tuple[str, ...]


def same(docker: DockerCli, container: str, path: str, sha256: str) -> bool:
    """Whether a file as a container sees it (it need not run) is what was written. A missing file is not.

    A missing container is no difference of its files: refresh finds it, and `up` makes it with them.
    """
    done = subprocess.run(
        ["docker", "cp", f"{container}:{path}", "-"], env=docker.env, capture_output=True, timeout=60, check=False
    )
    if done.returncode:
        return b"no such container" in done.stderr.lower()
    return hashlib.sha256(unpack(done.stdout) or b"").hexdigest() == sha256


def unpack(archive: bytes) -> bytes | None:
    """The one file in a tar archive."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        member = tar.next()
        file = tar.extractfile(member) if member else None
        return file.read() if file else None


def drifted(docker: DockerCli, files: list[dict[str, Any]]) -> list[Drift]:
    """Config files that were edited in their volume: the provider never reads them back."""

    def check(entry: dict[str, Any]) -> Drift | None:
        if same(docker, entry["container"], entry["path"], entry["sha256"]):
            return None
        return Drift(entry["path"], tuple(entry["urns"]))

    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        return [drift for drift in pool.map(check, files) if drift]


def replacements(pulumi: Pulumi, deployment: Mapping[str, Any], say: Say) -> list[str]:
    """`--replace` arguments for what writes and reads the files that were edited. Raises OpsError."""
    try:
        changed = drifted(pulumi.tools.docker, pulumi.config_files(deployment))
    except DockerError as trouble:
        raise OpsError(str(trouble)) from trouble
    if changed:
        say(f"drift: {', '.join(one.path for one in changed)} differ from the configuration; writing them again")
    # Pulumi refuses to replace what is not in its state (a run may have ended before it was made).
    known = {resource.get("urn") for resource in deployment.get("resources", ())}
    urns = dict.fromkeys(urn for one in changed for urn in one.urns if urn in known)
    return [word for urn in urns for word in ("--replace", urn)]
