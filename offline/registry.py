"""The local mirror: one small read-only server in a container, for `docker pull` and for Ollama's pull.

Its data lies in a named volume (the engine may be on another machine) and is copied in from the image store.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offline.errors import OfflineError
from offline.gomod import Say, ensure_go, go_environment, run_logged, scratch
from offline.images.layers import EPOCH
from offline.images.store import Store

NAME = "private-llm-mirror"
NETWORK = "private-llm-mirror"
VOLUME = "private-llm-mirror-store"
LABEL = "private-llm.mirror"
PORT = 5005
ADDRESS = f"127.0.0.1:{PORT}"
# Two names of one server: Ollama follows only a redirect that leads to another host name.
MODELS_HOST, BLOBS_HOST, MODELS_PORT = "mirror-models", "mirror-blobs", 5006
MODELS_ADDRESS = f"{MODELS_HOST}:{MODELS_PORT}"
SERVER = Path(__file__).resolve().parent / "images" / "mirrord"
INVENTORY = "inventory.json"


@dataclass(frozen=True)
class Docker:
    """The docker command, pointed at one engine."""

    host: str | None

    def run(
        self, *arguments: str, check: bool = True, stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `docker …`; raises OfflineError with docker's own words unless `check` is off."""
        try:
            done = subprocess.run(
                ["docker", *arguments],
                input=stdin,
                capture_output=True,
                check=False,
                env=self.environment(),
                stdin=subprocess.DEVNULL if stdin is None else None,
            )
        except FileNotFoundError as error:
            raise OfflineError("the `docker` command is not there: install Docker's client and try again") from error
        if check and done.returncode:
            words = done.stderr.decode(errors="replace").strip()
            raise OfflineError(f"`docker {' '.join(arguments[:2])}` failed: {words}")
        return done

    def environment(self) -> dict[str, str]:
        """This process's environment, with the engine's address."""
        return {**os.environ, **({"DOCKER_HOST": self.host} if self.host else {})}


def ensure_registry(
    cache: Path, docker_host: str | None, say: Say, store: Store, lock: Mapping[str, Any], references: list[str]
) -> None:
    """Have the mirror run in the engine with all that `lock` names; quick when it does.

    `references` are the same things as repository:tag. Raises OfflineError.
    """
    content = content_id(lock)
    docker = Docker(docker_host)
    if is_serving(docker, content):
        return
    say("starting the local image mirror...")
    started = time.monotonic()
    image = ensure_image(cache, docker, say)
    if docker.run("network", "inspect", NETWORK, check=False).returncode:
        docker.run("network", "create", "--label", f"{LABEL}=1", NETWORK)
    docker.run("volume", "create", "--label", f"{LABEL}=1", VOLUME)
    fill(docker, store, references, image, say)
    docker.run("rm", "--force", NAME, check=False)
    start(docker, image, content)
    say(f"the local image mirror runs, after {time.monotonic() - started:.0f} s ({ADDRESS}, read-only)")


def content_id(lock: Mapping[str, Any]) -> str:
    """One hash over everything served and the server's own source."""
    source = (SERVER / "main.go").read_bytes() + Path(__file__).read_bytes()
    return hashlib.sha256(source + json.dumps(lock, sort_keys=True).encode()).hexdigest()


def shares_loopback(docker_host: str | None) -> bool:
    """True when the engine's loopback addresses are this machine's, so that asking them here tells something."""
    return (docker_host or os.environ.get("DOCKER_HOST") or "unix://").startswith("unix://")


def is_serving(docker: Docker, content: str) -> bool:
    """True when the mirror's container runs with this content, and the published address answers with it too."""
    form = f'{{{{.State.Running}}}} {{{{index .Config.Labels "{LABEL}.content"}}}} {{{{len .HostConfig.PortBindings}}}}'
    found = docker.run("container", "inspect", "--format", form, NAME, check=False)
    if found.returncode or not found.stdout.decode().startswith(f"true {content} "):
        return False
    published = found.stdout.split()[2] != b"0"
    return published or (shares_loopback(docker.host) and answers(content))


def answers(content: str) -> bool:
    """True when a mirror with this content answers at the published address (of another engine on this machine)."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{ADDRESS}/content", timeout=2) as answer:
            return bool(answer.read().decode() == content)
    except (urllib.error.URLError, OSError):
        return False


def ensure_image(cache: Path, docker: Docker, say: Say) -> str:
    """The server's image (one static program and nothing else), in the engine; returns its name."""
    sources = (SERVER / "main.go").read_bytes() + (SERVER / "go.mod").read_bytes()
    name = f"{NAME}:{hashlib.sha256(sources).hexdigest()[:12]}"
    if not docker.run("image", "inspect", "--format", "{{.Id}}", name, check=False).returncode:
        return name
    program = ensure_program(cache, name.split(":")[1], say)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("mirrord")
        entry.mode, entry.size, entry.mtime = 0o755, program.stat().st_size, EPOCH
        with program.open("rb") as file:
            archive.addfile(entry, file)
        folder = tarfile.TarInfo("store")
        folder.type, folder.mode, folder.mtime = tarfile.DIRTYPE, 0o755, EPOCH
        archive.addfile(folder)
    docker.run(
        "import",
        "--change",
        'ENTRYPOINT ["/mirrord"]',
        "--change",
        f"LABEL {LABEL}=1",
        "-",
        name,
        stdin=packed.getvalue(),
    )
    return name


