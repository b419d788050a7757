"""Pure rooms do not know Pulumi: they can be imported, tested and used by tools in a fraction of a second."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from functools import cache
from typing import Final

import pytest

from tests.support.samples import ROOT

# What places resources, and the one reader of Pulumi's configuration; everything else under stack/ is pure.
PLACES: Final = {"stack.service", "stack.config.load"}
IMPURE: Final = ("pulumi", "grpc", "gevent", "locust")

_IMPORT_ALL: Final = f"""
import importlib, json, sys
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0].startswith({IMPURE!r}):
            raise ImportError("imports " + name)
sys.meta_path.insert(0, Guard())
wrong = {{}}
for module in sys.argv[1:]:
    try:
        importlib.import_module(module)
    except ImportError as error:
        wrong[module] = str(error)
print(json.dumps([wrong, sorted(m for m in sys.modules if m.partition(".")[0].startswith({IMPURE!r}))]))
"""


@cache
def modules() -> tuple[str, ...]:
    """Every pure module under stack/."""
    found = []
    for file in sorted((ROOT / "stack").rglob("*.py")):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if file.name != "component.py" and name not in PLACES:
            found.append(name)
    return tuple(found)


def imported(*names: str) -> tuple[dict[str, str], list[str]]:
    """(module -> what is wrong, impure modules left over) after importing these in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL, *names], cwd=ROOT, capture_output=True, text=True, check=True
    )
    wrong, left = json.loads(done.stdout)
    return wrong, left


def test_pure_modules_leave_pulumi_alone() -> None:
    assert len(modules()) > 15
    assert imported(*modules()) == ({}, [])


def test_the_guard_notices_a_room_that_is_not_pure() -> None:
    wrong, _ = imported("stack.host.component", "stack.config.load")
    assert wrong == {"stack.host.component": "imports pulumi", "stack.config.load": "imports pulumi"}


@pytest.mark.parametrize("module", modules())
def test_no_import_is_hidden_in_a_function(module: str) -> None:
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    functions = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.FunctionDef)]
    hidden = [f.name for f in functions for n in ast.walk(f) if isinstance(n, ast.Import | ast.ImportFrom)]
    assert hidden == [], f"{module} imports inside {hidden}: this test could not see what"


def test_the_models_script_needs_the_standard_library_alone() -> None:
    tree = ast.parse((ROOT / "stack" / "inference" / "reconcile.py").read_text())
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert names
    assert sorted(name for name in names if name.partition(".")[0] not in sys.stdlib_module_names) == []
