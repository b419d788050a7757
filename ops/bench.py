"""`make bench-deploy`: how long the deployment takes, on a copy of the tree with a stack and state of its own.

Cold (COLD=1) is an empty cache, an empty Pulumi home and an empty second Docker engine; warm is everything cached.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from ops import paths, show
from ops.docker import DockerCli
from ops.errors import OpsError
from ops.progress import say
from ops.pulumi import PROJECT
from ops.request import Request, Source
from ops.settings import PLATFORM, STACK_LABEL

STACK: Final = "bench"
CHOOSES: Final = ("up", "destroy")  # targets that take SOURCE; the others look at what is there
MAKES_OWN: Final = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL")
PREVIEWS: Final = 5
IDLE: Final = 60  # seconds after the models were unloaded
QUESTION: Final = "Say hello."
MIRROR: Final = "private-llm-mirror"  # the registry of the package-mirror path: one fixed port on this machine
NOT_COPIED: Final = (".git", ".venv", "out", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache")


@dataclass
class Bench:
    """A copy of the tree, its environment, and the seconds of each step."""

    root: Path
    env: dict[str, str]
    words: dict[str, str]
    source: Source | None = None
    steps: dict[str, float] = field(default_factory=dict)

    def make(self, name: str, target: str, **words: str) -> str:
        """Runs one target of the copy's Makefile, timed under `name`. Raises OpsError with its last lines.

        Words stand on the command line: `make` takes none of them from the environment.
        """
        say(f"bench: {name}...")
        source = {"SOURCE": self.source} if self.source and target in CHOOSES else {}
        typed = [f"{key}={value}" for key, value in {**self.words, **source, **words}.items()]
        started = time.monotonic()
        done = subprocess.run(
            ["make", "--no-print-directory", target, *typed],
            cwd=self.root, env=self.env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        self.steps[name] = round(time.monotonic() - started, 2)
        if done.returncode:
            tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-25:])
            raise OpsError(f"bench: {name} failed:\n{tail}")
        say(f"bench: {name}: {self.steps[name]:.1f} s")
        return done.stdout + done.stderr

    def pulumi_environment(self) -> dict[str, str]:
        """What `make env` gives."""
        found = dict(self.env)
        for line in self.make("env", "env").splitlines():
            if match := re.fullmatch(r"export (\w+)=(.*)", line):
                found[match[1]] = match[2].strip("'")
        return found


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def changes(text: str) -> int:
    """Resources that an update changed, from the summary that Pulumi prints."""
    block = text.rsplit("Resources:", 1)[-1].split("Duration", 1)[0]
    counts = re.findall(r"(\d+) (\w+)", block)
    return sum(int(number) for number, what in counts if what != "unchanged")


def copy_tree(target: Path) -> None:
    """The tree without its history, with the same Python packages and a stack on free ports."""
    shutil.copytree(paths.ROOT, target, ignore=shutil.ignore_patterns(*NOT_COPIED), symlinks=True)
    (target / ".venv").symlink_to(paths.VENV.resolve())
    data = yaml.safe_load((paths.ROOT / "Pulumi.dev.yaml").read_text())
    platform = data["config"][PLATFORM]
    platform["gateway"] = {**platform.get("gateway", {}), "httpsPort": free_port(), "httpPort": free_port()}
    (target / f"Pulumi.{STACK}.yaml").write_text(yaml.safe_dump({"config": {PLATFORM: platform}}))


@contextlib.contextmanager
def bench_on(work: Path, env: Mapping[str, str], name: str, source: Source | None) -> Iterator[Bench]:
    """A copy that is destroyed with its data at the end, also after Ctrl-C."""
    root = work / name
    copy_tree(root)
    own = {
        # What `make bench-deploy` was called with is not for the calls of the copy.
        **{key: value for key, value in os.environ.items() if key not in MAKES_OWN},
        **env,
        "STACK": STACK,
        "PRIVATE_LLM_STATE": str(work / f"{name}-state"),
        "PYTHONUNBUFFERED": "1",
    }
    bench = Bench(root, own, {"STACK": STACK}, source)
    try:
        yield bench
    finally:
        with contextlib.suppress(OpsError):
            bench.make("destroy", "destroy", DATA="delete", CONFIRM=STACK)


def first_token(text: str) -> float:
    """Milliseconds to the first token, from what `ask` says."""
    found = re.search(r"first token (\d+) ms", text)
    return float(found[1]) if found else 0.0


def previews(bench: Bench) -> tuple[list[float], int]:
    """Seconds of each plain `pulumi preview`, and what differs on the host (`preview --refresh`)."""
    env = bench.pulumi_environment()
    times: list[float] = []
    for _ in range(PREVIEWS):
        started = time.monotonic()
        pulumi(bench.root, env, "preview")
        times.append(time.monotonic() - started)
    summary: dict[str, int] = json.loads(pulumi(bench.root, env, "preview", "--refresh", "--json")).get(
        "changeSummary", {}
    )
    return times, sum(count for what, count in summary.items() if what != "same")


def pulumi(root: Path, env: Mapping[str, str], *words: str) -> str:
    """Plain Pulumi, as a person in a shell of `make env` runs it. Raises OpsError."""
    done = subprocess.run(
        ["pulumi", *words, "--stack", STACK, "--non-interactive"], cwd=root, env=dict(env),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise OpsError(f"bench: pulumi {' '.join(words)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def unload(docker: DockerCli) -> None:
    """Takes the models out of the engine's memory: at rest is without them, and when they leave is a setting."""
    engine = f"{PROJECT}-{STACK}-ollama"
    for line in docker.run(["exec", engine, "ollama", "ps"]).splitlines()[1:]:
        if line.strip():
            docker.run(["exec", engine, "ollama", "stop", line.split()[0]])
            say(f"bench: unloaded {line.split()[0]}")


