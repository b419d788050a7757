"""Who may know whom: the arrows between folders, and words that have one place only."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

from tests.support.samples import ROOT

FOLDERS: Final = ("stack", "ops", "offline", "policy", "loadtests")

# Folder -> our modules that it may import; a name ending in a dot allows everything below it.
ARROWS: Final = {
    "stack": ("stack.",),
    "ops": (
        "ops.", "offline.", "stack.versions", "stack.capacity.",
        # which images a configuration needs
        "stack.parts",
        # the model, and what reads a stack file into it without Pulumi
        "stack.config.model", "stack.config.access", "stack.config.gateway", "stack.config.resources",
        "stack.config.explain", "stack.config.units",
        # a load run's words and profile are refused before anything is deployed for it
        "loadtests.runs.beforehand", "loadtests.runs.words", "loadtests.workload.mix", "loadtests.workload.profiles",
        # the answer that `make size` prints, and what it is given in
        "loadtests.sizing", "loadtests.sizing.", "loadtests.results.store", "loadtests.analysis.slo",
    ),
    "offline": ("offline.", "stack.versions"),
    "policy": ("policy.", "stack.capacity", "stack.config.model", "stack.versions"),
    "loadtests": (
        "loadtests.", "stack.capacity.", "stack.config.access", "stack.config.model", "stack.config.units",
        "stack.versions",
    ),
}  # fmt: skip

# Room -> rooms whose modules it may import, beside what all share.
SHARED: Final = {"config", "versions", "parts", "shape", "service", "outputs", "host"}
ROOMS: Final = {
    "config": {"config", "parts", "capacity"},
    "versions": set[str](),
    "shape": set[str](),
    "outputs": set[str](),
    "parts": {"config"},
    "capacity": {"capacity"},
    "service": {"config", "host", "shape"},
    "host": {"host", "parts"},
    "gateway": SHARED | {"gateway"},
    "inference": SHARED | {"inference"},
    "memory": SHARED | {"memory"},
    "chat": SHARED | {"chat", "gateway", "memory"},
    "observability": SHARED | {"observability"},
    "services": SHARED | {"services", "gateway"},
}

# The rooms of the load tests, each above all that it may import.
LOADTESTS: Final = {
    "records": set[str](),
    "target": set[str](),
    "workload": set[str](),
    "analysis": {"records"},
    "results": {"analysis", "records"},
    "report": {"records", "results"},
    "compare": {"analysis", "client", "records", "report", "results"},
    "sizing": {"analysis", "report", "results"},
    "machine": {"analysis", "records", "results", "target"},
    "client": {"records"},
    "users": {"client", "records", "target", "workload"},
    "generator": {"analysis", "client", "records", "target", "users", "workload"},
    "runs": {"analysis", "client", "compare", "generator", "records", "report", "results", "target", "workload"},
    "run": {
        "analysis", "compare", "generator", "machine", "records", "report", "results", "runs", "target", "users",
        "workload",
    },
    "locustfile": {"analysis", "generator", "report", "results", "target", "workload"},
}  # fmt: skip


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(text: str) -> Iterator[str]:
    """Every module of ours that a text imports, `from a import b` as both `a` and `a.b` could be: the module."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module in FOLDERS or (ROOT.joinpath(*node.module.split("."))).is_dir():
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module


def strays(folder: str, text: str) -> list[str]:
    """Imports that the arrows do not allow."""
    ours = [name for name in imports(text) if name.partition(".")[0] in (*FOLDERS, "tests", "__main__")]
    return [n for n in ours if not any(n == a or (a.endswith(".") and n.startswith(a)) for a in ARROWS[folder])]


@pytest.mark.parametrize("folder", [folder for folder in FOLDERS if (ROOT / folder).is_dir()])
def test_folders_follow_the_arrows(folder: str) -> None:
    assert sources(folder)
    found = {str(file.relative_to(ROOT)): strays(folder, file.read_text()) for file in sources(folder)}
    assert {file: names for file, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("folder", "line"),
    [
        ("stack", "import ops"),
        ("stack", "from offline.images import build"),
        ("offline", "from ops import paths"),
        ("offline", "from stack.config.model import Platform"),
        ("ops", "from stack.gateway import routes"),
        ("ops", "from stack import service"),
    ],
)
def test_a_forbidden_import_is_noticed(folder: str, line: str) -> None:
    assert strays(folder, line)


@pytest.mark.parametrize(
    ("folder", "rooms"), [("stack", ROOMS), ("loadtests", {room: below | {room} for room, below in LOADTESTS.items()})]
)
def test_rooms_know_only_the_rooms_below_them(folder: str, rooms: dict[str, set[str]]) -> None:
    seen, wrong = set(), {}
    for file in sources(folder):
        room = file.relative_to(ROOT / folder).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        seen.add(room)
        known = {name.split(".")[1] for name in imports(file.read_text()) if name.startswith(f"{folder}.")}
        if known - rooms.get(room, set()):
            wrong[str(file.relative_to(ROOT))] = sorted(known - rooms.get(room, set()))
    assert wrong == {}
    assert seen == set(rooms), "a room that this table does not know, or knows in vain"


def test_no_room_of_the_load_tests_is_above_itself() -> None:
    assert set(TopologicalSorter(LOADTESTS).static_order()) == set(LOADTESTS)


def test_only_parts_knows_where_parts_come_from() -> None:
    words = re.compile(r"mirror|terraform|adapter|127\.0\.0\.1:50", re.IGNORECASE)
    files = [file for file in sources("stack") if file.name != "parts.py"]
    assert len(files) > 20
    assert [str(f.relative_to(ROOT)) for f in files if words.search(f.read_text())] == []
    assert words.search((ROOT / "stack" / "parts.py").read_text())


# The one place where a transport may be unchecked: a model registry of the package mirrors, on this machine, whose
# models are verified by digest; and gRPC between a plugin and the engine beside it, on loopback.
UNCHECKED: Final = re.compile(
    r"verify\s*=\s*False|\binsecure|CERT_NONE|_create_unverified|InsecureSkipVerify|curl[^\n]* -k\b"
)
ALLOWED: Final = {
    "stack/parts.py": {"insecure"},
    "stack/inference/component.py": {"insecure"},
    "stack/inference/reconcile.py": {"insecure"},
    "offline/images/build.py": {"insecure"},
    "offline/models/publish.py": {"insecure"},
    "offline/plugins": {"insecure"},
    "tests/unit/": {"insecure"},
    # OpenAI's own word in the subprotocol that carries a key
    "tests/attack/": {"insecure"},
}


def test_certificates_are_always_checked() -> None:
    files = [f for folder in FOLDERS for f in sources(folder)] + [ROOT / "__main__.py", ROOT / "Makefile"]
    files += [*(ROOT / "images").rglob("*.go"), *(ROOT / "tests").rglob("*.py"), ROOT / ".ci" / "run"]
    found: dict[str, set[str]] = {}
    for file in files:
        name = str(file.relative_to(ROOT))
        if hits := set(UNCHECKED.findall(file.read_text())):
            allowed = {word for place, words in ALLOWED.items() if name.startswith(place) for word in words}
            if hits - allowed and file != Path(__file__):
                found[name] = hits - allowed
    assert found == {}


@pytest.mark.parametrize(
    "line", ["get(url, verify=False)", "InsecureSkipVerify: true", "curl -s -k https://x", "ssl.CERT_NONE"]
)
def test_an_unchecked_certificate_is_noticed(line: str) -> None:
    assert UNCHECKED.search(line)
