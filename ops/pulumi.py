"""The Pulumi CLI with everything it needs in its environment; `make env` gives a shell the same."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Final

from ops import paths, record
from ops.bootstrap import Tools
from ops.errors import OpsError
from ops.progress import say

PROJECT: Final = "private-llm"
# As stack/outputs.py names them.
CONFIG_FILES: Final = "configFiles"
MODEL_SET: Final = "modelSet"
SERVICES: Final = "services"
# Set by `make env` for one stack: a call for another stack in the same shell must not take them over.
OURS: Final = ("PULUMI_CONFIG_PASSPHRASE_FILE", "PULUMI_BACKEND_URL", "PRIVATE_LLM_LOCK")


FORCED: Final = 2  # Pulumi stops at once at the second Ctrl-C; should it hang all the same, the third one ends it


class PulumiError(OpsError):
    """A Pulumi call failed; the text is what it said."""


def own_backend() -> Path:
    """The file backend that is used unless the person has another one."""
    return paths.state() / "backend"


def cloud(env: Mapping[str, str]) -> bool:
    """True when state and secrets are kept by Pulumi's service: it needs no passphrase."""
    backend = env.get("PULUMI_BACKEND_URL", "")
    return backend.startswith("http") or (not backend and bool(env.get("PULUMI_ACCESS_TOKEN")))


def foreign(env: Mapping[str, str]) -> dict[str, str]:
    """The environment without what an earlier `make env` put there."""
    mine = (str(paths.passphrases()), f"file://{own_backend()}", str(record.folder()), str(paths.cache()))
    return {key: value for key, value in env.items() if not (key in OURS and value.startswith(mine))}


def settings(stack: str, tools: Tools, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What is set for the CLI, beside what the person has set."""
    env = foreign(environ)
    result = {
        "PATH": f"{tools.programs}:{environ.get('PATH', os.defpath)}"
        if str(tools.programs) not in environ.get("PATH", "").split(":")
        else environ["PATH"],
        "PULUMI_HOME": str(paths.cache() / "pulumi"),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_SUPPRESS_NEO_LINK": "true",
        "DOCKER_HOST": tools.docker.host,
        "PRIVATE_LLM_LOCK": str(tools.lock),
    }
    if not env.get("PULUMI_BACKEND_URL") and not env.get("PULUMI_ACCESS_TOKEN"):
        paths.private_folder(own_backend())
        result["PULUMI_BACKEND_URL"] = f"file://{own_backend()}"
    if not cloud(env) and not env.get("PULUMI_CONFIG_PASSPHRASE") and not env.get("PULUMI_CONFIG_PASSPHRASE_FILE"):
        result["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(paths.passphrases() / stack)
    return result


def exports(values: Mapping[str, str]) -> str:
    """Shell lines that set the values."""
    return "\n".join(f"export {key}={shlex.quote(value)}" for key, value in values.items())


class Pulumi:
    """The CLI on one stack."""

    def __init__(self, stack: str, tools: Tools) -> None:
        self.stack: Final = stack
        self.tools: Final = tools
        self.root: Final = paths.ROOT
        self.env: Final = {**foreign(os.environ), **settings(stack, tools)}

    @property
    def file(self) -> Path:
        """The stack's settings in the working tree."""
        return self.root / f"Pulumi.{self.stack}.yaml"

    @property
    def keeps_files(self) -> bool:
        """Whether the state is in our own folder."""
        return self.env.get("PULUMI_BACKEND_URL") == f"file://{own_backend()}"

    @property
    def checkpoint(self) -> Path:
        """The state file, where it is in our own folder."""
        return own_backend() / ".pulumi" / "stacks" / PROJECT / f"{self.stack}.json"

    @property
    def locks(self) -> Path:
        """Where the file backend marks a running update."""
        return own_backend() / ".pulumi" / "locks" / "organization" / PROJECT / self.stack

    def call(self, *args: str, text: str | None = None, secret: bool = False, apart: bool = False) -> str:
        """Runs the CLI on this stack and returns what it prints. `text` is its standard input: secrets only there.

        `apart`: the terminal's Ctrl-C does not reach it.
        """
        done = subprocess.run(
            [self.tools.pulumi, *args, "--stack", self.stack, "--non-interactive"],
            cwd=self.root,
            env=self.env,
            input=text if text is not None else "",
            capture_output=True,
            text=True,
            check=False,
            start_new_session=apart,
        )
        if done.returncode:
            what = f"`pulumi {args[0]}`" if secret else f"`pulumi {' '.join(args)}`"
            raise PulumiError(f"{what} failed: {reason(done.stderr or done.stdout)}")
        return done.stdout

    def export(self) -> dict[str, Any]:
        """The stack's deployment (secrets stay encrypted); empty before the first `up`."""
        if self.keeps_files and not self.checkpoint.exists():
            return {}
        deployment: dict[str, Any] = json.loads(self.call("stack", "export")).get("deployment") or {}
        return deployment

    def config_files(self, deployment: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The output that the drift check reads; what people chose themselves has no hash in it."""
        found = outputs(deployment).get(CONFIG_FILES) or []
        if isinstance(found, dict):
            found = json.loads(self.call("stack", "output", CONFIG_FILES, "--json", "--show-secrets"))
        files: list[dict[str, Any]] = found
        return files

    def run(self, *args: str) -> int:
        """Runs the CLI on the terminal. Ctrl-C reaches it as a request to stop; a second one forces it."""
        # A session of its own, so that the terminal's Ctrl-C comes through here only.
        process = subprocess.Popen(
            [self.tools.pulumi, *args, "--stack", self.stack],
            cwd=self.root,
            env=self.env,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        stopped = 0

        def stop(_number: int, _frame: FrameType | None) -> None:
            nonlocal stopped
            stopped += 1
            if stopped == 1:
                say("\nstopping after the steps that are under way (Ctrl-C again: at once)...")
            if stopped <= FORCED:
                process.send_signal(signal.SIGINT)
            else:
                os.killpg(process.pid, signal.SIGKILL)

        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.getsignal(number) for number in signals}
        main = threading.current_thread() is threading.main_thread()
        if main:
            for number in signals:
                signal.signal(number, stop)
        try:
            code = process.wait()
        finally:
            if main:
                for number, handler in before.items():
                    signal.signal(number, handler)
        if stopped:
            raise KeyboardInterrupt
        return code


def reason(text: str) -> str:
    """What Pulumi said, without colours and its own prefix."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text).strip()
    return re.sub(r"^error: ", "", plain) or "it said nothing"


def outputs(deployment: Mapping[str, Any]) -> dict[str, Any]:
    """The stack's outputs in an exported deployment."""
    for resource in deployment.get("resources", ()):
        if resource.get("type") == "pulumi:pulumi:Stack":
            found: dict[str, Any] = resource.get("outputs", {})
            return found
    return {}
