"""Several engines, an engine elsewhere and a service of one's own, on a stack of their own."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import requests

from ops.docker import DockerCli
from tests.live.conftest import bring_up, refresh, stack
from tests.support.engine import Engine, engine
from tests.support.live import inside, sweep
from tests.support.live.platform import Ended, Platform
from tests.support.live.waits import until

ENGINES = ("ollama", "ollama-2")
ENGINE_KEY = "sk-what-the-other-box-wants"
SHORT = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8}
QUESTION = {"text": "The red house stands by the river.", "question": "Where does the house stand?"}


@pytest.fixture(scope="module")
def far(docker: DockerCli) -> Iterator[Engine]:
    """The fake engine in the place of one that runs on another machine: the gateway reaches it as it would that one."""
    subnet = docker.json(["network", "inspect", "bridge"])[0]["IPAM"]["Config"][0]["Subnet"]
    with engine(("far-model",), "-listen", f"{ip_network(subnet)[1]}:0", "-key", ENGINE_KEY) as one:
        yield one


@pytest.fixture(scope="module")
def refusal(own_stack: Platform) -> Ended:
    """The first `up`, before anybody has given the key of the engine elsewhere."""
    return own_stack.ops("up")


@pytest.fixture(scope="module")
def own_stack(docker: DockerCli, far: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The stack before its first `up`."""
    kept = os.environ.get("LIVE_KEEP")
    mine = Platform(Path(kept) / "own" if kept else tmp_path_factory.mktemp("own"), f"{stack()}-own", docker)
    changes: dict[str, Any] = {
        "engine": {"instances": 2, "resources": {"memory": "2GiB", "cpus": 1}},
        "upstreams": [{"name": "far", "urls": [f"http://{far.address}"], "key": True}],
        "chat": {"enabled": False},
        "observability": {"grafana": False},
        "consumers": [
            {"name": "default", "requestsPerMinute": 1000},
            {"name": "questions", "scopes": ["chat"], "requestsPerMinute": 1000},
            {"name": "app", "scopes": ["services"]},
            {"name": "writer", "scopes": ["chat"]},
        ],
        "services": [
            {
                "name": "questions",
                "build": "examples/fastapi",
                "port": 8000,
                "path": "/questions",
                "api": True,
                "metrics": "/metrics",
            }
        ],
    }
    if not mine.root.exists():
        mine.make(**changes)
    else:
        refresh(mine)
    # The address of the engine elsewhere is another one in each run.
    mine.configure(lambda p: p.update(upstreams=changes["upstreams"], models=[*models(p), FAR_MODEL]))
    try:
        yield mine
    finally:
        if not kept:
            mine.remove()
            sweep.remove(docker, mine.stack)


FAR_MODEL = {"name": "far-model", "engine": "far", "fallback": "default"}


def models(platform: dict[str, Any]) -> list[dict[str, Any]]:
    return [model for model in platform["models"] if "engine" not in model]


@pytest.fixture(scope="module")
def own(own_stack: Platform, refusal: Ended) -> Platform:
    """The stack, up, with keys for everybody."""
    if refusal.code:
        own_stack.pulumi("config", "set", "--secret", "private-llm:engine-key-far", text=ENGINE_KEY)
        for name in ("app", "writer"):
            own_stack.ops("key", NAME=name).good()
    bring_up(own_stack)
    return own_stack


def chat(platform: Platform, model: str = "default", **more: Any) -> requests.Response:
    with platform.session(platform.key()) as session:
        return session.post(f"{platform.url}/v1/chat/completions", json={"model": model, **SHORT, **more}, timeout=120)


def answered(platform: Platform, since: int = 0) -> list[dict[str, Any]]:
    """Lines of the access log about chats, in order."""
    lines = platform.docker.run(["logs", platform.name("gateway")]).splitlines()
    entries = [json.loads(line) for line in lines if line.startswith("{") and '"/v1/chat/completions"' in line]
    return [entry for entry in entries if entry.get("logger") == "http.log.access.access"][since:]


def instances(platform: Platform, since: int) -> Counter[str]:
    """Which instances gave how many answers after the first `since` ones."""
    return Counter(str(entry.get("instance", "")).partition(":")[0] for entry in answered(platform, since))


class TestAMissingKey:
    def test_of_an_engine_stops_up_before_anything_is_made(self, own_stack: Platform, refusal: Ended) -> None:
        if os.environ.get("LIVE_KEEP") and refusal.code == 0:
            pytest.skip("the kept stack has its key")
        assert refusal.code != 0
        assert "pulumi config set --secret private-llm:engine-key-far" in refusal.text
        assert "Traceback" not in refusal.text
        assert own_stack.running() == {}


def quick(own: Platform) -> bool:
    """Whether an answer comes without a model being loaded first."""
    began = time.monotonic()
    return chat(own).ok and time.monotonic() - began < 1


def names_and_digests(own: Platform, engine: str) -> list[list[str]]:
    """What an engine has. Its list also says how long ago each came, which differs from one second to the next."""
    listing = own.docker.run(["exec", own.name(engine), "ollama", "list"])
    return [line.split()[:2] for line in listing.splitlines()[1:]]


