"""A deployed platform as the tests see it: its commands, its address, its containers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import requests

from ops import paths
from ops.docker import DockerCli
from ops.settings import STACK_LABEL
from tests.support.live import project, sweep
from tests.support.live.waits import until

LIMIT: Final = 2400  # seconds for one command: the first one on a machine may build every image
DATA: Final = ("chat-data", "chroma-data", "ollama-models", "prometheus-data")
# What a shell with `make env` or a choice of the person's would change.
NOT_OURS: Final = ("STACK", "SOURCE", "HOST", "MAKEFLAGS", "MFLAGS", "DATA", "CONFIRM", "Q", "NAME", "ROTATE", "REVOKE")


@dataclass(frozen=True)
class Ended:
    """How a command ended; `text` is all it said."""

    command: str
    code: int
    text: str
    seconds: float

    def good(self) -> Ended:
        """Itself, when the command succeeded. Raises AssertionError with what it said."""
        assert self.code == 0, f"`{self.command}` ended with {self.code}:\n{self.text[-6000:]}"
        return self


@dataclass
class Platform:
    """One stack in a copy of the project. `log` has everything that its commands said."""

    folder: Path
    stack: str
    docker: DockerCli
    _keys: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def root(self) -> Path:
        """The copy of the project."""
        return self.folder / "project"

    @property
    def state(self) -> Path:
        """The state folder; passphrases are beside it."""
        return self.folder / "state"

    @property
    def log(self) -> Path:
        """What all commands said, with times."""
        return self.folder / "log.txt"

    @property
    def settings(self) -> Path:
        """The stack's Pulumi.<stack>.yaml."""
        return self.root / f"Pulumi.{self.stack}.yaml"

    @cached_property
    def environment(self) -> dict[str, str]:
        """The environment of the platform's commands: nothing from a running `dev`."""
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("PULUMI_", "PRIVATE_LLM_", "PYTEST_")) and key not in NOT_OURS
        }
        return {
            **kept,
            "PRIVATE_LLM_CACHE": str(paths.cache()),
            "PRIVATE_LLM_STATE": str(self.state),
            "STACK": self.stack,
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def make(self, **changes: Any) -> None:
        """The copy of the project with a configuration of its own: the committed one, on free ports."""
        project.copy(self.root)
        https, http = project.free_ports(2)
        platform = project.committed()
        platform["gateway"] = {**platform.get("gateway", {}), "httpsPort": https, "httpPort": http}
        platform["engine"] = {**platform.get("engine", {}), "resources": {"memory": "3GiB", "cpus": 2}}
        project.write_platform(self.settings, platform | changes)

    @property
    def platform(self) -> dict[str, Any]:
        """The configuration now."""
        return project.read_platform(self.settings)

    def configure(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Edits the configuration."""
        platform = self.platform
        change(platform)
        project.write_platform(self.settings, platform)

    def start(self, command: str, **words: str) -> subprocess.Popen[str]:
        """Starts a command as `make` does; its output goes to a file `.out` beside the log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as log:
            log.write(f"\n$ {command} {words}\n")
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "ops", command],
            cwd=self.root,
            env={**self.environment, **words},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def ops(self, command: str, *, limit: float = LIMIT, **words: str) -> Ended:
        """Runs a command to its end. What it says also goes to the log, line by line."""
        began = time.monotonic()
        process = self.start(command, **words)
        lines: list[str] = []
        try:
            with self.log.open("a", buffering=1) as log:
                for line in process.stdout or ():
                    lines.append(line)
                    log.write(f"{time.monotonic() - began:7.1f}  {line}")
                    if time.monotonic() - began > limit:
                        raise AssertionError(f"`{command}` still runs after {limit:g} s; see {self.log}")
            process.wait(60)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(120)
            if process.stdout:
                process.stdout.close()
        return Ended(f"make {command}", process.returncode, "".join(lines), time.monotonic() - began)

    def up(self, **words: str) -> Ended:
        """`make up`, which must succeed."""
        self._keys.clear()
        self.__dict__.pop("shell", None)
        return self.ops("up", limit=LIMIT, **words).good()

    @cached_property
    def shell(self) -> dict[str, str]:
        """The environment of `eval "$(make -s env)"`: plain `pulumi` works in it."""
        script = 'eval "$(python -m ops env)" && env -0'
        environment = {**self.environment, "PATH": f"{Path(sys.executable).parent}:{self.environment['PATH']}"}
        done = subprocess.run(
            ["bash", "-ec", script], cwd=self.root, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return dict(pair.split("=", 1) for pair in done.stdout.split("\0") if "=" in pair)

    def pulumi(self, *args: str, text: str = "") -> str:
        """Plain `pulumi` on the stack, which must succeed; its standard output. `text` is its standard input."""
        done = subprocess.run(
            ["pulumi", *args, "--stack", self.stack, "--non-interactive"],
            cwd=self.root,
            env=self.shell,
            input=text,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"pulumi {' '.join(args)}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs."""
        found: dict[str, Any] = json.loads(self.pulumi("stack", "output", "--json"))
        return found

    @property
    def url(self) -> str:
        """The gateway's base address."""
        return f"https://localhost:{self.platform['gateway']['httpsPort']}"

    @property
    def http_port(self) -> int:
        """The port that redirects."""
        port: int = self.platform["gateway"]["httpPort"]
        return port

    @property
    def https_port(self) -> int:
        """The port of everything else."""
        port: int = self.platform["gateway"]["httpsPort"]
        return port

    @property
    def ca(self) -> str:
        """The file with the authority's certificate."""
        return str(self.state / "stacks" / f"{self.stack}.ca.pem")

    def secret(self, name: str) -> str:
        """A generated secret of the stack, by its flat key. All are read at once: opening them takes a second."""
        if not self._keys:
            found = json.loads(self.pulumi("config", "--show-secrets", "--json"))
            self._keys.update({key.split(":", 1)[1]: entry.get("value", "") for key, entry in found.items()})
        return self._keys[name]

    def key(self, consumer: str = "default") -> str:
        """A consumer's API key."""
        return self.secret(f"key-{consumer}")

    def session(self, key: str | None = None) -> requests.Session:
        """A client that trusts the stack's authority and nobody else."""
        session = requests.Session()
        session.trust_env = False  # a REQUESTS_CA_BUNDLE of the shell would win over `verify`
        session.verify = self.ca
        if key:
            session.headers["Authorization"] = f"Bearer {key}"
        return session

    def name(self, service: str) -> str:
        """A container's (network's, volume's) name."""
        return f"private-llm-{self.stack}-{service}"

    def inspect(self, service: str) -> dict[str, Any]:
        """What Docker knows of a service's container."""
        found: dict[str, Any] = self.docker.json(["inspect", self.name(service)])[0]
        return found

    def running(self) -> dict[str, str]:
        """Names and ids of the stack's running containers."""
        rows = self.docker.run(
            ["ps", "--no-trunc", "--filter", f"label={STACK_LABEL}={self.stack}", "--format", "{{.Names}} {{.ID}}"]
        )
        prefix = self.name("")
        return {name.removeprefix(prefix): one for name, one in (row.split() for row in rows.splitlines())}

    def image(self, name: str) -> str:
        """The reference of an image of the stack's lock."""
        found: Mapping[str, str] = self.outputs()["versions"]
        return found[name]

    def wait_healthy(self, service: str, limit: float = 120) -> None:
        """Waits until Docker calls a service's container healthy."""
        until(f"{service} is healthy", lambda: self.inspect(service)["State"]["Health"]["Status"] == "healthy", limit)

    def wait_answering(self, limit: float = 60) -> None:
        """Waits until every service is healthy and the gateway answers for a model."""
        for service in self.running():
            self.wait_healthy(service, limit)
        session = self.session()
        until("the gateway's /health is 200", lambda: session.get(f"{self.url}/health", timeout=5).ok, limit)

    def remove(self) -> None:
        """Destroys it, then removes whatever still carries its label. A second call finds nothing."""
        try:
            if (self.state / "backend").exists():
                self.ops("destroy", limit=300)
        finally:
            sweep.remove(self.docker, self.stack)
