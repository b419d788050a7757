"""The filter for fail2ban finds who fails, in lines that the real gateway wrote, and nobody else."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from ops import paths
from tests.support import tools
from tests.support.gateway import running
from tests.support.live.waits import until
from tests.support.samples import SAMPLES

pytestmark = pytest.mark.tools

FILTER = paths.ROOT / "docs" / "fail2ban" / "filter.conf"


def line(
    *, uri: str, status: int, method: str = "GET", host: str = "localhost:8443", address: str = "192.0.2.7"
) -> str:
    """As the gateway writes it."""
    request: dict[str, Any] = {
        "remote_ip": address, "remote_port": "41522", "client_ip": address, "proto": "HTTP/2.0", "method": method,
        "host": host, "uri": uri, "tls": {"resumed": False},
    }  # fmt: skip
    tree = {
        "level": "info", "ts": 1795232041.688769, "logger": "http.log.access.access", "msg": "handled request",
        "request": request, "bytes_read": 0, "user_id": "", "duration": 0.0035, "size": 39, "status": status,
    }  # fmt: skip
    return json.dumps(tree, separators=(",", ":"))


def docker(text: str) -> str:
    """As Docker keeps it."""
    entry = {"log": f"{text}\n", "stream": "stderr", "time": "2026-11-21T03:00:41.688Z"}
    return json.dumps(entry, separators=(",", ":"))


FAILED = (
    line(address="192.0.2.1", uri="/api/v1/auths/signin", status=400, method="POST"),
    line(address="192.0.2.2", uri="/api/v1/auths/mfa/verify", status=401, method="POST"),
    line(address="192.0.2.3", uri="/v1/chat/completions", status=401, method="POST"),
    line(address="192.0.2.4", uri="/ollama/api/tags", status=401),
    line(address="2001:db8::5", uri="/m/fast/v1/models", status=401),
)
FINE = (
    line(uri="/api/v1/auths/signin", status=200, method="POST"),
    line(uri="/api/v1/auths/", status=401),  # a page asks whether somebody is signed in
    line(uri="/v1/chat/completions", status=200, method="POST"),
    line(uri="/v1/chat/completions", status=400, method="POST"),
    line(uri="/v1/none", status=404),
    line(uri="/v1/models", status=401).replace("http.log.access.access", "http.log.other"),
)


def found(lines: Iterable[str], folder: Path) -> list[str]:
    """The addresses that the filter finds."""
    log = folder / "access.log"
    log.write_text("".join(f"{one}\n" for one in lines))
    command = [*tools.fail2ban_regex(), "--out", "ip", str(log), str(FILTER)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in {0, 1}, done.stderr
    return done.stdout.split()


@pytest.fixture(params=["as written", "in Docker's file"])
def kept(request: pytest.FixtureRequest) -> Callable[[str], str]:
    return docker if request.param != "as written" else str


def test_who_fails_is_found_and_nobody_else(kept: Callable[[str], str], tmp_path: Path) -> None:
    addresses = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "2001:db8::5"]
    assert found(map(kept, (*FINE, *FAILED, *FINE)), tmp_path) == addresses


def test_nobody_gets_another_address_banned(kept: Callable[[str], str], tmp_path: Path) -> None:
    forged = 'x","remote_ip":"198.51.100.1","method":"POST","uri":"/v1/","status":401,"y":"'
    lines = (line(uri=f"/v1/{forged}", status=401), line(uri="/v1/models", status=401, host=forged))
    assert found(map(kept, lines), tmp_path) == ["192.0.2.7"] * 2


def test_a_line_of_the_real_gateway_is_found(tmp_path: Path) -> None:
    sample = SAMPLES["dev"]
    keys = {"default": "sk-one", "chat": "sk-two"}
    with running(sample.platform, sample.parts, keys, tmp_path, engine="127.0.0.1:9", chat="127.0.0.1:9") as gateway:
        assert gateway.ask("/v1/models", "sk-wrong").status_code == 401
        until("the access log has it", lambda: '"status":401' in gateway.log, 10)
        (refused,) = (one for one in gateway.log.splitlines() if '"status":401' in one)
    assert found([refused], tmp_path) == ["127.0.0.1"]
