"""Another machine on the same network segment: a network namespace joined to this machine by a cable of its own.

Needs root on Linux. Its addresses are from 198.18.0.0/15, which is reserved for tests of network devices.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from tests.support.live.waits import until

HERE: Final = "198.18.77.1"
THERE: Final = "198.18.77.2"
PORT: Final = 7777

_LISTEN: Final = """
import socket
listener = socket.create_server((%r, %d))
print("listening", flush=True)
while True:
    listener.accept()[0].close()
"""
_CONNECT: Final = """
import concurrent.futures, socket, sys
def reached(target):
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 2).close()
    except OSError:
        return ""
    return target
with concurrent.futures.ThreadPoolExecutor(32) as pool:
    print("tried", *pool.map(reached, sys.argv[1:]))
"""


def why_not() -> str | None:
    """Why a neighbour cannot be made here, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux"
    return None if shutil.which("ip") else "needs the command `ip` (package iproute2)"


class Neighbour:
    """The other machine."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command there."""
        return subprocess.run(
            ["ip", "netns", "exec", self.name, *command], capture_output=True, text=True, timeout=60, check=False
        )

    def route(self, network: str) -> None:
        """Sends packets for a network to this machine."""
        done = self.run("ip", "route", "replace", network, "via", HERE)
        assert done.returncode == 0, done.stderr

    def reaches(self, targets: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
        """To which of the addresses a connection from there comes about."""
        names = {f"{host}:{port}": (host, port) for host, port in targets}
        done = self.run(sys.executable, "-I", "-c", _CONNECT, *names)
        said = done.stdout.split()
        assert said[:1] == ["tried"], done.stderr
        return {names[name] for name in said[1:]}


@contextmanager
def joined() -> Iterator[Neighbour]:
    """Makes the neighbour, with a listener on THERE:PORT and one here on HERE:PORT; removes all of it."""
    pid = os.getpid()
    name, mine, theirs = f"neighbour-{pid}", f"nbr{pid % 100000}", f"nbs{pid % 100000}"
    neighbour = Neighbour(name)
    _ip("netns", "add", name)
    listeners: list[subprocess.Popen[str]] = []
    try:
        _ip("link", "add", mine, "type", "veth", "peer", "name", theirs, "netns", name)
        _ip("address", "add", f"{HERE}/30", "dev", mine)
        _ip("link", "set", mine, "up")
        for words in (
            ["link", "set", "lo", "up"],
            ["address", "add", f"{THERE}/30", "dev", theirs],
            ["link", "set", theirs, "up"],
            ["route", "add", "default", "via", HERE],
        ):
            done = neighbour.run("ip", *words)
            assert done.returncode == 0, done.stderr
        inside = ["ip", "netns", "exec", name]
        for prefix, address in (([], HERE), (inside, THERE)):
            code = _LISTEN % (address, PORT)
            listener = subprocess.Popen([*prefix, sys.executable, "-I", "-c", code], stdout=subprocess.PIPE, text=True)
            listeners.append(listener)
            assert listener.stdout is not None
            assert listener.stdout.readline().strip() == "listening"
        until("the neighbour is reached from here", lambda: reached_from_here(THERE, PORT), 10)
        yield neighbour
    finally:
        for listener in listeners:
            listener.terminate()
            listener.wait(10)
            if listener.stdout:
                listener.stdout.close()
        subprocess.run(["ip", "link", "delete", mine], capture_output=True, check=False)
        _ip("netns", "delete", name)


def reached_from_here(address: str, port: int) -> bool:
    """Whether a connection from this machine comes about."""
    try:
        socket.create_connection((address, port), 2).close()
    except OSError:
        return False
    return True


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
