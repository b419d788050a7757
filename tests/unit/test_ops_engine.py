"""Starting the Docker engine by hand."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ops import engine
from ops.errors import OpsError


def test_what_outlives_us_has_a_session_of_its_own_and_a_log(tmp_path: Path) -> None:
    says = "import os, sys; print(os.getsid(0) == os.getpid(), sys.stdin.read() == ''); print('!', file=sys.stderr)"
    pid = engine.detached([sys.executable, "-c", says], tmp_path / "log")
    assert os.waitpid(pid, 0) == (pid, 0)
    assert sorted((tmp_path / "log").read_text().splitlines()) == ["!", "True True"]


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match="no-such-program is not installed"):
        engine.detached(["no-such-program"], tmp_path / "log")
