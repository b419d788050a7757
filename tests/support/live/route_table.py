"""Open WebUI's real routes and files, read out of its own container."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from tests.support.live.platform import Platform

# A second copy of the application, with data of its own: importing it migrates its database and renews its files.
_SCRIPT: Final = r"""
import contextlib, json, logging, os, pathlib, re, sys, tempfile
data = tempfile.mkdtemp()
os.environ["DATA_DIR"], os.environ["STATIC_DIR"] = data, data + "/static"
os.mkdir(data + "/static")
with contextlib.redirect_stdout(sys.stderr):
    from open_webui.main import app
    from open_webui.env import FRONTEND_BUILD_DIR
def walk(routes, prefix=""):
    for route in routes:
        path = prefix + route.path
        if kind(route) == "Mount":
            yield "MOUNT", path
            yield from walk(route.routes or (), path)
        else:
            for method in getattr(route, "methods", None) or ["WS"]:
                yield method, path
def kind(route):
    return next((base.__name__ for base in type(route).__mro__ if base.__name__ in {"Mount", "Route"}), "other")
build = pathlib.Path(FRONTEND_BUILD_DIR)
script = next(build.glob("_app/immutable/entry/app*.js")).read_text()
files = [f"/{path.name}/" if path.is_dir() else f"/{path.name}" for path in build.iterdir()]
pages = re.findall(r'"(/[^"]*)":\[-?\d+', script)
print("table:" + json.dumps({"routes": list(walk(app.routes)), "files": files, "pages": pages}))
"""


@dataclass(frozen=True)
class Table:
    """What Open WebUI answers to."""

    routes: frozenset[tuple[str, str]]
    """(method, path template); sockets have the method WS, mounted applications MOUNT."""
    files: frozenset[str]
    """Files and folders (they end in `/`) of its pages."""
    pages: frozenset[str]
    """Addresses of its pages, as templates."""


def read(platform: Platform) -> Table:
    """Asks the running chat's own image, with its own settings."""
    command = ["exec", "--workdir", "/app/backend", platform.name("chat"), "python3", "-c", _SCRIPT]
    said = platform.docker.run(command, limit=180)
    table = json.loads(next(line for line in said.splitlines() if line.startswith("table:")).removeprefix("table:"))
    return Table(
        routes=frozenset((method, plain(path)) for method, path in table["routes"]),
        files=frozenset(table["files"]),
        pages=frozenset(
            re.sub(r"/\(\w+\)", "", page).replace("[", "{").replace("]", "}") or "/" for page in table["pages"]
        ),
    )


def plain(path: str) -> str:
    """`{name:path}` is `{name}`: the gateway takes one segment there, whatever Open WebUI would take."""
    return re.sub(r"\{(\w+):\w+\}", r"{\1}", path)
