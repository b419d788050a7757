"""Certificates from an ACME authority: asked for, got on port 80, shown to clients, kept over a restart.

The authority is a second Caddy on loopback; both are in a network namespace of their own, where ports 80 and 443 are
free and the names lead here.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from stack.config.explain import parse_platform
from stack.gateway import places
from tests.support import tools
from tests.support.gateway import Running, moved, write_authority
from tests.support.namespace import Namespace, namespace
from tests.support.platforms import Rendered
from tests.support.samples import SAMPLES

SAMPLE: Final = SAMPLES["acme"]
NAME: Final = "llm.home.arpa"
CA: Final = "ca.home.arpa"
PATIENCE: Final = 40.0  # seconds for an authority and a challenge on a busy machine

# What a client in there sees: the status of an answer, and the certificate's serial number.
LOOK: Final = """
import json, ssl, sys, http.client
context = ssl.create_default_context(cafile=sys.argv[1])
connection = http.client.HTTPSConnection(sys.argv[2], context=context, timeout=5)
connection.request("GET", sys.argv[3])
answer = connection.getresponse()
certificate = connection.sock.getpeercert()
serial, names = certificate["serialNumber"], certificate["subjectAltName"]
print(json.dumps({"status": answer.status, "serial": serial, "names": names}))
"""


def authority(folder: Path) -> dict[str, Any]:
    """Configuration of the authority."""
    return {
        "admin": {"disabled": True, "config": {"persist": False}},
        "storage": {"module": "file_system", "root": str(folder)},
        "apps": {
            "http": {
                "servers": {
                    "acme": {
                        "listen": ["127.0.0.1:14000"],
                        "automatic_https": {"disable": True},
                        "tls_connection_policies": [{}],
                        "routes": [{"handle": [{"handler": "acme_server", "ca": "local"}]}],
                    }
                }
            },
            "pki": {"certificate_authorities": {"local": {"install_trust": False}}},
            "tls": {
                "certificates": {"automate": [CA]},
                "automation": {"policies": [{"issuers": [{"module": "internal"}]}]},
            },
        },
    }


@contextmanager
def caddy(inside: Namespace, folder: Path, config: str, **more: str) -> Iterator[Path]:
    """Our Caddy in the namespace; yields its log."""
    file, log = folder / "caddy.json", folder / "log"
    file.write_text(config)
    home = {"PATH": os.defpath, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with log.open("a") as said:
        process = subprocess.Popen(
            inside.command([tools.caddy(), "run", "--config", file]), stdout=said, stderr=said, env=home | more
        )
        try:
            yield log
        finally:
            process.terminate()
            process.wait(timeout=30)


def look(inside: Namespace, root: Path, log: Path, host: str = NAME, path: str = "/health") -> Mapping[str, Any]:
    """What a client sees once there is a certificate."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        words = inside.command(["/usr/bin/env", "python3", "-c", LOOK, root, host, path])
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode == 0:
            found: Mapping[str, Any] = json.loads(done.stdout)
            return found
        time.sleep(0.2)
    raise AssertionError(f"no certificate: {done.stderr[-300:]}\n{log.read_text()[-3000:]}")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("authority", "gateway"):
        (tmp_path / name).mkdir()
    return tmp_path / "authority", tmp_path / "gateway"


def test_a_certificate_is_got_shown_and_kept(folders: tuple[Path, Path], tmp_path: Path) -> None:
    theirs, ours = folders
    tree = yaml.safe_load(SAMPLE.stack_file.read_text())["config"]["private-llm:platform"]
    tree["gateway"] |= {"address": "127.0.0.1", "httpPort": 80, "httpsPort": 443}
    tree["gateway"]["tls"]["directory"] = f"https://{CA}:14000/acme/local/directory"
    platform = parse_platform(tree, source="test")
    write_authority(platform, ours)
    (ours / places.CONSUMERS_FILE).write_text('{"version": 1, "consumers": []}')
    config = moved(
        Rendered(platform).file("gateway-config"), Running(https=443, http=80, inner=8081, admin=9443, folder=ours)
    )
    root = theirs / "pki/authorities/local/root.crt"
    with namespace(tmp_path, [NAME, CA]) as inside:
        with caddy(inside, theirs, json.dumps(authority(theirs))):
            # A gateway that meets no authority asks again after a minute.
            look(inside, root, theirs / "log", f"{CA}:14000", "/acme/local/directory")
            with caddy(inside, ours, config, SSL_CERT_FILE=str(root)) as log:
                first = look(inside, root, log)
        assert first["names"] == [["DNS", NAME]]
        assert first["status"] in {200, 503}, "the gateway itself answers; its engine is not there"
        # The authority is gone: what was got must do.
        with caddy(inside, ours, config, SSL_CERT_FILE=str(root)) as log:
            assert look(inside, root, log)["serial"] == first["serial"]
