"""What stands between client and engine: nothing, our gateway, or LiteLLM; and what each costs the machine."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import bcrypt
import requests
import yaml

from bench.client import Target, load
from ops import venv
from stack.config.explain import parse_platform
from stack.config.model import Platform
from tests.support import tools
from tests.support.gateway import Running, running
from tests.support.samples import SAMPLES

PLATFORM: Final = Path(__file__).with_name("platform.yaml")
CHAT: Final = "/v1/chat/completions"
MODEL: Final = "qwen3:0.6b"
COST: Final = 10  # of bcrypt, the highest that the gateway takes
LITELLM_START: Final = 120.0  # seconds
TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """A process that is watched."""

    pid: int

    @property
    def cpu(self) -> float:
        """Seconds of processor time so far, of itself and of children that have ended."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(ticks) for ticks in fields[11:15]) / TICKS

    @property
    def memory(self) -> float:
        """MiB that it holds now."""
        return self._status("VmRSS")

    @property
    def most_memory(self) -> float:
        """MiB that it has held at most."""
        return self._status("VmHWM")

    def _status(self, name: str) -> float:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return round(int(line.split()[1]) / 1024, 1)
        raise ValueError(f"the kernel tells no {name} of process {self.pid}")


@dataclass(frozen=True)
class Machine:
    """Processor time of this machine, in seconds: `busy` of `there`, and `ours` of it."""

    there: float
    busy: float
    ours: float

    @staticmethod
    def now() -> Machine:
        """Since its start; `ours` counts children once they have ended."""
        ticks = [int(word) / TICKS for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        mine = os.times()
        ours = mine.user + mine.system + mine.children_user + mine.children_system
        return Machine(there=sum(ticks), busy=sum(ticks) - ticks[3] - ticks[4], ours=ours)

    def others(self, before: Machine) -> float:
        """The share of the machine that others used since then, from 0 to 1."""
        used = (self.busy - before.busy) - (self.ours - before.ours)
        return max(0.0, used / (self.there - before.there))


@dataclass(frozen=True)
class Gateway:
    """Our gateway, running, with the credentials of its consumers."""

    running: Running
    process: Process
    keys: dict[str, str]
    passwords: dict[str, str]

    def target(self, path: str = CHAT, consumer: str = "default") -> Target:
        """A consumer that shows its key, on this machine."""
        return Target(url=self.running.url + path, key=self.keys[consumer], ca=self.running.ca)

    def metric(self, name: str, label: str) -> float:
        """The sum of a metric's samples with a label, written `name="value"`."""
        text = requests.get(f"{self.running.inside}/metrics", timeout=10).text
        total = 0.0
        for line in text.splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.partition("{")[0] == name and label in sample:
                total += float(value)
        return total


def platform() -> Platform:
    """The configuration that is measured."""
    return parse_platform(yaml.safe_load(PLATFORM.read_text()), source=PLATFORM.name)


@contextmanager
def gateway(folder: Path, engine: str, listen: Sequence[str] = ()) -> Iterator[Gateway]:
    """Starts our gateway in front of an engine; `listen`: more addresses of this machine than loopback."""
    configured = platform()
    keys = {consumer.name: f"sk-{secrets.token_urlsafe(32)}" for consumer in configured.consumers}
    passwords = {name: f"{name}-{secrets.token_urlsafe(12)}" for name in ("ann", "ben", "cleo", "dora", "emil")}
    hashes = {name: bcrypt.hashpw(word.encode(), bcrypt.gensalt(COST)).decode() for name, word in passwords.items()}
    with running(
        configured, SAMPLES["dev"].parts, keys, folder, engine=engine, chat=None, passwords=hashes,
        listen=("127.0.0.1", *listen),
    ) as started:  # fmt: skip
        yield Gateway(started, Process(_child(str(folder))), keys, passwords)


@contextmanager
def litellm(folder: Path, engine: str) -> Iterator[tuple[Target, Process]]:
    """Starts LiteLLM's proxy with one worker in front of the same engine, without a database."""
    binary = venv.apart("litellm") / "bin" / "litellm"
    key = f"sk-{secrets.token_urlsafe(32)}"
    upstream = {"model": f"openai/{MODEL}", "api_base": f"http://{engine}/v1", "api_key": "none"}
    config = folder / "litellm.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "model_list": [{"model_name": "default", "litellm_params": upstream}],
                "general_settings": {"master_key": key},
                "litellm_settings": {"telemetry": False, "request_timeout": 600},
            }
        )
    )
    port = _free_port()
    env = {
        "PATH": f"{binary.parent}:{os.defpath}", "HOME": str(folder), "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR", "NO_PROXY": "*",
    }  # fmt: skip
    words = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    with (folder / "litellm.log").open("w") as log:
        process = subprocess.Popen(
            [str(binary), *words, "--telemetry", "False"], cwd=folder, env=env,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            _answers(f"http://127.0.0.1:{port}/health/liveliness", process, folder / "litellm.log")
            target = Target(url=f"http://127.0.0.1:{port}{CHAT}", key=key)
            # What it does once, it does with its first answers: that is not measured.
            load(target, streams=4, seconds=2, warm=0)
            yield target, Process(process.pid)
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=20)


@contextmanager
def null_server(tokens: int) -> Iterator[Target]:
    """Answers anything at once: what a client reaches here is what the client can do."""
    command = [str(tools.engine()), "null", "-until-eof", "-tokens", str(tokens)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            first = process.stdout.readline() if process.stdout else ""
            yield Target(url=f"http://{json.loads(first)['address']}{CHAT}")
        finally:
            process.terminate()
            process.wait(timeout=10)


def _child(mark: str) -> int:
    """The process that we started with this text in its command."""
    for tasks in Path("/proc/self/task").glob("*/children"):
        for pid in tasks.read_text().split():
            if mark in Path(f"/proc/{pid}/cmdline").read_text():
                return int(pid)
    raise RuntimeError(f"no process of ours has {mark} in its command")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def _answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + LITELLM_START
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if requests.get(url, timeout=2).ok:
                return
        except requests.RequestException:
            time.sleep(0.2)
    raise RuntimeError(f"LiteLLM does not answer (exit status {process.poll()}):\n{log.read_text()[-2000:]}")
