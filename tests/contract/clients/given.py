"""What a check is given, and how one script of checks is run: `python -m clients.given <script>`.

One JSON line for each check: {"name": …, "error": null | "traceback", "notes": {…}}.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[[], object])
E = TypeVar("E", bound=Exception)

URL = os.environ["CONTRACT_URL"]
KEY = os.environ["CONTRACT_KEY"]
KEYS: dict[str, str] = json.loads(os.environ.get("CONTRACT_KEYS", "{}"))
OWN = os.environ.get("CONTRACT_OWN") == "1"
WRONG = os.environ.get("CONTRACT_WRONG") == "1"


def on_fakes(check: F) -> F:
    """Marks a check that provokes the gateway or needs the answers of the suite's own engine."""
    check.on_fakes = True  # type: ignore[attr-defined]
    return check


def wrong_key(check: F) -> F:
    """Marks a check that shows a wrong key."""
    check.wrong_key = True  # type: ignore[attr-defined]
    return check


@contextmanager
def raises(kind: type[E]) -> Iterator[list[E]]:
    """Holds the error that must be raised within, once it was."""
    caught: list[E] = []
    try:
        yield caught
    except kind as error:
        caught.append(error)
    else:
        raise AssertionError(f"no {kind.__name__} was raised")


def allowed(check: Callable[[], object]) -> bool:
    """Whether a check may run against the gateway at hand."""
    return (OWN or not hasattr(check, "on_fakes")) and (WRONG or not hasattr(check, "wrong_key"))


def run(script: str) -> None:
    """Runs the checks of one script in their order."""
    module: Any = import_module(f"clients.{script}")
    for name, check in inspect.getmembers(module, inspect.isfunction):
        if name.startswith("_") or check.__module__ != module.__name__ or not allowed(check):
            continue
        try:
            notes, error = check(), None
        except BaseException:  # noqa: BLE001 - it is reported, with everything that it says
            notes, error = None, traceback.format_exc()
        print(json.dumps({"name": name, "error": error, "notes": notes}), flush=True)  # noqa: T201 - this is how it is heard


if __name__ == "__main__":
    run(sys.argv[1])
