"""Trouble: each is told in words with a way out, without a traceback, and nothing that was there is lost."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ops.docker import DockerCli
from ops.preflight import Host, Level, run_preflight
from ops.pulumi import PROJECT
from stack.config.explain import parse_platform
from tests.support.live import project, sweep
from tests.support.live.bystander import Bystander
from tests.support.live.platform import DATA, Ended, Platform
from tests.support.live.waits import until
from tests.support.live.webui import WebUI
from tests.support.processes import offspring

CHAT = "A chat from before the trouble"
CLOSED = "127.0.0.1:1"  # nobody listens on port 1


def refused(ended: Ended, *words: str) -> str:
    """What the command said: it must have failed, in words, with what to do."""
    assert ended.code not in {0, 130}, ended.text
    assert "Traceback" not in ended.text, ended.text
    assert "fix:" in ended.text, ended.text
    for word in words:
        assert re.search(word, ended.text), f"{word!r} is not in:\n{ended.text}"
    return ended.text


@contextmanager
def listening(port: int) -> Iterator[None]:
    """Another program on a port of this machine."""
    with socket.create_server(("127.0.0.1", port)):
        yield


@contextmanager
def moved(path: Path) -> Iterator[None]:
    """The file or folder gone, and back again."""
    away = path.with_name(f"{path.name}.away")
    path.rename(away)
    try:
        yield
    finally:
        if path.is_dir():  # made anew meanwhile
            shutil.rmtree(path)
        away.rename(path)


@pytest.fixture(scope="module")
def fresh(docker: DockerCli, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A stack that was never up. Nothing of it may ever be on the Docker host."""
    mine = Platform(tmp_path_factory.mktemp("fresh"), f"{sweep.stack_name()}-fresh"[:24].rstrip("-"), docker)
    mine.make()
    try:
        yield mine
        assert sweep.what_is_left(docker, mine.stack) == []
    finally:
        sweep.remove(docker, mine.stack)


@pytest.fixture(scope="module")
def chat(platform: Platform) -> str:
    """A saved chat, by its id: what must not be lost."""
    webui = WebUI(platform).sign_in()
    body = {"title": CHAT, "models": [webui.model], "messages": [], "history": {"messages": {}}}
    return str(webui.json("POST", "/api/v1/chats/new", json={"chat": body})["id"])


def nothing_is_lost(platform: Platform, chat: str) -> None:
    """Up, the password is the old one, the chat is there, and the next `up` has nothing to do."""
    platform.wait_answering()
    webui = WebUI(platform).sign_in()
    assert webui.json("GET", f"/api/v1/chats/{chat}")["chat"]["title"] == CHAT
    assert webui.ask("Say hello.").text
    found = json.loads(platform.pulumi("preview", "--refresh", "--json"))["changeSummary"]
    assert set(found) == {"same"}, found


