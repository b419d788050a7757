"""Which processes a process has started."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def children_of(pid: int) -> list[int]:
    """Those that any of its threads has started."""
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, (thread / "children").read_text().split())
    return found


def offspring(pid: int) -> list[int]:
    """Its children, their children, and so on."""
    return [one for child in children_of(pid) for one in (child, *offspring(child))]
