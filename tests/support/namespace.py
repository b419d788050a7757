"""A corner of this machine with a loopback of its own: fixed ports and names that nobody else meets."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import tools


@dataclass(frozen=True)
class Namespace:
    """One that is there as long as `pid` runs."""

    pid: int

    def command(self, words: Sequence[str | Path]) -> list[str]:
        """The command as it runs inside."""
        return ["nsenter", f"--target={self.pid}", "--net", "--mount", "--", *(str(word) for word in words)]


@contextmanager
def namespace(folder: Path, names: Sequence[str]) -> Iterator[Namespace]:
    """Makes one in which these names are 127.0.0.1. Needs root and util-linux."""
    if os.geteuid() != 0 or any(shutil.which(word) is None for word in ("unshare", "nsenter", "ip")):
        tools.missing("a network namespace", "root, util-linux and iproute2")
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost {' '.join(names)}\n")
    script = f"mount --bind {hosts} /etc/hosts && ip link set lo up && echo ready && exec cat"
    process = subprocess.Popen(
        ["unshare", "--net", "--mount", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout
    try:
        assert process.stdout.readline() == "ready\n", "the namespace was not made"
        yield Namespace(process.pid)
    finally:
        process.stdin.close()
        process.wait(timeout=10)
        process.stdout.close()
