"""What apps are told is well formed, runs, and holds no key."""

from __future__ import annotations

import ast
import json
from dataclasses import replace

import pytest
import yaml

from ops import client
from ops.clients import APPS, render
from ops.clients.shape import App
from ops.errors import OpsError
from ops.request import Request
from tests.support.clients import CONTEXT
from tests.support.samples import SAMPLES

OUTPUTS = {
    "endpoints": {"api": "https://localhost:8443/v1"},
    "models": [
        {"id": "qwen3:8b", "aliases": ["default", "smart"], "role": "chat"},
        {"id": "qwen3:0.6b", "aliases": ["fast"], "role": "chat"},
        {"id": "all-minilm", "aliases": [], "role": "embedding"},
    ],
}


@pytest.fixture(params=APPS.values(), ids=APPS)
def app(request: pytest.FixtureRequest) -> App:
    found: App = request.param
    return found


def test_address_and_model_are_told(app: App) -> None:
    text = render(app, CONTEXT)
    assert CONTEXT.api in text or CONTEXT.native in text
    assert "default" in text


def test_no_key_is_in_it(app: App) -> None:
    assert "sk-" not in render(app, replace(CONTEXT, key="<the key that `make key NAME=ann` showed>"))


def test_files_can_be_read_by_what_reads_them(app: App) -> None:
    for step in app.steps(CONTEXT):
        name = step.where.split(":")[0].split(" ")[0].rstrip(",")
        if name.endswith((".yaml", ".yml")):
            assert isinstance(yaml.safe_load(step.text), dict)
        elif name.endswith(".json"):
            assert isinstance(json.loads(step.text), dict)
        elif name.endswith(".py"):
            ast.parse(step.text)


def test_our_authority_is_named_only_where_it_vouches(app: App) -> None:
    known = replace(CONTEXT, certificate=None)
    assert "bundle.pem" not in render(app, known)
    assert "make trust" not in render(app, known)
    assert "SSL_CERT_FILE" not in render(app, known)


@pytest.mark.parametrize("name", ["openai", "langchain", "llamaindex", "continue"])
def test_nothing_is_embedded_where_no_model_does(name: str) -> None:
    assert "mbedding" in render(APPS[name], CONTEXT)
    assert "mbedding" not in render(APPS[name], replace(CONTEXT, embedding=None))


def test_cursor_is_told_what_its_servers_cannot_reach() -> None:
    assert "cannot reach" in render(APPS["cursor"], CONTEXT)
    assert "cannot reach" not in render(APPS["cursor"], replace(CONTEXT, everywhere=True))


def test_the_context_takes_names_from_what_is_served() -> None:
    found = client.context(SAMPLES["full"].platform, OUTPUTS, Request(command="client"), "/b.pem")
    assert (found.chat, found.fast, found.embedding) == ("default", "fast", "all-minilm")
    assert (found.native, found.certificate) == ("https://localhost:8443/ollama", "/b.pem")
    other = Request(command="client", name="guest", stack="prod")
    assert "make key NAME=guest" in client.context(SAMPLES["full"].platform, OUTPUTS, other, "/b.pem").key


@pytest.mark.parametrize("app", ["", "emacs"])
def test_an_unknown_app_is_answered_with_the_list(app: str) -> None:
    with pytest.raises(OpsError, match=r"(?s)APP=.*continue .*Continue.*zed"):
        client.client(Request(command="client", app=app))