def ensure_program(cache: Path, version: str, say: Say) -> Path:
    """The server's program, built once from the sources beside this module."""
    target = cache / "tools" / f"mirrord-{version}" / "mirrord"
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mirrord-", dir=scratch(cache)) as folder:
        work = Path(folder) / "src"
        shutil.copytree(SERVER, work)
        out = Path(folder) / "mirrord"
        run_logged(
            [str(ensure_go(cache, say)), "build", "-trimpath", "-ldflags", "-s -w", "-o", str(out), "."],
            str(work),
            go_environment(cache),
            cache / "logs" / "build-mirrord.log",
            "the mirror's server did not build",
        )
        out.replace(target)
    return target


def fill(docker: Docker, store: Store, references: list[str], image: str, say: Say) -> None:
    """Copy into the volume what it lacks; the list of what it has is written last."""
    wanted = {str(path.relative_to(store.folder)): path for name in references for path in store.files_of(name)}
    seed = f"{NAME}-seed"
    docker.run("rm", "--force", seed, check=False)
    docker.run("create", "--name", seed, "--label", f"{LABEL}=1", "--volume", f"{VOLUME}:/store", image)
    try:
        have = inventory(docker, seed)
        missing = {name: path for name, path in wanted.items() if name not in have or name.endswith("/link")}
        size = sum(path.stat().st_size for path in missing.values())
        if size > 50_000_000:
            say(f"copying {size / 1e6:.0f} MB of images into the mirror's volume...")
        send(docker, seed, pack(missing, sorted(have | wanted.keys())))
    finally:
        docker.run("rm", "--force", seed, check=False)


def inventory(docker: Docker, seed: str) -> set[str]:
    """The files that the volume has, as written down by the last complete copy."""
    got = docker.run("cp", f"{seed}:/store/{INVENTORY}", "-", check=False)
    if got.returncode:
        return set()
    with tarfile.open(fileobj=io.BytesIO(got.stdout)) as archive:
        file = archive.extractfile(INVENTORY)
        return set(json.loads(file.read())) if file else set()


Entry = tuple[tarfile.TarInfo, Path | None, bytes]


def pack(files: Mapping[str, Path], have: list[str]) -> Iterator[Entry]:
    """The tar entries of a copy: folders, files, then the inventory."""
    folders = sorted({str(parent) for name in files for parent in Path(name).parents if str(parent) != "."})
    for name in folders:
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, EPOCH
        yield entry, None, b""
    for name, path in files.items():
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode, entry.mtime = path.stat().st_size, 0o644, EPOCH
        yield entry, path, b""
    listing = json.dumps(have).encode()
    entry = tarfile.TarInfo(INVENTORY)
    entry.size, entry.mode, entry.mtime = len(listing), 0o644, EPOCH
    yield entry, None, listing


def send(docker: Docker, seed: str, entries: Iterator[Entry]) -> None:
    """Stream tar entries into the seed container's volume. Raises OfflineError."""
    process = subprocess.Popen(
        ["docker", "cp", "-", f"{seed}:/store"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=docker.environment(),
    )
    assert process.stdin is not None  # noqa: S101 - asked for above
    assert process.stderr is not None  # noqa: S101 - asked for above
    try:
        with tarfile.open(fileobj=process.stdin, mode="w|", format=tarfile.GNU_FORMAT) as archive:
            for entry, path, data in entries:
                if path is not None:
                    with path.open("rb") as file:
                        archive.addfile(entry, file)
                else:
                    archive.addfile(entry, io.BytesIO(data))
        process.stdin.close()
    except BrokenPipeError:
        pass  # docker has ended; what it said is in the error below
    except BaseException:
        process.kill()
        process.wait()
        raise
    words = process.stderr.read().decode(errors="replace").strip()
    if process.wait():
        raise OfflineError(f"copying images into the volume {VOLUME} failed: {words}")


def start(docker: Docker, image: str, content: str) -> None:
    """Start the server; where another engine on this machine publishes the same content, without a port of its own."""
    near = shares_loopback(docker.host)
    publish = [] if near and answers(content) else ["--publish", f"{ADDRESS}:{MODELS_PORT}"]
    settings = {
        "MIRROR_ROOT": "/store",
        "MIRROR_LISTEN": f":{MODELS_PORT}",
        "MIRROR_CONTENT": content,
        "MIRROR_MODELS_HOST": MODELS_HOST,
        "MIRROR_BLOBS_HOST": f"{BLOBS_HOST}:{MODELS_PORT}",
    }
    created = docker.run(
        "run",
        "--detach",
        "--name",
        NAME,
        "--restart",
        "unless-stopped",
        "--label",
        f"{LABEL}=1",
        "--label",
        f"{LABEL}.content={content}",
        "--network",
        NETWORK,
        "--network-alias",
        MODELS_HOST,
        "--network-alias",
        BLOBS_HOST,
        *publish,
        "--volume",
        f"{VOLUME}:/store:ro",
        "--read-only",
        "--user",
        "65534:65534",
        "--cap-drop",
        "ALL",
        "--security-opt",
        "no-new-privileges",
        "--memory",
        "128m",
        "--memory-swap",
        "128m",
        "--log-opt",
        "max-size=1m",
        "--log-opt",
        "max-file=2",
        *(part for key, value in settings.items() for part in ("--env", f"{key}={value}")),
        image,
        check=False,
    )
    if created.returncode:
        docker.run("rm", "--force", NAME, check=False)
        words = created.stderr.decode(errors="replace").strip()
        taken = "port is already allocated" in words or "address already in use" in words
        hint = (
            f"; something else listens on {ADDRESS}: stop it (`ss -ltnp 'sport = :{PORT}'` names it)" if taken else ""
        )
        raise OfflineError(f"the local image mirror did not start: {words}{hint}")
    for _ in range(100):
        if not publish or not near or answers(content):
            return
        time.sleep(0.1)
    raise OfflineError(f"the local image mirror does not answer at {ADDRESS}; see `docker logs {NAME}`")
