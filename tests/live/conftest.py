"""The fixture `platform`: one deployed stack for the whole live suite, beside whatever else runs on this machine.

LIVE_KEEP=<folder> keeps the platform in that folder after the run and uses it again in the next: for writing tests.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.docker import DockerCli, DockerError
from ops.errors import OpsError
from tests.support.live import sweep
from tests.support.live.bystander import Bystander, standing_by
from tests.support.live.platform import Platform
from tests.support.live.webui import WebUI


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first `up` on a machine builds every image, and counts for the first test."""
    for item in items:
        if "tests/live/" in item.path.as_posix():
            item.add_marker(pytest.mark.timeout(2700))


def engine() -> DockerCli:
    """A Docker engine: the one there is, or one that the bootstrap may install and start."""
    from ops import engine as engines

    said: list[str] = []
    docker = DockerCli()
    try:
        docker.info()
    except DockerError:
        try:
            docker = engines.ensure_engine("mirror", said.append)
        except OpsError as trouble:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(f"no Docker engine: {trouble}")
    return docker


@pytest.fixture(scope="session")
def docker() -> DockerCli:
    """The Docker engine; without one the tests are skipped, except under CI=true."""
    return engine()


def stack() -> str:
    """The name of the stack under test: one that is kept is called after its folder, as several may be."""
    kept = os.environ.get("LIVE_KEEP")
    return f"kept-{hashlib.sha256(str(Path(kept).resolve()).encode()).hexdigest()[:4]}" if kept else sweep.stack_name()


def note(text: str) -> None:
    """One line for the person who waits; pytest keeps standard output to itself."""
    with Path("/dev/tty").open("w") if os.isatty(2) else open(os.devnull, "w") as terminal:  # noqa: PTH123
        terminal.write(f"\n{text}\n")


@pytest.fixture(scope="session")
def platform(docker: DockerCli, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform of the committed configuration, up and answering. Always removed, whatever happens."""
    kept = os.environ.get("LIVE_KEEP")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("platform")
    for dead in sweep.remove_dead(docker) if not kept else ():
        note(f"removed what tests had left: stack {dead}")
    mine = Platform(folder, stack(), docker)
    if not mine.root.exists():
        mine.make()
    elif kept:
        refresh(mine)

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        note(f"stack {mine.stack}: up, see {mine.log}")
        began = time.monotonic()
        bring_up(mine)
        note(f"stack {mine.stack}: up in {time.monotonic() - began:.0f} s")
        yield mine
    finally:
        if not kept:
            mine.remove()
        signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def bystander(docker: DockerCli, platform: Platform) -> Iterator[Bystander]:
    """Another stack beside the one under test, from when it is first changed to the last test."""
    with standing_by(docker, platform.image("base")) as other:
        yield other


def bring_up(mine: Platform) -> None:
    """The first `up`. Every test fails when it does, so the message is short."""
    try:
        mine.up()
        mine.wait_answering()
    except AssertionError as trouble:
        end = "\n".join(str(trouble).splitlines()[-12:])
        pytest.fail(f"the platform did not come up; all it said is in {mine.log}\n{end}", pytrace=False)


def refresh(mine: Platform) -> None:
    """The program's files of now, in a platform that was kept."""
    from tests.support.live import project

    settings = mine.settings.read_bytes()
    shutil.rmtree(mine.root)
    project.copy(mine.root)
    mine.settings.write_bytes(settings)


@pytest.fixture(scope="session")
def webui(platform: Platform) -> WebUI:
    """Open WebUI, signed in as the administrator."""
    return WebUI(platform).sign_in()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A failure names the platform's log and shows its end."""
    outcome: Any = yield
    report = outcome.get_result()
    mine = getattr(item, "funcargs", {}).get("platform")
    if report.failed and isinstance(mine, Platform) and mine.log.exists():
        tail = "\n".join(mine.log.read_text().splitlines()[-40:])
        report.sections.append((f"the platform's commands: {mine.log}", tail))
