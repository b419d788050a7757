"""Files that are whole or absent: written under a temporary name beside the target, then renamed."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def write_atomic(path: Path, content: str | bytes, mode: int = 0o600) -> None:
    """Replaces `path` in one step; an interrupted write leaves the old file (or none). Raises OSError with its name."""
    data = content.encode() if isinstance(content, str) else content
    with _beside(path, data, mode) as fresh:
        fresh.replace(path)


def write_new(path: Path, content: str, mode: int = 0o600) -> None:
    """Makes `path`, whole or not at all. Raises FileExistsError, leaving what is there, and OSError with its name."""
    with _beside(path, content.encode(), mode) as fresh:
        os.link(fresh, path)  # fails where the name is taken, and never shows half a file as O_EXCL does


@contextlib.contextmanager
def _beside(path: Path, data: bytes, mode: int) -> Iterator[Path]:
    """A whole file under a temporary name beside `path`, gone behind the block if it still has that name."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(mode)
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as trouble:  # a full disk does not say of which file, a refusal names the temporary one
        raise OSError(trouble.errno, trouble.strerror, str(path)) from trouble


def write_json(path: Path, value: object, mode: int = 0o600) -> None:
    """Writes a JSON document people can read."""
    write_atomic(path, json.dumps(value, indent=2, sort_keys=True) + "\n", mode)


def read_json(path: Path) -> Any:
    """The document, or None when there is no such file or it is not JSON."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