def idle_memory(docker: DockerCli) -> float:
    """MiB of all containers (usage minus inactive file cache, as `docker stats` counts); each is said."""
    names = docker.run(["ps", "--format", "{{.Names}}", "--filter", f"label={STACK_LABEL}={STACK}"]).split()
    rows = docker.rows(["stats", "--no-stream", *names])
    for row in rows:
        say(f"bench: idle memory {row['Name']}: {show.mebibytes(str(row['MemUsage'])):.0f} MiB")
    return round(sum(show.mebibytes(str(row["MemUsage"])) for row in rows), 1)


def warm(work: Path, source: Source | None) -> dict[str, Any]:
    """Everything cached: from destroyed to answering, nothing to do, preview, memory at rest."""
    with bench_on(work, {}, "warm", source) as bench:
        bench.make("first up", "up")
        bench.make("destroy before warm up", "destroy")
        started = time.monotonic()
        bench.make("warm up", "up")
        token = first_token(bench.make("first answer", "ask", Q=QUESTION))
        warm_s = time.monotonic() - started
        again = bench.make("up with nothing to do", "up")
        times, drift = previews(bench)
        token = first_token(bench.make("answer", "ask", Q=QUESTION)) or token
        docker = DockerCli(bench.env, limit=60)
        unload(docker)
        say(f"bench: waiting {IDLE} s for the idle memory...")
        time.sleep(IDLE)
        return {
            "warm_up_s": round(warm_s, 1),
            "noop_up_s": bench.steps["up with nothing to do"],
            "preview_s": round(statistics.median(times), 2),
            "second_up_changes": changes(again),
            "drift": drift,
            "idle_memory_mib": idle_memory(docker),
            "first_token_ms": token,
            "steps": bench.steps,
        }


@contextlib.contextmanager
def second_engine(work: Path) -> Iterator[str]:
    """An empty Docker engine beside the one that is there; yields its address. Needs root.

    Its bridge and address pools are its own. The first engine's local registry pauses: its port is fixed.
    """
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        raise OpsError("COLD=1 starts a second Docker engine: that needs root and `dockerd` on this machine")
    bridge, address = "pllmbench0", f"unix://{work}/docker.sock"
    first = DockerCli()
    paused = first.attempt(["stop", MIRROR]).code == 0
    for words in (("add", "name", bridge, "type", "bridge"), ("set", bridge, "up")):
        subprocess.run(["ip", "link", *words], check=False)
    subprocess.run(["ip", "addr", "add", "10.213.7.1/24", "dev", bridge], check=False)
    log = (work / "dockerd.log").open("wb")
    process = subprocess.Popen(
        ["dockerd", "--host", address, "--data-root", str(work / "docker"), "--exec-root", str(work / "exec"),
         "--pidfile", str(work / "docker.pid"), "--bridge", bridge,
         "--default-address-pool", "base=10.214.0.0/16,size=24"],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + IDLE
        while not DockerCli({**os.environ, "DOCKER_HOST": address}).available():
            if process.poll() is not None or time.monotonic() > until:
                raise OpsError(f"the second Docker engine did not start:\n{(work / 'dockerd.log').read_text()[-1500:]}")
            time.sleep(0.5)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        log.close()
        subprocess.run(["ip", "link", "delete", bridge], check=False)
        if paused:
            first.attempt(["start", MIRROR])


def cold(work: Path, source: Source | None) -> float:
    """Seconds from nothing but this machine's packages to the first streamed token."""
    with second_engine(work) as address:
        env = {
            "PRIVATE_LLM_CACHE": str(work / "cache"),
            "PIP_CACHE_DIR": str(work / "pip"),
            "DOCKER_HOST": address,
        }
        with bench_on(work, env, "cold", source) as bench:
            started = time.monotonic()
            bench.make("cold up", "up")
            bench.make("cold first answer", "ask", Q=QUESTION)
            return round(time.monotonic() - started, 1)


def bench(request: Request) -> int:
    """Prints progress, and one JSON line last."""
    with tempfile.TemporaryDirectory(prefix="private-llm-bench-") as folder:
        work = Path(folder)
        cold_s = cold(work, request.source) if request.cold else None
        result = {"cold_up_s": cold_s, **warm(work, request.source)}
    print(json.dumps(result))
    return 0