class TestBeforeAnythingStarts:
    def test_the_daemon_is_not_running(self, fresh: Platform) -> None:
        ended = fresh.ops("up", limit=60, SOURCE="mirror", DOCKER_HOST=f"unix://{fresh.folder}/nobody.sock")
        refused(ended, "does not answer at unix://.*/nobody.sock")
        assert ended.seconds < 20

    def test_a_remote_daemon_is_not_running(self, fresh: Platform) -> None:
        ended = fresh.ops("up", limit=60, SOURCE="mirror", DOCKER_HOST=f"tcp://{CLOSED}")
        refused(ended, f"does not answer at tcp://{CLOSED}")

    @pytest.mark.skipif(sys.platform != "linux", reason="needs setpriv")
    def test_no_permission_on_the_socket(self, fresh: Platform) -> None:
        path = fresh.folder / "closed.sock"
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            server.listen()
            path.chmod(0)
            # Root may open anything, unless it has given that up.
            command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
            done = subprocess.run(
                [*command, sys.executable, "-m", "ops", "up"],
                cwd=fresh.root,
                env={**fresh.environment, "SOURCE": "mirror", "DOCKER_HOST": f"unix://{path}"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        refused(Ended("make up", done.returncode, done.stdout + done.stderr, 0), "permission denied", "docker")

    def test_the_official_sources_cannot_be_reached(self, fresh: Platform) -> None:
        """Asked for by name, so that package mirrors are not taken instead."""
        proxy = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"), f"http://{CLOSED}")
        ended = fresh.ops("up", limit=120, SOURCE="official", PRIVATE_LLM_CACHE=str(fresh.folder / "cache"), **proxy)
        assert ended.code == 1
        assert "Traceback" not in ended.text
        assert re.search(r"https?://\S+|get\.pulumi\.com|registry", ended.text), ended.text

    def test_a_misspelt_key_is_named_with_the_right_one(self, fresh: Platform) -> None:
        fresh.configure(lambda config: config["gateway"].update(httpPrt=8080))
        try:
            ended = fresh.ops("up", limit=60)
            assert ended.code == 1
            for word in ("gateway.httpPrt", "httpPort", fresh.settings.name):
                assert word in ended.text
            assert ended.seconds < 10
        finally:
            fresh.configure(lambda config: config["gateway"].pop("httpPrt"))

    def test_a_port_is_in_use_by_something_else(self, fresh: Platform) -> None:
        with listening(fresh.https_port):
            ended = fresh.ops("up", SOURCE="mirror")
        refused(ended, rf"port {fresh.https_port} of 127.0.0.1 is in use by \S+ \(pid {os.getpid()}\)", "httpsPort")

    def test_a_port_is_in_use_by_another_container(self, fresh: Platform, platform: Platform) -> None:
        own = fresh.https_port
        fresh.configure(lambda config: config["gateway"].update(httpsPort=platform.https_port))
        try:
            refused(fresh.ops("up", SOURCE="mirror"), f"in use by the container {platform.name('gateway')}")
        finally:
            fresh.configure(lambda config: config["gateway"].update(httpsPort=own))

    def test_a_gpu_without_its_runtime(self, fresh: Platform) -> None:
        kind = next((name for name, there in accelerators(fresh.docker).items() if not there), None)
        if kind is None:
            pytest.skip("this machine has both NVIDIA's and AMD's runtime")
        fresh.configure(lambda config: config["engine"].update(accelerator=kind))
        try:
            refused(fresh.ops("up", SOURCE="mirror"), kind, "nothing was started")
        finally:
            fresh.configure(lambda config: config["engine"].pop("accelerator"))

    def test_the_disk_is_too_small(self, fresh: Platform) -> None:
        """The real checks on the real engine; only the free space is not this machine's."""
        platform = parse_platform(fresh.platform, source=fresh.settings.name)
        said: list[str] = []
        small = Host(disk_free=lambda _path: 2**30)
        found = run_preflight(platform, fresh.docker, PROJECT, fresh.stack, said.append, source="mirror", host=small)
        disk = next(one for one in found if one.check == "disk")
        assert disk.level is Level.REFUSED, said
        assert "1.0 GiB are free" in disk.what
        assert disk.fix


def accelerators(docker: DockerCli) -> dict[str, bool]:
    """Which kinds of GPU this machine could use."""
    return {"nvidia": "nvidia" in docker.info().get("Runtimes", {}), "amd": Path("/dev/kfd").exists()}


def under_lock(platform: Platform, change: dict[str, Any]) -> Ended:
    """Plain `pulumi up` in the shell of `make env`, with another lock file: other images, other models."""
    lock = json.loads(Path(platform.shell["PRIVATE_LLM_LOCK"]).read_text())
    for part, entries in change.items():
        for name, entry in entries.items():
            lock[part][name] = {**lock[part][name], **entry} if isinstance(entry, dict) else entry
    file = platform.folder / "lock.json"
    file.write_text(json.dumps(lock))
    done = subprocess.run(
        ["pulumi", "up", "--yes", "--skip-preview", "--stack", platform.stack, "--non-interactive"],
        cwd=platform.root,
        env={**platform.shell, "PRIVATE_LLM_LOCK": str(file)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Ended("pulumi up", done.returncode, done.stdout + done.stderr, 0)


@pytest.mark.usefixtures("bystander")
class TestWhileItRuns:
    """On the deployed platform: what is refused leaves the running services alone."""

    @pytest.fixture(autouse=True)
    def _untouched(self, platform: Platform) -> Iterator[None]:
        before = platform.running()
        yield
        assert platform.running() == before
        platform.wait_answering()

    def test_a_wrong_passphrase(self, platform: Platform) -> None:
        file = platform.state.with_name("state-passphrases") / platform.stack
        right = file.read_text()
        file.write_text("not the passphrase")
        try:
            refused(platform.ops("up"), "wrong passphrase", str(file))
        finally:
            file.write_text(right)

    def test_a_lost_passphrase_is_not_made_anew(self, platform: Platform) -> None:
        with moved(platform.state.with_name("state-passphrases") / platform.stack):
            refused(platform.ops("up"), "passphrase of stack .* is missing", "could not open what is there")

    def test_a_lost_state_does_not_take_over_the_volumes(self, platform: Platform) -> None:
        with moved(platform.state):
            ended = platform.ops("up", SOURCE="mirror")
            refused(ended, "the state of stack .* is gone", platform.name("chat-data"), "make adopt")

    def test_a_model_that_does_not_exist(self, platform: Platform, chat: str) -> None:
        origin = "mirror-models:5006/library/no-such-model:latest"
        if "chat" not in json.loads(Path(platform.shell["PRIVATE_LLM_LOCK"]).read_text())["models"]:
            pytest.skip("this source pulls from the engine's own registry")
        ended = under_lock(platform, {"models": {"chat": {"from": origin, "digest": None}}})
        assert ended.code != 0
        assert "the registry has no model" in ended.text, ended.text[-3000:]
        assert "Traceback" not in ended.text
        models = platform.docker.run(["exec", platform.name("ollama"), "ollama", "list"])
        assert len(models.splitlines()) == 3, f"a model is gone or new:\n{models}"
        platform.up()
        nothing_is_lost(platform, chat)

    def test_a_registry_that_cannot_be_reached(self, platform: Platform, chat: str) -> None:
        image = f"{CLOSED}/private-llm/prometheus@sha256:{'0' * 64}"
        ended = under_lock(platform, {"images": {"prometheus": image}})
        assert ended.code != 0
        assert CLOSED in ended.text, ended.text[-3000:]
        assert "Traceback" not in ended.text
        platform.up()
        nothing_is_lost(platform, chat)


@pytest.mark.usefixtures("bystander")
class TestInTheMiddle:
    """From destroyed, in this order: a port taken too late, interrupted, twice at once, and up."""

    def test_a_container_that_fails_to_start(self, platform: Platform, chat: str) -> None:
        assert chat
        platform.ops("destroy").good()
        with listening(platform.https_port):
            ended = platform.ops("up", HOST="none")
        refused(ended, str(platform.https_port))
        assert "gateway" not in platform.running()

    def test_a_second_up_is_refused_and_ctrl_c_stops_the_first(self, platform: Platform) -> None:
        # The gateway is still to come, so there is something in the middle of which to stop.
        platform.docker.run(["rm", "-f", platform.name("chat")])
        first = platform.start("up")
        assert first.stdout is not None
        try:
            said = ""
            for line in first.stdout:
                said += line
                if "-container creating" in line:
                    break
            second = platform.ops("up", limit=60)
            refused(second, f"being changed right now by process {first.pid}")
            assert first.poll() is None, said
            first.send_signal(signal.SIGINT)
            said += first.stdout.read()
            assert first.wait(120) == 130, said
        finally:
            if first.poll() is None:
                first.kill()
            first.stdout.close()
        assert "Traceback" not in said, said
        assert "nothing is lost" in said

    def test_up_goes_on_from_there(self, platform: Platform, chat: str) -> None:
        platform.up()
        nothing_is_lost(platform, chat)
        created = platform.docker.run(["ps", "-a", "--filter", f"name=^{platform.name('')}", "--format", "{{.Names}}"])
        assert len(created.split()) == len(set(created.split()))

    def test_killed_without_a_chance_to_tidy_up(self, platform: Platform, chat: str) -> None:
        """Also Pulumi is killed: its lock and its half-written operations stay behind."""
        platform.docker.run(["rm", "-f", platform.name("chat")])
        first = platform.start("up")
        assert first.stdout is not None
        for line in first.stdout:
            if "chat-container creating" in line:
                break
        others = offspring(first.pid)  # some in groups of their own, where they would live on
        first.kill()
        for pid in others:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        first.wait(10)
        first.stdout.close()
        said = platform.up().text
        assert "interrupted" in said
        nothing_is_lost(platform, chat)


def test_the_way_back_after_a_lost_state(platform: Platform, chat: str) -> None:
    """`make adopt` takes the volumes over; settings and passphrase were kept, so the keys stay too."""
    password, key = platform.secret("admin-password"), platform.key()
    lost = platform.state.with_name("state.lost")
    platform.state.rename(lost)
    platform.ops("adopt", SOURCE="mirror").good()
    platform._keys.clear()
    assert (platform.secret("admin-password"), platform.key()) == (password, key)
    nothing_is_lost(platform, chat)
    volumes = [one for one in sweep.what_is_left(platform.docker, platform.stack) if one.startswith("volume")]
    assert {f"volume {platform.name(kind)}" for kind in DATA} <= set(volumes)


def test_data_is_deleted_only_with_the_stacks_name(platform: Platform) -> None:
    refused(platform.ops("destroy", DATA="delete"), "CONFIRM=")
    assert "chat" in platform.running()


def test_another_stack_on_the_same_host_still_notices_nothing(bystander: Bystander) -> None:
    assert bystander.now() == bystander.before


def test_git_sees_no_change_of_the_tree() -> None:
    """Nothing that tests did went into the project's own settings."""
    from ops import paths

    done = subprocess.run(
        ["git", "status", "--porcelain", "--", "Pulumi*.yaml", "locks"],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "", done.stdout
    assert project.committed()
    assert until("the committed settings hold no salt", lambda: "encryptionsalt" not in committed_text(), 1)


def committed_text() -> str:
    """The committed settings."""
    from ops import paths

    return (paths.ROOT / "Pulumi.dev.yaml").read_text()
