"""What was chosen for a stack, kept with its state: `<state>/stacks/<stack>.json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ops import paths
from ops.errors import OpsError
from ops.files import read_json, write_json
from ops.request import Source


@dataclass(frozen=True, kw_only=True)
class Record:
    """Sticky choices of one stack. `checked` is a CLI on PATH that was found good: path, size, time of change."""

    source: Source | None = None
    checked: str | None = None


def folder() -> Path:
    """Where the records of all stacks are, readable by their owner only."""
    return paths.private_folder(paths.private_folder(paths.state()) / "stacks")


def file(stack: str) -> Path:
    """The record of one stack."""
    return folder() / f"{stack}.json"


def load(stack: str) -> Record:
    """The record, or an empty one before the first `up`. Raises OpsError when the file is damaged."""
    path = file(stack)
    if not path.exists():
        return Record()
    data = read_json(path)
    if not isinstance(data, dict) or data.get("source") not in {None, "official", "mirror"}:
        raise OpsError(
            f"{path} is damaged: it should say where the parts of stack {stack} come from\n"
            f"fix: delete it and run `make up STACK={stack} SOURCE=official` (or SOURCE=mirror), as it was before"
        )
    return Record(source=data["source"], checked=data.get("checked"))


def save(stack: str, record: Record) -> None:
    """Writes the record when it differs from what is there."""
    if load(stack) != record:
        write_json(file(stack), asdict(record))


def remember(stack: str, **changes: str) -> None:
    """Changes single fields of the record."""
    save(stack, replace(load(stack), **changes))  # type: ignore[arg-type]
