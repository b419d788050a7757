"""Clients with an address of their own: a network namespace each, on a cable to this machine. Needs root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Namespace:
    """One client's network: `here` is this machine's end of its cable."""

    name: str
    here: str

    @property
    def under(self) -> tuple[str, ...]:
        """The command that runs another one in it."""
        return ("ip", "netns", "exec", self.name)


def possible() -> bool:
    """Whether namespaces can be made here."""
    return os.geteuid() == 0 and shutil.which("ip") is not None


@contextmanager
def namespace(number: int) -> Iterator[Namespace]:
    """Makes a namespace and takes it away again. 198.18.0.0/15 is set aside for benchmarks (RFC 2544)."""
    mark = f"{os.getpid() % 50000}"
    one = Namespace(f"bench-{mark}-{number}", f"198.18.{int(mark) % 250}.{4 * number + 1}")
    there = f"198.18.{int(mark) % 250}.{4 * number + 2}"
    cable, far = f"b{mark}h{number}", f"b{mark}n{number}"
    _ip("netns", "add", one.name)
    try:
        _ip("link", "add", cable, "type", "veth", "peer", "name", far, "netns", one.name)
        _ip("addr", "add", f"{one.here}/30", "dev", cable)
        _ip("link", "set", cable, "up")
        _ip("-n", one.name, "addr", "add", f"{there}/30", "dev", far)
        _ip("-n", one.name, "link", "set", far, "up")
        _ip("-n", one.name, "link", "set", "lo", "up")
        yield one
    finally:
        _ip("netns", "delete", one.name)  # the cable goes with it


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
