"""Every message that the troubleshooting page quotes is one that the program says."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.support.samples import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
GAP = "…"  # what a message fills in


def quoted() -> list[str]:
    """The first cell of each row of the first table, without its backticks."""
    table = PAGE.split("## What others say", maxsplit=1)[0]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    return [row.strip("|").split(" | ")[0].strip() for row in rows]


@cache
def texts() -> str:
    """All strings of the program, one a line, `…` for each value that is put in."""
    found = []
    for folder in ("ops", "offline", "stack"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = [str(part.value) if isinstance(part, ast.Constant) else GAP for part in node.values]
                    found.append("".join(parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    for file in sorted((ROOT / "images" / "gateway").rglob("*.go")):
        if not file.name.endswith("_test.go"):
            found += re.findall(r'"((?:[^"\\\n]|\\.)*)"', file.read_text())
    return "\n".join(found)


def test_there_are_rows_and_each_quotes_a_message() -> None:
    assert len(quoted()) > 10
    assert [cell for cell in quoted() if not re.fullmatch(r"`[^`]+`", cell)] == []


@pytest.mark.parametrize("cell", quoted())
def test_a_quoted_message_is_in_the_program(cell: str) -> None:
    phrase = cell.strip("`").removesuffix(GAP).strip()
    assert phrase in texts()
