"""Run one local command of a `command:local:Command` resource: environment, live log, result, cancellation."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

GRACE_S = 3.0  # between asking a cancelled command to end and killing it


class CommandFailed(Exception):
    """The command ended with another status than 0, or could not be started."""


class Runner:
    """The commands that run now, so that a cancellation ends all of them."""

    def __init__(self) -> None:
        self.groups: set[int] = set()
        self.lock = threading.Lock()
        self.cancelled = threading.Event()

    def run(
        self, command: str, inputs: Mapping[str, Any], previous: tuple[str, str], log: Callable[[str], None]
    ) -> tuple[str, str]:
        """Run `command` and return (stdout, stderr), each without its last newline. Raises CommandFailed."""
        if self.cancelled.is_set():
            raise CommandFailed("cancelled before it started")
        stdin = str(inputs.get("stdin", ""))
        try:
            process = subprocess.Popen(
                argv(command, inputs),
                cwd=inputs.get("dir"),
                env=environment(inputs, previous, os.environ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise CommandFailed(f"{error}: running {command!r}") from error
        with self.lock:
            self.groups.add(process.pid)
        try:
            out, err, both = collect(process, stdin, logged_streams(inputs.get("logging")), log)
        finally:
            with self.lock:
                self.groups.discard(process.pid)
        if process.returncode:
            raise CommandFailed(f"{ending(process.returncode)}: running {command!r}:\n{both}")
        return out.removesuffix("\n"), err.removesuffix("\n")

    def cancel(self) -> None:
        """End every running command with all its children, politely first."""
        self.cancelled.set()
        with self.lock:
            groups = set(self.groups)
        for group in groups:
            signal_group(group, signal.SIGTERM)
        threading.Thread(target=self.kill_later, args=(groups,), daemon=True).start()

    def kill_later(self, groups: Iterable[int]) -> None:
        """Kill what ignored the polite end."""
        time.sleep(GRACE_S)
        for group in groups:
            signal_group(group, signal.SIGKILL)

    def kill(self) -> None:
        """Kill everything now: the engine is gone."""
        with self.lock:
            for group in self.groups:
                signal_group(group, signal.SIGKILL)


def signal_group(group: int, number: signal.Signals) -> None:
    """Send a signal to a process group that may be gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def argv(command: str, inputs: Mapping[str, Any]) -> list[str]:
    """The argument vector: the interpreter, by default a shell, and the command as its last argument."""
    return [*map(str, inputs.get("interpreter") or ("/bin/sh", "-c")), command]


def environment(inputs: Mapping[str, Any], previous: tuple[str, str], base: Mapping[str, str]) -> dict[str, str]:
    """The command's environment: ours, what the resource asks for, and the last run's output unless it declines."""
    wanted = {**base, **{str(key): text(value) for key, value in inputs.get("environment", {}).items()}}
    if inputs.get("addPreviousOutputInEnv", True):
        for name, value in zip(("PULUMI_COMMAND_STDOUT", "PULUMI_COMMAND_STDERR"), previous, strict=True):
            if value:
                wanted[name] = value
    return wanted


def text(value: Any) -> str:
    """A property as an environment variable's value."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def logged_streams(logging: str | None) -> frozenset[str]:
    """Which streams are shown while the command runs; both when nothing is said."""
    return {
        "stdout": frozenset({"stdout"}),
        "stderr": frozenset({"stderr"}),
        "none": frozenset[str](),
    }.get(logging or "stdoutAndStderr", frozenset({"stdout", "stderr"}))


def ending(code: int) -> str:
    """How a process ended, in words."""
    return f"signal: {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def collect(
    process: subprocess.Popen[bytes], stdin: str, shown: frozenset[str], log: Callable[[str], None]
) -> tuple[str, str, str]:
    """Feed and drain a process to its end; (stdout, stderr, both as they came)."""
    kept: dict[str, list[str]] = {"stdout": [], "stderr": []}
    both: list[str] = []

    def drain(name: str, stream: Any) -> None:
        for raw in stream:
            line = raw.decode(errors="replace")
            kept[name].append(line)
            both.append(line)
            if name in shown:
                log(line.rstrip("\n"))

    readers = [
        threading.Thread(target=drain, args=(name, stream), daemon=True)
        for name, stream in (("stdout", process.stdout), ("stderr", process.stderr))
    ]
    for reader in readers:
        reader.start()
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(stdin.encode())
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    process.wait()
    for reader in readers:
        reader.join()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    return "".join(kept["stdout"]), "".join(kept["stderr"]), "".join(both)
