"""The suite's own promise: on a platform that others use it does no harm, even where every block is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.contract.relay import certificate
from tests.contract.target import NO_MODEL, RATE, Pace
from tests.support.engine import Engine, Seen, engine
from tests.support.samples import ROOT

KEY: Final = "sk-canary-of-a-deployed-platform"
READ: Final = {"GET", "HEAD", "OPTIONS", "TRACE"}
MODELS: Final = {"default", "embedding", "fast"}
INFERENCE: Final = (
    "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/ollama/api/chat",
    "/ollama/api/generate", "/ollama/api/embed", "/ollama/api/embeddings",
)  # fmt: skip
ACTING: Final = ("/-/quit", "/-/reload", "/stop", "/load", "/api/v1/auths/signin", "/api/v1/auths/signout")
LONGEST: Final = 32  # tokens that may be asked for


class TestPace:
    def test_no_second_has_more_than_its_share(self) -> None:
        clock = [100.0]
        pace = Pace(RATE, now=lambda: clock[0], sleep=lambda seconds: clock.__setitem__(0, clock[0] + seconds))
        moments = []
        for number in range(40):
            clock[0] += 0.7 if number == 20 else 0.01
            pace.wait()
            moments.append(clock[0])
        assert moments[-1] - moments[0] < 40 / RATE + 1
        for moment in moments:
            assert len([m for m in moments if moment <= m < moment + 0.999]) <= RATE

    def test_our_own_gateway_is_asked_at_once(self) -> None:
        Pace(0, sleep=lambda _: pytest.fail("it waits")).wait()


@contextmanager
def open_platform(folder: Path) -> Iterator[tuple[Engine, str]]:
    """A platform without a gateway: every address does what it is asked. Yields its record and its certificate."""
    file = folder / "platform.pem"
    file.write_bytes(certificate())
    with engine(["default"], "-answer-all", "-tls-certificate", str(file), "-tls-key", str(file)) as one:
        yield one, str(file)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[Seen]:
    """What the whole suite asks of such a platform."""
    folder = tmp_path_factory.mktemp("open")
    with open_platform(folder) as (platform, ca):
        url = f"https://localhost:{platform.address.rpartition(':')[2]}"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "tests/contract",
            "-q",
            "--url",
            url,
            "--ca",
            ca,
            "-p",
            "no:cacheprovider",
        ]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        done = subprocess.run(
            [*command, "--tb=no"], cwd=ROOT, env=environment | {"KEY": KEY},
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 1, f"a platform without a gateway passes:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        return platform.seen()


@pytest.mark.own
@pytest.mark.timeout(700)
class TestOnAnOpenPlatform:
    def test_much_is_asked(self, asked: list[Seen]) -> None:
        assert len(asked) > 150
        assert len({one.target for one in asked}) > 80

    def test_it_is_asked_slowly(self, asked: list[Seen]) -> None:
        moments = [one.at / 1e9 for one in asked]
        # One in hand for how long requests take to arrive.
        assert max(len([m for m in moments if moment <= m < moment + 1]) for moment in moments) <= RATE + 1

    def test_whatever_changes_something_names_nothing_that_exists(self, asked: list[Seen]) -> None:
        harmful = [f"{one.method} {one.target} {one.body[:200]}" for one in asked if not harmless(one)]
        assert harmful == []

    def test_nothing_is_asked_that_acts_without_being_given_anything(self, asked: list[Seen]) -> None:
        assert [one.target for one in asked if one.method not in READ and one.target.startswith(ACTING)] == []

    def test_no_wrong_key_is_shown(self, asked: list[Seen]) -> None:
        shown = {value for one in asked for value in one.values("Authorization")}
        assert shown == {f"Bearer {KEY}"}


def harmless(one: Seen) -> bool:
    """Whether a request changes nothing, wherever it ends: what it names is not there, or it is a short question."""
    if one.method in READ:
        return True
    try:
        body = json.loads(one.body)
    except (ValueError, RecursionError):
        return True
    if one.target not in INFERENCE:
        named = body.values() if isinstance(body, dict) else [body]
        return all(value in (NO_MODEL, [], {}) for value in named)
    if not isinstance(body, dict) or body.get("model") not in MODELS:
        return True
    most = [body[name] for name in ("max_tokens", "max_completion_tokens", "max_output_tokens") if name in body]
    return "embeddings" in one.target or bool(most and max(most) <= LONGEST)
