"""Plain `locust -f loadtests/locustfile.py`: through the real gateway, with key and TLS, alone and with workers."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import requests

from loadtests.results import store
from stack.config.explain import parse_platform
from tests.support.engine import Engine, engine, eventually_seen
from tests.support.gateway import Running, running
from tests.support.samples import ROOT, SAMPLES
from tests.support.tries import once_in_three

PLATFORM: Final = parse_platform(
    {
        "gateway": {"hostnames": ["localhost"]},
        "models": [{"name": "qwen3:0.6b", "aliases": ["default"]}, {"name": "all-minilm", "role": "embedding"}],
        "consumers": [{"name": "load", "requestsPerMinute": 100_000, "concurrentStreams": 1000}, {"name": "chat"}],
    },
    source="load",
)
KEY: Final = "sk-load-" + "k" * 32
KEYS: Final = {"load": KEY, "chat": "sk-chat-" + "k" * 32}
PROFILE: Final = "{input: 8, output: 6, turns: 2, think: 0.05}"
LIMIT: Final = 60.0  # seconds


@pytest.fixture(scope="module")
def fake() -> Iterator[Engine]:
    with engine(["default", *(model.name for model in PLATFORM.models)], ttft_ms=20, itl_ms=2, tokens=6) as one:
        yield one


@pytest.fixture
def one(fake: Engine) -> Engine:
    fake.reset()
    fake.forget()
    return fake


@pytest.fixture(scope="module")
def gateway(fake: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("gateway")
    with running(PLATFORM, SAMPLES["dev"].parts, KEYS, folder, engine=fake.address, chat=None) as one:
        yield one


def environment(url: str, folder: Path, **more: str) -> dict[str, str]:
    """What `make env` prints, and a profile of short conversations."""
    (folder / "short.yaml").write_text(PROFILE)
    return {
        "PATH": os.environ["PATH"], "HOME": str(folder), "OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": KEY,
        "LOAD_PROFILE": str(folder / "short.yaml"), **more,
    }  # fmt: skip


def locust(env: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=LIMIT, check=False)


def rows(file: Path) -> dict[tuple[str, str], int]:
    """Locust's rows: their type and name, and how many requests they counted."""
    return {(row["method"], row["name"]): row["num_requests"] for row in json.loads(file.read_text())}


def recorded(folder: Path) -> list[dict[str, str]]:
    with (folder / "requests.csv").open() as file:
        return list(csv.DictReader(file))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
        return port


@pytest.mark.parametrize("processes", [1, 2])
def test_it_measures_through_the_gateway(one: Engine, gateway: Running, tmp_path: Path, processes: int) -> None:
    folders = (tmp_path / name for name in ("first", "second", "third"))

    def right() -> bool:
        one.forget()
        (here := next(folders)).mkdir()
        env = environment(gateway.url, here, SSL_CERT_FILE=gateway.ca, LOAD_OUT=str(here / "out"))
        port = str(free_port())
        together = ("--processes", "2", "--master-bind-port", port, "--master-port", port) if processes > 1 else ()
        done = locust(env, "-u", "4", "-r", "4", "-t", "3s", "--json-file", str(here / "rows"), *together)
        assert done.returncode == 0, done.stderr
        found, seen = recorded(here / "out"), one.seen()
        ended = Counter(row["outcome"] for row in found)
        assert set(ended) <= {"ok", "cancelled"}, "what still runs at the end is stopped"
        assert ended["ok"] > 20
        assert abs(len(found) - len(seen)) <= 4, "each person may have been stopped just before its request was out"
        assert {row["worker"] for row in found} == {str(number) for number in range(processes)}
        assert len({(row["session"], row["turn"]) for row in found}) == len(found), "everybody asks something else"
        result = store.read(here / "out" / "result.json")
        assert result.whole.requests == len(found)
        assert {gate.name: gate.word for gate in result.gates}["reports lost"] == "PASS"
        assert {gate.name: gate.word for gate in result.gates}["answer length"] == "PASS"
        written = [file.read_text() for file in (here / "out").iterdir()]
        assert len(written) == 4
        assert not any(KEY in text for text in (*written, done.stdout, done.stderr))
        # Locust waits half a second for the last counts of its workers, and no longer.
        return rows(here / "rows.json") == {("chat", name): ended["ok"] for name in ("E2E", "TTFT", "TPOT")}

    assert once_in_three(right), "locust's own rows are others"


