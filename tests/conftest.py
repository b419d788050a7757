"""Marks by folder: a test in `tests/<folder>/` carries the mark `<folder>`, so that none can be left unselected.

And the fixture `plan`: what the real program registers, once for each sample.
"""

from __future__ import annotations

import os
import signal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pulumi  # noqa: F401  before a plugin's stand-in of that name, which the program cannot run on
import pytest

from tests.support.samples import SAMPLES

if TYPE_CHECKING:
    from tests.support.recorder import Plan

# Started behind a shell (`make test &`), we and all that we start would not hear Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

TESTS: Final = Path(__file__).parent
LADDER: Final = ("unit", "contracts", "rendered", "contract", "tools", "live")
FAST: Final = LADDER[:3]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="write the golden files of tests/rendered anew")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder not in LADDER:
            pytest.exit(f"{item.path}: tests live in tests/{{{','.join(LADDER)}}}/", returncode=4)
        item.add_marker(folder)


@pytest.fixture(autouse=True)
def _nothing_of_the_shell(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a person's shell says of Pulumi, Docker and us does not reach the fast tests."""
    if request.path.relative_to(TESTS).parts[0] in FAST:
        for name in [n for n in os.environ if n.startswith(("PULUMI_", "DOCKER_", "PRIVATE_LLM_"))]:
            monkeypatch.delenv(name)


@cache
def recorded(sample: str) -> Plan:
    """The plan of a sample, made once: about 0.2 s each."""
    from tests.support.recorder import record  # Pulumi and its Docker package take a second to import

    return record(SAMPLES[sample])


@pytest.fixture(params=SAMPLES)
def plan(request: pytest.FixtureRequest) -> Plan:
    """What the real program registers for a sample; a test that takes it runs once for each."""
    return recorded(request.param)
