"""A service of one's own inside its container: what it is told, and how its health is asked."""

from __future__ import annotations

import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.preflight.sizes import IMAGES
from stack import versions
from stack.config.services import OWN_NAMES, OwnService
from stack.services import own
from stack.shape import Endpoint
from tests.conftest import recorded
from tests.support.samples import SAMPLES

INNER = Endpoint(host="gateway", port=8081)
QUIET = OwnService(name="status", image="r/x@sha256:" + "0" * 64, port=8080, path="/status", env={"LEVEL": "info"})
ASKING = QUIET.model_copy(update={"api": True})


def test_only_one_that_uses_the_models_knows_where_they_are() -> None:
    assert own.environment(QUIET, INNER) == {"HOME": "/tmp", "PORT": "8080", "LEVEL": "info"}
    assert own.environment(ASKING, INNER)["OPENAI_BASE_URL"] == "http://gateway:8081/v1"


def test_names_of_the_platforms_own_services_and_images_cannot_be_taken() -> None:
    ours = {service for name in SAMPLES for service in recorded(name).services}
    ours -= {service.name for sample in SAMPLES.values() for service in sample.platform.services}
    assert ours - OWN_NAMES <= {"ollama-2"}, "and that is refused by its form"
    assert set(versions.IMAGES) | set(IMAGES) <= OWN_NAMES


class Answers(http.server.BaseHTTPRequestHandler):
    """200 for /good, else 500."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/good" else 500)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """No lines in the tests' output."""


@pytest.fixture
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield int(server.server_address[1])
        server.shutdown()


@pytest.mark.parametrize("program", ["curl", "wget", "python3", "node"])
def test_health_is_asked_with_what_the_image_has(program: str, port: int, tmp_path: Path) -> None:
    found = sys.executable if program == "python3" else shutil.which(program)
    if found is None:
        pytest.skip(f"needs {program}")
    # As in an image that has this program and a shell, and nothing else.
    shell = os.path.realpath(shutil.which("sh") or "")
    (tmp_path / "sh").symlink_to(shell)
    (tmp_path / program).write_text(f'#!{shell}\nexec "{found}" "$@"\n')
    (tmp_path / program).chmod(0o755)
    said = {}
    for path in ("/good", "/bad"):
        kind, *command = own.health(QUIET.model_copy(update={"port": port, "health": path})).test
        assert kind == "CMD"
        done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, timeout=20, check=False)
        said[path] = done.returncode
    assert said["/good"] == 0
    assert said["/bad"] != 0


def test_an_image_that_cannot_ask_says_so(tmp_path: Path) -> None:
    (tmp_path / "sh").symlink_to(os.path.realpath(shutil.which("sh") or ""))
    command = list(own.health(QUIET).test)[1:]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert "neither curl nor wget nor python3 nor node" in done.stderr