def test_a_limit_is_named_and_no_latency(one: Engine, tmp_path: Path) -> None:
    one.play(fault="status", status=429)
    env = environment(f"http://{one.address}", tmp_path, LOAD_OUT=str(tmp_path / "out"))
    done = locust(env, "-u", "2", "-r", "2", "-t", "2s", "--only-summary")
    shown = done.stdout + done.stderr
    assert done.returncode == 1, "locust's own sign of failures"
    assert "chat E2E: limit hit" in shown
    assert "TTFT" not in shown
    result = store.read(tmp_path / "out" / "result.json")
    assert result.verdict != "pass"
    assert set(result.whole.outcomes) <= {"limit", "cancelled"}


def test_vectors_are_judged_by_their_time_when_nobody_says_by_what(one: Engine, tmp_path: Path) -> None:
    (tmp_path / "vectors.yaml").write_text("scenario: embed\ninput: fixed:20\noutput: fixed:0\nthink: fixed:0.2\n")
    env = environment(
        f"http://{one.address}", tmp_path, LOAD_OUT=str(tmp_path / "out"),
        LOAD_PROFILE=str(tmp_path / "vectors.yaml"), LOAD_EMBEDDING_MODEL="all-minilm",
    )  # fmt: skip
    done = locust(env, "-u", "2", "-r", "2", "-t", "2s", "--only-summary")
    assert done.returncode == 0, done.stderr
    result = store.read(tmp_path / "out" / "result.json")
    assert result.objectives == {"e2e": 1.0}
    assert result.whole.good_share is not None


def test_a_shape_goes_its_steps_and_ends(one: Engine, tmp_path: Path) -> None:
    one.play(ttft_ms=400)
    env = environment(f"http://{one.address}", tmp_path, LOAD_STEPS="1,3", LOAD_FOR="2s")
    began = time.monotonic()
    done = locust(env)
    assert done.returncode == 0, done.stderr
    assert one.state["most_in_flight"] == 3
    first = [seen.at for seen in one.seen()]
    early = [at for at in first if at < first[0] + 1_000_000_000]
    assert 1 <= len(early) <= 3, "one person alone cannot ask more often"
    assert time.monotonic() - began < LIMIT / 2


@pytest.mark.parametrize(
    ("more", "arguments", "said"),
    [
        ({}, ("-u", "2", "-r", "2", "-t", "40s"), r"stopped after \d+ s of 40 s"),
        ({"LOAD_STEPS": "2,3", "LOAD_FOR": "30s"}, (), r"stopped after \d+ s, before its shape was over"),
        ({}, ("-u", "2", "-r", "2"), ""),
    ],
)
def test_a_test_that_was_interrupted_is_marked(
    one: Engine, tmp_path: Path, more: dict[str, str], arguments: tuple[str, ...], said: str
) -> None:
    """20 seconds of a minute were told as the whole of it. Where no end was set, Ctrl-C is the end."""
    env = environment(f"http://{one.address}", tmp_path, LOAD_OUT=str(tmp_path / "out"), **more)
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless", *arguments]
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            eventually_seen(one, 10, 30)
            process.send_signal(signal.SIGINT)
            process.wait(LIMIT)
        finally:
            process.kill()
    result = store.read(tmp_path / "out" / "result.json")
    assert re.fullmatch(said, result.stopped)
    assert result.complete == (not said)


def prompts(one: Engine) -> set[str]:
    """What was asked since this was last looked at."""
    found = {seen.json["messages"][0]["content"] for seen in one.seen()}
    one.forget()
    assert len(found) >= 5
    return found


