"""The `docker` command as a typed object: every call has a time limit, every failure a sentence and a fix.

Local or remote is the environment's choice (`DOCKER_HOST`, `DOCKER_CONTEXT`), as for the command itself.
Tests replace the runner, the one place where a process is started.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from ops.errors import OpsError

REMOTE_SCHEMES: Final = ("ssh://", "tcp://", "http://", "https://")
# Only the client's own words: "connection refused" alone may come from inside a container or from a registry.
_FORBIDDEN: Final = re.compile(r"permission denied while trying to connect to the docker", re.IGNORECASE)
_DOWN: Final = re.compile(
    r"cannot connect to the docker daemon|is the docker daemon running|error during connect"
    r"|failed to connect to the docker api",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Result:
    """How a process ended."""

    code: int
    out: str
    err: str


Runner = Callable[[Sequence[str], Mapping[str, str], float, str | None], Result]
"""Runs a command line with an environment, a limit in seconds and text for its standard input.

Raises FileNotFoundError (no such command) and subprocess.TimeoutExpired."""


class DockerError(OpsError):
    """A docker command failed; the text says what, where and what to do."""


class DockerMissing(DockerError):
    """There is no `docker` command."""


class DaemonDown(DockerError):
    """Nothing answers where the daemon should be."""


class DaemonForbidden(DockerError):
    """The daemon is there, this user may not talk to it."""


class DockerTimeout(DockerError):
    """No answer within the limit."""


def run_process(command: Sequence[str], env: Mapping[str, str], limit: float, text: str | None) -> Result:
    """The real runner."""
    done = subprocess.run(
        list(command),
        env=dict(env),
        input=text if text is not None else "",
        timeout=limit,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


class DockerCli:
    """Runs `docker …` against the daemon that the environment names."""

    def __init__(
        self, env: Mapping[str, str] | None = None, *, limit: float = 30, runner: Runner = run_process
    ) -> None:
        """`limit` is the default time limit in seconds."""
        self.env: Final = dict(os.environ if env is None else env)
        self._limit = limit
        self._runner = runner

    @cached_property
    def host(self) -> str:
        """Where the daemon listens, for example unix:///var/run/docker.sock (or the context's address)."""
        if host := self.env.get("DOCKER_HOST"):
            return host
        try:
            named = self.attempt(["context", "inspect", "--format", "{{.Endpoints.docker.Host}}"], limit=10)
        except DockerError:
            return "unix:///var/run/docker.sock"
        return named.out.strip() or "unix:///var/run/docker.sock"

    @property
    def remote(self) -> bool:
        """True when the daemon is (or may be) on another machine: this one's ports and disks say nothing."""
        return self.host.startswith(REMOTE_SCHEMES)

    def attempt(self, args: Sequence[str], *, limit: float | None = None, text: str | None = None) -> Result:
        """Runs the command and returns how it ended, whatever the exit status.

        Raises DockerMissing, DockerTimeout.
        """
        seconds = self._limit if limit is None else limit
        try:
            return self._runner(["docker", *args], self.env, seconds, text)
        except FileNotFoundError:
            raise DockerMissing(
                "the `docker` command is not installed (or not on PATH)\n"
                "fix: install Docker Engine (https://docs.docker.com/engine/install/; on Debian as root "
                "`apt-get install docker.io`), then run the same command again"
            ) from None
        except subprocess.TimeoutExpired:
            raise DockerTimeout(
                f"`docker {_shown(args)}` gave no answer within {seconds:g} s (daemon at {self._address()})\n"
                "fix: see whether the daemon is stuck (`docker info`; `journalctl -u docker`), then try again"
            ) from None

    def run(self, args: Sequence[str], *, limit: float | None = None, text: str | None = None) -> str:
        """Runs the command and returns its standard output. `text` is its standard input: secrets only there.

        Raises DockerError, or the subclass that tells what is wrong with the daemon.
        """
        result = self.attempt(args, limit=limit, text=text)
        if result.code:
            raise self._error(args, result)
        return result.out

    def json(self, args: Sequence[str], *, limit: float | None = None) -> Any:
        """The command's output read as one JSON document (`inspect …`, or with `--format '{{json .}}'`)."""
        return self._parse(args, self.run(args, limit=limit))

    def rows(self, args: Sequence[str], *, limit: float | None = None) -> list[dict[str, Any]]:
        """A list command (`ps`, `volume ls`, `images`, …) as one dictionary a row; adds the format."""
        command = [*args, "--format", "{{json .}}"]
        return [self._parse(command, line) for line in self.run(command, limit=limit).splitlines() if line.strip()]

    def info(self) -> dict[str, Any]:
        """`docker info` of the daemon. Raises what keeps it from answering."""
        args = ["info", "--format", "{{json .}}"]
        result = self.attempt(args)
        # Older clients exit 0 with the daemon's absence among the fields.
        trouble = "\n".join(_parse_quietly(result.out).get("ServerErrors") or [])
        if result.code or trouble:
            raise self._error(args, Result(result.code, "", result.err + trouble))
        found: dict[str, Any] = self._parse(args, result.out)
        return found

    def available(self) -> bool:
        """True when there is a docker command and its daemon answers this user."""
        try:
            self.info()
        except DockerError:
            return False
        return True

    def _parse(self, args: Sequence[str], text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError:
            raise DockerError(
                f"`docker {_shown(args)}` did not print JSON but: {text.strip()[:200] or 'nothing'}\n"
                "fix: see whether `docker` is Docker's own command, version 20.10 or newer (`docker version`)"
            ) from None

    def _address(self) -> str:
        return self.env.get("DOCKER_HOST") or self.__dict__.get("host") or "the default address"

    def _error(self, args: Sequence[str], result: Result) -> DockerError:
        said = result.err.strip() or result.out.strip() or f"exit status {result.code}"
        if _FORBIDDEN.search(said):
            return DaemonForbidden(
                f"this user may not talk to the Docker daemon at {self.host}: permission denied\n"
                "fix: `sudo usermod -aG docker $USER`, then sign out and in again (or `newgrp docker` here)"
            )
        if _DOWN.search(said):
            return DaemonDown(f"the Docker daemon does not answer at {self.host}: {_last_line(said)}\n{self._start()}")
        return DockerError(f"`docker {_shown(args)}` failed: {said}")

    def _start(self) -> str:
        if self.remote:
            return (
                "fix: see whether that machine lets you in (for ssh:// `ssh <host> docker version`), "
                "or unset DOCKER_HOST and DOCKER_CONTEXT to use this machine's daemon"
            )
        return "fix: start it (`sudo systemctl start docker`; without systemd, as root, `dockerd &`)"


def _shown(args: Sequence[str]) -> str:
    return " ".join(args)


def _last_line(text: str) -> str:
    return text.splitlines()[-1].strip()


def _parse_quietly(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