class TestEngines:
    def test_all_are_there_and_share_the_models(self, own: Platform) -> None:
        listed = [names_and_digests(own, name) for name in ENGINES]
        assert listed[0]
        assert listed[0] == listed[1]

    def test_the_second_cannot_change_them(self, own: Platform) -> None:
        done = own.docker.attempt(["exec", own.name("ollama-2"), "sh", "-c", "touch /models/x"])
        assert done.code != 0
        assert "Read-only" in done.err

    def test_answers_come_from_both(self, own: Platform) -> None:
        with ThreadPoolExecutor(8) as pool:
            # An engine that still loads the model gets less to do meanwhile.
            until("both have the model", lambda: all(list(pool.map(lambda _: quick(own), range(8)))), 60)
            before = len(answered(own))
            found = list(pool.map(lambda _: chat(own).status_code, range(24)))
        assert found == [200] * 24
        seen = until("all are in the log", lambda: (c := instances(own, before)).total() == 24 and c, 10)
        assert set(seen) == set(ENGINES)
        assert min(seen.values()) >= 4, f"one does most of the work: {seen}"

    def test_one_is_enough(self, own: Platform) -> None:
        before = len(answered(own))
        own.docker.run(["stop", own.name("ollama-2")], limit=60)
        try:
            assert [chat(own).status_code for _ in range(6)] == [200] * 6
            assert own.session().get(f"{own.url}/health", timeout=20).status_code == 200
        finally:
            own.docker.run(["start", own.name("ollama-2")])
        assert set(instances(own, before)) == {"ollama"}
        own.wait_healthy("ollama-2")
        until("it gets work again", lambda: [chat(own) for _ in range(4)] and instances(own, before)["ollama-2"], 30)

    def test_status_shows_the_models_of_this_machine_alone(self, own: Platform) -> None:
        said = own.ops("status").good().text
        assert all(name in said for name in ENGINES)
        assert "far-model" not in said


class TestAnEngineElsewhere:
    def test_gets_its_own_key_and_no_other(self, own: Platform, far: Engine) -> None:
        far.forget()
        answer = chat(own, "far-model")
        assert answer.status_code == 200, answer.text
        seen = [one for one in far.seen() if "/chat/completions" in one.head]
        assert [one.values("Authorization") for one in seen] == [[f"Bearer {ENGINE_KEY}"]]
        assert own.key() not in "".join(one.head for one in far.seen())

    def test_that_fails_is_answered_for(self, own: Platform, far: Engine) -> None:
        far.next({"fault": "status", "status": 503})
        answer = chat(own, "far-model")
        assert answer.status_code == 200, answer.text
        last = until("it is in the log", lambda: answered(own)[-1:], 10)[0]
        assert last["fallback_from"] == "far-model"

    def test_its_key_stands_in_no_configuration(self, own: Platform) -> None:
        config = own.docker.run(["exec", own.name("gateway"), "cat", "/etc/caddy/caddy.json"])
        assert "engine-keys/far" in config
        assert ENGINE_KEY not in config + json.dumps(own.inspect("gateway"))


class TestAServiceOfOnesOwn:
    def ask(self, own: Platform, key: str | None, **headers: str) -> requests.Response:
        with own.session(key) as session:
            return session.post(f"{own.url}/questions/ask", json=QUESTION, headers=headers, timeout=120)

    def test_answers_whoever_has_a_key_for_it_and_knows_who_that_is(self, own: Platform) -> None:
        answer = self.ask(own, own.key("app"))
        assert answer.status_code == 200, answer.text
        assert answer.json()["answer"]
        assert answer.json()["asked_by"] == "app"

    def test_who_asks_is_not_for_the_client_to_say(self, own: Platform) -> None:
        forged = {"X-Consumer": "root", "X_Consumer": "root", "x.consumer": "root"}
        assert self.ask(own, own.key("app"), **forged).json()["asked_by"] == "app"

    def test_is_closed_without_a_key_and_with_one_for_something_else(self, own: Platform) -> None:
        assert self.ask(own, None).status_code == 401
        assert self.ask(own, "sk-wrong").status_code == 401
        assert self.ask(own, own.key("writer")).status_code == 403

    def test_has_the_gateways_headers_and_bounds(self, own: Platform) -> None:
        with own.session(own.key("app")) as session:
            answer = session.get(f"{own.url}/questions/health", timeout=20)
            odd = session.request("PROPFIND", f"{own.url}/questions/health", timeout=20)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert "Server" not in answer.headers
        assert odd.status_code == 405

    def test_is_measured_inside_and_not_outside(self, own: Platform) -> None:
        assert self.ask(own, own.key("app")).ok
        (text,) = inside.get(own, "monitor", "gateway", 8081, "/services/questions/metrics")
        assert 'questions_answered_total{consumer="app"}' in text
        with own.session(own.key("app")) as session:
            assert session.get(f"{own.url}/questions/metrics", timeout=20).status_code == 404

    def test_reaches_the_gateway_and_nothing_else(self, own: Platform) -> None:
        targets = [("gateway", 8081), ("ollama", 11434), ("prometheus", 9090), ("node-exporter", 9100), ("1.1.1.1", 53)]
        assert inside.connects_from(own, "questions", targets) == {("gateway", 8081)}

    def test_is_hardened_as_all_others(self, own: Platform) -> None:
        found = own.inspect("questions")
        host = found["HostConfig"]
        assert found["Config"]["User"] == "10001:10001"
        assert (host["ReadonlyRootfs"], host["CapDrop"], host["Privileged"]) == (True, ["ALL"], False)

    def test_that_is_away_is_told_in_words(self, own: Platform) -> None:
        own.docker.run(["stop", own.name("questions")], limit=60)
        try:
            answer = self.ask(own, own.key("app"))
        finally:
            own.docker.run(["start", own.name("questions")])
        assert answer.status_code in {502, 504}
        assert "This service cannot be reached" in answer.json()["error"]["message"]
        own.wait_healthy("questions")


def test_a_second_up_changes_nothing(own: Platform) -> None:
    before = own.running()
    own.up()
    assert own.running() == before