@pytest.mark.parametrize("together", [(), ("--processes", "2")])
def test_no_two_tests_ask_the_same(one: Engine, tmp_path: Path, together: tuple[str, ...]) -> None:
    """Each asked word for word the same, which a server that keeps prompts answers at once."""
    env, port, nonces = environment(f"http://{one.address}", tmp_path), str(free_port()), set()
    ports = ("--master-bind-port", port, "--master-port", port) if together else ()
    asked_before: set[str] = set()
    for name in ("first", "second"):
        done = locust({**env, "LOAD_OUT": str(tmp_path / name)}, "-u", "4", "-r", "4", "-t", "2s", *together, *ports)
        assert done.returncode == 0, done.stderr
        result = store.read(tmp_path / name / "result.json")
        assert result.complete
        nonces.add(result.environment.seeds["nonce"])
        now = prompts(one)
        assert not now & asked_before
        asked_before = now
    assert len(nonces) == 2


def test_a_test_that_is_started_again_in_the_page_asks_something_else(one: Engine, tmp_path: Path) -> None:
    with page(environment(f"http://{one.address}", tmp_path)) as url:
        found = []
        for _ in range(2):
            assert asked(f"{url}/swarm", "POST", user_count=2, spawn_rate=2).json()["success"]
            eventually_seen(one, 10, 30)
            assert asked(f"{url}/stop", "POST").json()["success"]
            found.append(prompts(one))
    assert not found[0] & found[1]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"OPENAI_API_KEY": ""}, "OPENAI_API_KEY is not set"),
        ({"LOAD_PROFILE": "chatt"}, "did you mean chat"),
        ({"LOAD_SEED": "one"}, "LOAD_SEED=one"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, more: dict[str, str], words: str) -> None:
    done = locust(environment("http://127.0.0.1:9", tmp_path) | more, "-u", "1", "-t", "1s")
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


UNSHARE: Final = ("unshare", "--time", "--monotonic", "5000")
"""Runs a program as on another machine: its clock stands elsewhere."""


def test_the_clock_of_a_worker_elsewhere_is_told_by_ours(one: Engine, tmp_path: Path) -> None:
    if subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no clocks of their own to programs: it takes root and Linux 5.6")
    env = environment(f"http://{one.address}", tmp_path, LOAD_OUT=str(tmp_path / "out"))
    port = str(free_port())
    worker = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--worker", "--master-port", port]
    with ExitStack() as stack:
        for command in (worker, [*UNSHARE, *worker]):
            process = stack.enter_context(subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.DEVNULL))
            stack.callback(process.kill)
        done = locust(
            env, "--master", "--master-bind-port", port, "--expect-workers", "2", "-u", "4", "-r", "4", "-t", "3s"
        )
    assert done.returncode == 0, done.stderr
    result = store.read(tmp_path / "out" / "result.json")
    if "is not known" in result.stopped:
        pytest.skip(f"the machine is not quiet: {result.stopped}")
    assert {row["worker"] for row in recorded(tmp_path / "out")} == {"0", "1"}
    assert result.seconds < 10, "the moments of both are beside each other"


@contextmanager
def page(env: Mapping[str, str]) -> Iterator[str]:
    """Locust with its web page; the address of that."""
    port = free_port()
    command = [
        sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--web-host", "127.0.0.1",
        "--web-port", str(port),
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield f"http://127.0.0.1:{port}"
            process.send_signal(signal.SIGTERM)
            process.wait(LIMIT)
        finally:
            process.kill()


def asked(url: str, method: str = "GET", **data: Any) -> requests.Response:
    """Asks the page once it answers."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return requests.request(method, url, data=data, timeout=20)
        except requests.ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_the_page_shows_the_same_rows(one: Engine, tmp_path: Path) -> None:
    env = environment(f"http://{one.address}", tmp_path, LOAD_OUT=str(tmp_path / "out"))
    with page(env) as url:
        assert asked(f"{url}/swarm", "POST", user_count=2, spawn_rate=2).json()["success"]
        eventually_seen(one, 10, 30)
        assert asked(f"{url}/stop", "POST").json()["success"]
        shown = asked(f"{url}/stats/requests").json()["stats"]
    names = {(row["method"], row["name"]) for row in shown}
    assert {("chat", "E2E"), ("chat", "TTFT"), ("chat", "TPOT")} <= names
    assert store.read(tmp_path / "out" / "result.json").whole.requests >= 9
