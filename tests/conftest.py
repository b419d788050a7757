"""Marks by folder: a test in `tests/<folder>/` carries the mark `<folder>`, so that none can be left unselected."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
LADDER = ("unit", "contracts", "rendered", "tools", "live")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder not in LADDER:
            pytest.exit(f"{item.path}: tests live in tests/{{{','.join(LADDER)}}}/", returncode=4)
        item.add_marker(folder)
