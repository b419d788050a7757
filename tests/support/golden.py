"""Golden files: what is rendered, kept as files, so that a review sees every change of it."""

from __future__ import annotations

import difflib
from pathlib import Path


def compare(rendered: str, golden: Path, *, update: bool) -> None:
    """Fails with a diff when the text differs from the file; `pytest --update` writes the file instead."""
    text = rendered.rstrip("\n") + "\n"
    if update:
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text)
        return
    known = golden.read_text() if golden.exists() else ""
    diff = "".join(
        difflib.unified_diff(
            known.splitlines(keepends=True), text.splitlines(keepends=True), golden.name, "rendered now", n=2
        )
    )
    assert not diff, (
        f"{golden.name} is not what is rendered now; if that is right: pytest tests/rendered --update\n{diff}"
    )
