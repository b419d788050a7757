"""A child process that cannot outlive the plugin, not even when the plugin is killed.

Standard library only: it is started before the slow imports, so that both start at the same time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Child:
    """A running plugin process in a process group of its own, and the watchdog that ends the group with us."""

    process: subprocess.Popen[bytes]
    watchdog: subprocess.Popen[bytes]

    def port(self) -> int:
        """The gRPC port that the process prints first; waits for it. Raises RuntimeError when it ended instead."""
        line = self.process.stdout.readline().strip() if self.process.stdout else b""
        if not line.isdigit():
            raise RuntimeError(f"{self.process.args!r} ended before it served: {line.decode(errors='replace')}")
        return int(line)

    def stop(self) -> None:
        """End the whole group now: at this point the engine has nothing more to ask."""
        self.watchdog.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for process in (self.process, self.watchdog):
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()


def start(command: Sequence[str]) -> Child:
    """Start `command` and its watchdog: a shell that waits for our end of a pipe to close, then ends the group.

    Asking the kernel for a signal at the parent's death would not reach the grandchild, and fires for a thread's death.
    """
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
    watchdog = subprocess.Popen(
        ["/bin/sh", "-c", 'read -r _; kill -KILL "-$0"', str(process.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return Child(process, watchdog)


def reserve_port() -> socket.socket:
    """A socket that holds a free local port for a server that starts later in this process."""
    reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved
