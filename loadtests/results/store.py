"""Results as files: JSON, and CSV with a row for each request. The same result gives the same bytes.

Files are written whole or not at all. Nothing in here knows a key.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from loadtests.analysis import metrics
from loadtests.records import Outcome, Record, in_order
from loadtests.results.schema import VERSION, Result

COLUMNS: Final = (
    "scenario", "model", "session", "turn", "worker", "intended_s", "late_ms", "connect_ms", "tls_ms", "ttft_ms",
    "ttfo_ms", "tpot_ms", "e2e_ms", "pieces", "coalesced", "asked_tokens", "input_tokens", "cached_tokens",
    "output_tokens", "outcome", "status", "error",
)  # fmt: skip
_WHOLE: Final = (
    "session", "turn", "worker", "pieces", "coalesced", "asked_tokens", "input_tokens", "cached_tokens",
    "output_tokens", "status",
)  # fmt: skip
_TIMES: Final = ("intended_s", "late_ms", "connect_ms", "tls_ms", "ttft_ms", "ttfo_ms", "tpot_ms", "e2e_ms")
_ALWAYS: Final = ("session", "turn", "worker", "pieces", "coalesced", "intended_s", "late_ms", "e2e_ms")
"""Columns that every request has a number in; the others may be empty."""
_MOST: Final = 1e12
"""Of a time in a row; milliseconds, that is 30 years."""
_AGAIN: Final = "run the test again, or give the folder of another run"


class CannotWrite(OSError):
    """A result could not be written; the message says where, why, and what to do."""


class CannotRead(ValueError):
    """A file is no result of ours; the message says where and why."""


def to_json(result: Result) -> str:
    """The same result gives the same bytes."""
    return json.dumps(result.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False) + "\n"


NAME: Final = "result.json"
NONE: Final = f"there is no {NAME}: give the folder that `make load` wrote (it is named in its last line)"


def read(path: Path) -> Result:
    """A result from its file.

    Raises:
        CannotRead: it is not there, no JSON, of another version, or not of this form.
    """
    try:
        content: Any = json.loads(text(path))
    except CannotRead:
        raise
    except (ValueError, RecursionError) as error:
        raise CannotRead(f"{path} cannot be read as a result: {error}; {_AGAIN}") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != VERSION:
        raise CannotRead(f"{path} has schema_version {version!r}; this program reads {VERSION}: run the test again")
    try:
        return Result.model_validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise CannotRead(f"{path} is no result of this version: {place}: {first['msg']}; run the test again") from error


def text(path: Path) -> str:
    """A file of a run. Raises CannotRead where it is not there, or no text."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CannotRead(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise CannotRead(f"{path} cannot be read: byte {error.start} of it is no text; {_AGAIN}") from None


def rows(content: str, name: str) -> list[dict[str, str]]:
    """The requests of a `requests.csv`, each a whole row whose numbers are some; `name` is for messages.

    Raises:
        CannotRead: with the line and the cell that are wrong, or because there is no request in it.
    """
    found, reader = [], csv.reader(io.StringIO(content))
    try:
        head = next(reader, [])
        found = [_row(head, cells) for cells in reader if cells]
    except (csv.Error, ValueError) as error:
        line = max(reader.line_num, 1)
        raise CannotRead(f"{name}, line {line} is no request as a load run writes it ({error}); {_AGAIN}") from None
    if not found:
        raise CannotRead(f"{name} has no request in it; {_AGAIN}")
    return found


def requests(path: Path) -> list[dict[str, str]]:
    """The requests of a run from its `requests.csv`. Raises CannotRead as `text` and `rows` do."""
    return rows(text(path), str(path))


def _row(head: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    if len(cells) != len(head):
        raise ValueError(f"it has {len(cells)} cells, the header has {len(head)}: was it cut?")
    row = dict(zip(head, cells, strict=True))
    if missing := [column for column in COLUMNS if column not in row]:
        raise ValueError(f"it has no {', '.join(missing)}")
    for column in (*_WHOLE, *_TIMES):
        cell = row[column]
        if (cell or column in _ALWAYS) and not (_whole(cell) if column in _WHOLE else _time(cell)):
            raise ValueError(f"{column}: {cell[:40]!r} is no number that can be")
    if row["outcome"] not in set(Outcome):
        raise ValueError(f"outcome: {row['outcome'][:40]!r} is none; there are {', '.join(Outcome)}")
    return row


def _whole(cell: str) -> bool:
    return cell.isascii() and cell.isdecimal() and len(cell) <= 12


def _time(cell: str) -> bool:
    try:
        return abs(float(cell)) <= _MOST  # not for nan either
    except ValueError:
        return False


def to_csv(records: Sequence[Record]) -> str:
    """A row for each request, in the order of the intended starts; an empty cell for what is not known."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    ordered = in_order(records)
    low = ordered[0].intended_ns if ordered else 0
    for one in ordered:
        writer.writerow(
            [
                one.scenario, one.model, one.session, one.turn, one.worker, f"{(one.intended_ns - low) / 1e9:.6f}",
                _ms(metrics.late(one)), _ms(_seconds(one.connect_ns)), _ms(_seconds(one.tls_ns)),
                _ms(metrics.ttft(one)), _ms(metrics.ttfo(one)), _ms(metrics.tpot(one)), _ms(metrics.e2e(one)),
                len(one.pieces_ns), one.coalesced, _cell(one.asked_tokens), _cell(one.input_tokens),
                _cell(one.cached_tokens), _cell(one.output_tokens), one.outcome.value, _cell(one.status),
                _harmless(one.error),
            ]
        )  # fmt: skip
    return out.getvalue()


def _seconds(duration: int | None) -> float | None:
    return None if duration is None else duration / metrics.SECOND


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:.3f}"


def _cell(value: int | None) -> str:
    return "" if value is None else str(value)


def _harmless(text: str) -> str:
    """A server's words: a spreadsheet must not take them for a formula."""
    return "'" + text if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text


def write(folder: Path, files: Mapping[str, str]) -> list[Path]:
    """Writes texts as files of a folder, each whole or not at all; what was there before stays until then.

    Raises:
        CannotWrite: the disk is full or the folder cannot be written; nothing half-written is left.
    """
    written = []
    fresh = folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            fresh = folder / f".{name}.{os.getpid()}.new"
            try:
                with fresh.open("w", encoding="utf-8", newline="") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                fresh.replace(folder / name)
            finally:
                fresh.unlink(missing_ok=True)
            written.append(folder / name)
    except OSError as error:
        done = ", ".join(path.name for path in written) or "none"
        raise CannotWrite(
            f"{folder}: {name_of(fresh)} could not be written ({error.strerror or error}); written before it: {done}. "
            "Make room or choose another folder with OUT=…, and run again"
        ) from error
    return written


def name_of(path: Path) -> str:
    """The name that a file is to have."""
    return path.name.strip(".").rsplit(".", 2)[0] if path.name.endswith(".new") else path.name
