"""`make contract`: what the gateway promises to clients, checked from outside.

Without `--url` the suite starts the gateway itself, in front of fakes that keep what they see. With `--url`, and the
key in the environment as KEY, it asks any deployed platform; then only the checks run that are harmless there even
when a block is missing. A check that takes the fixture `world`, or has the mark `own`, looks behind the gateway or
provokes it: never there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.contract.target import RATE, Client, Pace
from tests.contract.world import World, started


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("contract")
    group.addoption("--url", help="a deployed platform, for example https://llm.example.org; its key is read from KEY")
    group.addoption("--ca", help="the certificate that it is trusted by, if the system does not know it")
    group.addoption("--wrong-passwords", action="store_true", help="with --url: try wrong keys there too")
    group.addoption("--slow", action="store_true", help="also the checks that wait for a minute and more")
    group.addoption("--record-good", metavar="FOLDER", help="store what the real clients send, without keys")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--url", None) and not os.environ.get("KEY"):
        pytest.exit("with --url the key is read from the environment: KEY=…", returncode=4)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what must not be done to a platform that others use."""
    if not config.getoption("--slow", None):
        _leave_out(config, items, [item for item in items if item.get_closest_marker("slow")])
    _leave_out(config, items, [item for item in items if _unspoken(item)])
    if not config.getoption("--url", None):
        return
    harmful = [item for item in items if not _harmless(item, wrong=config.getoption("--wrong-passwords"))]
    _leave_out(config, items, harmful)


def _unspoken(item: pytest.Item) -> bool:
    """Whether a check is about Ollama's own API on an engine that does not speak it."""
    assert isinstance(item, pytest.Function)
    kind = item.callspec.params.get("engine_kind") if hasattr(item, "callspec") else None
    return kind == "openai" and item.get_closest_marker("native") is not None


def _leave_out(config: pytest.Config, items: list[pytest.Item], some: list[pytest.Item]) -> None:
    config.hook.pytest_deselected(items=some)
    items[:] = [item for item in items if item not in some]


def _harmless(item: pytest.Item, *, wrong: bool) -> bool:
    assert isinstance(item, pytest.Function)
    own = "world" in item.fixturenames or item.get_closest_marker("own")
    return not own and (wrong or item.get_closest_marker("wrong_key") is None)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The checks of a module that says so run once for each API that an engine may speak."""
    if "world" in metafunc.fixturenames and getattr(metafunc.module, "EVERY_ENGINE", False):
        metafunc.parametrize("engine_kind", ["ollama", "openai"], indirect=True, scope="session")


@pytest.fixture(scope="session")
def engine_kind(request: pytest.FixtureRequest) -> str:
    """The API that the engine speaks to the gateway."""
    return getattr(request, "param", "ollama")


@pytest.fixture(scope="session")
def _world(engine_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with started(tmp_path_factory.mktemp("contract"), kind=engine_kind) as world:
        yield world


@pytest.fixture
def world(_world: World) -> World:
    """Our own gateway, and what was seen behind it since this test began."""
    _world.engine.reset()
    _world.chat.reset()
    return _world


@pytest.fixture(scope="session")
def _deployed(request: pytest.FixtureRequest) -> Client | None:
    """A client of the deployed platform, if one was named: the pace is the same for all that it does."""
    if not (url := request.config.getoption("--url", None)):
        return None
    ca = request.config.getoption("--ca")
    return Client(url=url.rstrip("/"), key=os.environ["KEY"], ca=ca, pace=Pace(RATE))


@pytest.fixture
def client(request: pytest.FixtureRequest, _deployed: Client | None) -> Client:
    """A client that may chat and embed, of our own gateway or of the deployed one."""
    if _deployed:
        return _deployed
    world: World = request.getfixturevalue("world")
    return world.client()
