"""`python -m ops`: what goes wrong comes out as a sentence, never as a traceback."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ops import __main__ as entry
from ops import files
from ops.errors import OpsError


def told(trouble: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    def command(_request: object) -> int:
        raise trouble

    monkeypatch.setattr(entry, "find", lambda _name: command)
    code = entry.main(["status"])
    out, err = capsys.readouterr()
    assert out == ""
    return code, err


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (OpsError("no\nfix: yes"), "error: no\nfix: yes\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/s/a.json"),
            "error: /s/a.json: No space left on device\n"
            "fix: make room on that disk, then run the same again: a file is written whole or not at all\n",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/s/a.json"),
            "error: /s/a.json: Permission denied\n"
            "fix: let this account read and write there, then run the same again\n",
        ),
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
            "error: Connection refused\nfix: see to what is named there, then run the same again\n",
        ),
        (OSError("odd"), "error: odd\nfix: see to what is named there, then run the same again\n"),
    ],
    ids=["ours", "full disk", "not allowed", "network", "no number"],
)
def test_trouble_is_a_sentence_and_exit_status_1(
    trouble: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(trouble, monkeypatch, capsys) == (1, said)


def test_a_pipe_that_was_closed_is_no_trouble(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(BrokenPipeError(errno.EPIPE, "Broken pipe"), monkeypatch, capsys) == (141, "")


@pytest.mark.parametrize("write", [files.write_atomic, files.write_new])
def test_a_full_disk_names_the_file_and_leaves_what_was_there(
    write: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "kept").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    assert callable(write)
    with pytest.raises(OSError, match="No space left") as raised:
        write(tmp_path / "kept", "new")
    assert raised.value.filename == str(tmp_path / "kept")
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {"kept": "old"}


def test_a_name_that_is_taken_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("old")
    with pytest.raises(FileExistsError, match="kept"):
        files.write_new(tmp_path / "kept", "new")
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {"kept": "old"}
