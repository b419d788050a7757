"""This machine as the checks see it: the one place that reads /proc and /dev and runs commands other than docker."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from ops.docker import Result, run_process

_LISTEN = "0A"


@dataclass(frozen=True)
class Listener:
    """A listening TCP socket; `inode` leads to its process."""

    address: str
    port: int
    inode: str


@dataclass(frozen=True)
class Host:
    """Access to the machine; tests give another root, runner or disk."""

    root: Path = Path("/")
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    runner: Callable[[Sequence[str], dict[str, str], float, str | None], Result] = run_process
    disk_free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free

    def exists(self, path: str) -> bool:
        """Whether there is such a file or device."""
        return (self.root / path.lstrip("/")).exists()

    def names(self, folder: str) -> list[str]:
        """What is in a folder; nothing when there is none."""
        try:
            return sorted(entry.name for entry in (self.root / folder.lstrip("/")).iterdir())
        except OSError:
            return []

    def run(self, *command: str) -> Result | None:
        """How a command ended within 10 s; None where it is not installed or gives no answer."""
        try:
            return self.runner(command, self.environment, 10, None)
        except (OSError, subprocess.TimeoutExpired):
            return None

    def free_bytes(self, path: str) -> int | None:
        """Free space of the file system that holds the path (or will hold it); None when it cannot be read."""
        folder = self.root / path.lstrip("/")
        for candidate in (folder, *folder.parents):
            try:
                return self.disk_free(candidate)
            except FileNotFoundError:
                continue
            except OSError:
                return None
        return None

    def listeners(self) -> list[Listener] | None:
        """Every listening TCP socket; None where the system has no /proc/net."""
        tables = [self.root / "proc/net" / name for name in ("tcp", "tcp6")]
        if not tables[0].exists():
            return None
        return [listener for table in tables if table.exists() for listener in _listening(table.read_text())]

    def is_taken(self, address: str, port: int) -> bool:
        """Whether binding fails with "in use", for systems without /proc/net."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as probe:
            try:
                probe.bind((address, port))
            except PermissionError:
                return False
            except OSError:
                return True
        return False

    def process_of(self, inode: str) -> str | None:
        """The process that holds a socket, for example "nginx (pid 812)"; None when this user may not see it."""
        wanted = Path(f"socket:[{inode}]")
        for pid in (name for name in self.names("/proc") if name.isdigit()):
            folder = self.root / "proc" / pid
            if any(_points_to(folder / "fd" / link, wanted) for link in self.names(f"/proc/{pid}/fd")):
                try:
                    return f"{(folder / 'comm').read_text().strip()} (pid {pid})"
                except OSError:  # it ended meanwhile
                    return None
        return None


def _points_to(link: Path, target: Path) -> bool:
    try:
        return link.readlink() == target
    except OSError:  # closed meanwhile
        return False


def _listening(table: str) -> Iterator[Listener]:
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTEN:
            address, port = fields[1].split(":")
            yield Listener(_address(address), int(port, 16), fields[9])


def _address(text: str) -> str:
    """The kernel's hexadecimal form: 32-bit words in the machine's own byte order."""
    packed = b"".join(struct.pack("=I", int(text[start : start + 8], 16)) for start in range(0, len(text), 8))
    if len(packed) == 4:
        return str(IPv4Address(packed))
    address = IPv6Address(packed)
    return str(address.ipv4_mapped or address)
