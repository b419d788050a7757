"""The real client libraries, unchanged apart from base URL, key and certificate."""

from __future__ import annotations

import ast
import base64
import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any, Final

import pytest

from ops import venv
from tests.contract.relay import Relay, Sent, relaying
from tests.contract.target import Client
from tests.support import tools

HERE: Final = Path(__file__).parent
SCRIPTS: Final = {
    "openai_sdk": "openai", "langchain": "langchain-openai", "llamaindex": "llama-index-llms-openai-like",
    "ollama_native": "ollama", "http": "httpx",
}  # fmt: skip
DIRECT: Final = {"http"}  # the relay speaks HTTP/1.1; this one paces itself
LIMIT: Final = 300  # seconds for one script
NOT_KEPT: Final = {"content-length", "transfer-encoding", "connection", "accept-encoding"}


def checks(script: str) -> list[Any]:
    """A script's checks, read without what it imports."""
    tree = ast.parse((HERE / "clients" / f"{script}.py").read_text())
    marks = {"on_fakes": pytest.mark.own, "wrong_key": pytest.mark.wrong_key}
    return [
        pytest.param(
            script, node.name, id=f"{script}-{node.name}",
            marks=[marks[d.id] for d in node.decorator_list if isinstance(d, ast.Name) and d.id in marks],
        )
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    ]  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What one check said, and the requests it sent if they were kept."""

    error: str | None
    sent: list[Sent]


Run = Callable[[str], dict[str, Result]]


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a script of checks once, at the first question for it."""
    known: dict[str, dict[str, Result]] = {}
    record = request.config.getoption("--record-good", None)
    own = not request.config.getoption("--url", None)
    wrong = own or request.config.getoption("--wrong-passwords")
    client: Client = request.getfixturevalue("_deployed") or request.getfixturevalue("_world").client()
    keys = request.getfixturevalue("_world").keys if own else {}
    environment = {
        "PATH": os.defpath, "HOME": str(tmp_path_factory.mktemp("home")), "PYTHONPATH": str(HERE),
        "CONTRACT_KEY": client.key, "CONTRACT_KEYS": json.dumps(keys),
        "CONTRACT_OWN": str(int(own)), "CONTRACT_WRONG": str(int(wrong)),
    }  # fmt: skip

    def run(script: str, url: str, ca: str | None, sent: list[Sent]) -> dict[str, Result]:
        python = venv.apart("clients") / "bin" / "python"
        trust = {"SSL_CERT_FILE": ca} if ca else {}
        with subprocess.Popen(
            [python, "-m", "clients.given", script], env=environment | trust | {"CONTRACT_URL": url},
            stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            found: dict[str, Result] = {}
            seen = 0
            assert process.stdout is not None
            for line in process.stdout:
                said = json.loads(line)
                found[said["name"]] = Result(said["error"], sent[seen:])
                seen = len(sent)
            assert process.wait(timeout=LIMIT) == 0, f"the script {script} did not end well: it said so above"
        return found

    def once(script: str) -> dict[str, Result]:
        if script not in known:
            if script in DIRECT or (own and not record):
                known[script] = run(script, client.url, client.ca, [])
            else:
                with relaying(client, tmp_path_factory.mktemp("relay")) as relay:
                    known[script] = run(script, relay.url, relay.ca, relay.sent)
                if record:
                    _keep(Path(record), script, known[script], relay, client)
        return known[script]

    return once


@pytest.mark.timeout(LIMIT + 60)
@pytest.mark.parametrize(("script", "check"), [check for script in SCRIPTS for check in checks(script)])
def test_client(results: Run, script: str, check: str) -> None:
    error = results(script)[check].error
    assert error is None, error


def test_curl(client: Client, tmp_path: Path) -> None:
    curl = tools.program("curl", "install curl")
    body = tmp_path / "body.json"
    body.write_text('{"model": "default", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 16}')
    client.pace.wait()
    words = ["--silent", "--show-error", "--no-buffer", "--config", "-", "--json", f"@{body}"]
    done = subprocess.run(
        [curl, *words, *(["--cacert", client.ca] if client.ca else []), f"{client.url}/v1/chat/completions"],
        input=f'header = "Authorization: Bearer {client.key}"', capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] is not None


def _keep(folder: Path, script: str, results: dict[str, Result], relay: Relay, client: Client) -> None:
    """Stores what the checks sent and got a good answer for, in the form of tests/attack/good/README.md."""
    good = [
        _kept(f"{script}-{name}-{number}", sent, relay, client)
        for name, result in results.items()
        if result.error is None and not name.startswith(("a_", "an_", "too_", "managing_", "refuses_"))
        for number, sent in enumerate(result.sent)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    source = f"{SCRIPTS[script]} {_version(SCRIPTS[script])}, Python"
    text = json.dumps({"version": 1, "source": source, "requests": good}, indent=1, ensure_ascii=False)
    assert "canary" not in text
    (folder / f"{script.replace('_', '-')}.json").write_text(text + "\n")


def _kept(name: str, sent: Sent, relay: Relay, client: Client) -> dict[str, object]:
    method, target = sent.line

    def without(text: str) -> str:
        text = text.replace(relay.url, "{origin}").replace(relay.host, "{host}")
        return re.sub(r"sk-canary-[\w-]+", "{key}", text.replace(client.key, "{key}"))

    headers = [[name, without(value)] for name, value in sent.headers if name.lower() not in NOT_KEPT]
    entry: dict[str, object] = {"id": name, "method": method, "target": without(target), "headers": headers}
    try:
        return entry | ({"body": without(sent.body.decode())} if sent.body else {})
    except UnicodeDecodeError:
        return entry | {"body_base64": base64.b64encode(sent.body).decode()}


def _version(package: str) -> str:
    packages = venv.environment("clients") / "lib"
    folders = list(packages.glob(f"*/site-packages/{package.replace('-', '_')}-*.dist-info"))
    if len(folders) != 1:
        raise PackageNotFoundError(package)
    return folders[0].name.removesuffix(".dist-info").rpartition("-")[2]
