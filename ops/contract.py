"""`make contract`: what the gateway promises to clients, on one of our own or, with URL=…, on any deployed platform."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from ops import paths
from ops.errors import OpsError
from ops.request import Request


def contract(request: Request) -> int:
    """Runs the suite in tests/contract; its exit status."""
    command = [sys.executable, *words(request, os.environ.get("KEY", ""))]
    return subprocess.run(command, cwd=paths.ROOT, check=False).returncode


def words(request: Request, key: str) -> list[str]:
    """The command line, in which the key is not. Raises OpsError with what is missing."""
    chosen = ["--slow"] if request.slow else []
    if not request.url:
        if request.ca or request.wrong_passwords:
            raise OpsError(
                "CA=… and WRONG_PASSWORDS=1 belong to URL=…: without it the suite starts a gateway of its own"
            )
    elif not re.fullmatch(r"https://[^/?#\s]+/?", request.url):
        raise OpsError(f"URL={request.url}: write the gateway's own address, for example URL=https://llm.example.org")
    elif not key:
        raise OpsError(
            "URL=… also needs a key that may chat (`make key NAME=…` makes one): `read -rs KEY && export KEY` "
            "(typed after make, others could see it)"
        )
    elif request.ca and not Path(request.ca).is_file():
        raise OpsError(f"CA={request.ca}: there is no such file; it is the certificate that the gateway is trusted by")
    else:
        chosen += [f"--url={request.url}"]
        chosen += [f"--ca={Path(request.ca).resolve()}"] if request.ca else []
        chosen += ["--wrong-passwords"] if request.wrong_passwords else []
    return ["-m", "pytest", "tests/contract", "-q", *chosen]
