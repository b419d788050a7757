"""`make load`: its consumer is there while the test runs and never longer, and nothing else is deployed with it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from ops import load as loads
from ops import paths, settings
from ops.docker import DockerCli, Result
from ops.errors import OpsError
from ops.load import consumer, facts
from ops.load.stops import Stops, noted
from ops.pulumi import Pulumi, PulumiError
from ops.request import Request

PLATFORM: dict[str, Any] = {
    "models": [{"name": "tiny", "aliases": ["default"]}, {"name": "all-minilm", "role": "embedding"}],
    "consumers": [{"name": "default"}, {"name": "chat"}],
}
SEED = "urn:pulumi:dev::private-llm::docker:index/container:Container::gateway-consumers-seed"
STATE = {"resources": [{"urn": SEED}]}


class FakeStack:
    """Pulumi and the gateway at their edges: what is deployed is a settings file; the gateway counts its consumers."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "Pulumi.dev.yaml"
        self.write(PLATFORM)
        self.deployed = self.config(self.file)
        self.argv: list[str] = []
        self.told: list[str] = []
        self.during: Callable[[str], None] = lambda _verb: None
        docker = DockerCli({}, runner=self.exec)
        self.as_pulumi = cast(
            "Pulumi",
            SimpleNamespace(stack="dev", file=self.file, call=self.call, tools=SimpleNamespace(docker=docker)),
        )

    def write(self, platform: dict[str, Any]) -> None:
        self.file.write_text(
            f"# a comment\n{yaml.safe_dump({'encryptionsalt': 'v1:s', 'config': {settings.PLATFORM: platform}})}"
        )

    @staticmethod
    def config(file: Path) -> dict[str, Any]:
        return dict(settings.read(file).config)

    @property
    def known(self) -> dict[str, Any] | None:
        """The load test's consumer, as deployed."""
        found = {name: value for name, value in self.deployed.items() if name in consumer.OURS}
        return found if len(found) == 2 else None

    def exec(self, command: Any, _env: Any, _limit: Any, _text: Any) -> Result:
        self.argv.append(" ".join(command))
        count = len(self.deployed[settings.PLATFORM]["consumers"]) + bool(self.known)
        return Result(0, f"HTTP/1.0 200 OK\n\n# HELP gateway_consumers In force.\ngateway_consumers {count}\n", "")

    def call(self, *args: str, text: str = "", secret: bool = False, apart: bool = False) -> str:
        assert apart, "the terminal's Ctrl-C would cut it in two"
        self.argv.append(" ".join(args))
        file = Path(args[args.index("--config-file") + 1])
        self.during(args[0])
        if args[0] == "config":
            data = yaml.safe_load(file.read_text())
            data["config"][args[2]] = {"secure": f"sealed {text}"} if secret else text
            file.write_text(yaml.safe_dump(data))
        elif args[0] == "up":
            assert args[args.index("--target") + 1] == SEED
            self.deployed = self.config(file)
        else:
            changed = self.config(file) != self.deployed
            return json.dumps({"steps": [{"op": "replace" if changed else "same", "urn": SEED}]})
        return ""

    def present(self, stops: Stops | None = None) -> contextlib.AbstractContextManager[str]:
        platform = settings.platform(self.file)
        return consumer.present(self.as_pulumi, platform, STATE, stops or Stops(), self.told.append)

    @property
    def left(self) -> Path:
        return consumer.place("dev")


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeStack:
    monkeypatch.setenv("PRIVATE_LLM_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(consumer, "PAUSE", 0.0)
    return FakeStack(tmp_path)


def full(_number: int) -> None:
    """The disk is."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class TestConsumer:
    def test_it_is_there_for_the_block_and_gone_behind_it(self, stack: FakeStack) -> None:
        before = stack.file.read_bytes()
        with stack.present() as key:
            assert stack.known is not None
            assert stack.known[settings.key_name("load")] == {"secure": f"sealed {key}"}
            assert stack.known[consumer.ENDS].endswith("Z")
            assert stack.file.read_bytes() == before
            assert stack.left.stat().st_mode & 0o077 == 0
        assert stack.deployed == stack.config(stack.file)
        assert stack.file.read_bytes() == before
        assert not stack.left.exists()
        assert key.startswith("sk-")
        assert not [one for one in (*stack.argv, *stack.told) if key in one]

    def test_it_is_gone_after_an_error(self, stack: FakeStack) -> None:
        with pytest.raises(ZeroDivisionError), stack.present():
            raise ZeroDivisionError
        assert stack.known is None

    def test_it_is_gone_when_it_could_not_be_made(self, stack: FakeStack) -> None:
        def fail(verb: str) -> None:
            if verb == "up" and stack.known is None and len([one for one in stack.argv if one.startswith("up")]) == 1:
                raise PulumiError("`pulumi up` failed: no space")

        stack.during = fail
        with pytest.raises(PulumiError, match="no space"), stack.present():
            pytest.fail("there is no consumer")
        assert not stack.left.exists()

    @pytest.mark.parametrize("verb", ["preview", "config", "up"])
    def test_ctrl_c_in_any_step_leaves_nothing(self, stack: FakeStack, verb: str) -> None:
        stops = Stops()

        def stop(now: str) -> None:
            if now == verb:
                stops.note(signal.SIGINT, None)

        stack.during = stop
        with pytest.raises(KeyboardInterrupt), stack.present(stops):
            pytest.fail("the load would have run")
        assert stack.known is None
        assert not stack.left.exists()

    def test_a_terminal_that_was_closed_is_not_in_the_way(self, stack: FakeStack) -> None:
        def say(line: str) -> None:
            if "removing" in line or "gone" in line:
                raise OSError(5, "Input/output error")

        platform = settings.platform(stack.file)
        with consumer.present(stack.as_pulumi, platform, STATE, Stops(), say):
            assert stack.known
        assert stack.known is None

    def test_what_was_edited_meanwhile_is_not_deployed_by_its_end(self, stack: FakeStack) -> None:
        with stack.present():
            stack.write(PLATFORM | {"consumers": [*PLATFORM["consumers"], {"name": "eve"}]})
        assert [one["name"] for one in stack.deployed[settings.PLATFORM]["consumers"]] == ["default", "chat"]

    def test_a_stack_that_is_not_as_configured_is_left_alone(self, stack: FakeStack) -> None:
        stack.write(PLATFORM | {"chat": {"title": "Ours"}})
        with pytest.raises(OpsError, match=r"gateway-consumers-seed would change(.|\n)*make up`"), stack.present():
            pytest.fail("it would have deployed the change")
        assert "up" not in {one.split()[0] for one in stack.argv}
        assert not stack.left.exists()

    def test_settings_that_cannot_be_deployed_are_said_so(self, stack: FakeStack) -> None:
        def fail(_verb: str) -> None:
            raise PulumiError("`pulumi preview` failed: a screen full of JSON")

        stack.during = fail
        with (
            pytest.raises(OpsError, match=r"cannot be deployed as it is\nfix: `make preview` says what is wrong$"),
            stack.present(),
        ):
            pytest.fail("there is no consumer")

    def test_one_that_could_not_be_removed_is_told_with_its_end(self, stack: FakeStack) -> None:
        def fail(verb: str) -> None:
            if verb == "up" and stack.known:
                raise PulumiError("`pulumi up` failed: no daemon")

        stack.during = fail
        with pytest.raises(OpsError, match=r"could not be removed: .*no daemon\n.*works until 2(.|\n)*`make up`"):  # noqa: SIM117
            with stack.present():
                pass
        assert stack.left.exists()

    def test_one_that_a_full_disk_keeps_is_told_with_its_end(
        self, stack: FakeStack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The key worked for a day, and a traceback said nothing of it."""
        with (
            pytest.raises(
                OpsError, match=r"be removed: .*dev.load.yaml: No space left.*\n.*works until 2(.|\n)*make up"
            ),
            stack.present(),
        ):
            monkeypatch.setattr(os, "fsync", full)
        assert stack.known

    def test_on_a_disk_that_is_full_before_it_is_there_nothing_is_deployed(
        self, stack: FakeStack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stack.during = lambda _verb: monkeypatch.setattr(os, "fsync", full)  # from the first step on, a preview
        with pytest.raises(OSError, match=r"No space left.*dev\.load\.yaml"), stack.present():
            pytest.fail("there is no consumer")
        assert "up" not in {one.split()[0] for one in stack.argv}
        assert not stack.left.exists()

    def test_one_that_is_gone_is_gone_though_its_file_stays(
        self, stack: FakeStack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unlink(_self: Path, *_words: object, **_more: object) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        def stay(verb: str) -> None:
            if verb == "up" and stack.known:
                monkeypatch.setattr(Path, "unlink", unlink)

        stack.during = stay
        with stack.present():
            pass
        monkeypatch.undo()
        assert stack.known is None
        assert "gone, and its key with it" in stack.told[-1]

    def test_a_gateway_that_does_not_take_the_file_is_told(
        self, stack: FakeStack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(consumer, "PATIENCE", 0.0)
        monkeypatch.setattr(consumer, "in_force", lambda _pulumi: 2)
        with pytest.raises(OpsError, match="knows 2 consumers and not 3"), stack.present():
            pytest.fail("the key is not known")


class TestKilled:
    """`kill -9` leaves the consumer, its settings and nothing that could take them away."""

    @pytest.fixture
    def killed(self, stack: FakeStack) -> FakeStack:
        with stack.present():
            kept, deployed = stack.left.read_text(), stack.deployed
        stack.left.write_text(kept)
        stack.deployed = deployed
        return stack

    def test_the_next_test_takes_it_away_first(self, killed: FakeStack) -> None:
        before = killed.known
        with killed.present():
            assert killed.known != before
        assert killed.known is None
        assert "removing what a load test that was killed has left" in " ".join(killed.told)

    def test_with_other_changes_beside_it_nothing_is_deployed(self, killed: FakeStack) -> None:
        killed.write(PLATFORM | {"chat": {"title": "Ours"}})
        killed.argv.clear()
        with pytest.raises(OpsError, match="would change"), killed.present():
            pytest.fail("it would have deployed the change")
        assert "up" not in {one.split()[0] for one in killed.argv}
        assert killed.left.exists(), "the next `make load` knows that there is something to take away"

    def test_an_up_forgets_it(self, killed: FakeStack) -> None:
        assert consumer.forget("dev")
        assert not consumer.forget("dev")
        assert not killed.left.exists()


def test_somebody_elses_name_is_not_taken(stack: FakeStack) -> None:
    stack.write(PLATFORM | {"consumers": [*PLATFORM["consumers"], {"name": "load"}]})
    with pytest.raises(OpsError, match=r"a consumer is named load(.|\n)*another name"):
        consumer.refuse_name(settings.platform(stack.file), stack.file.name)


def test_a_stack_without_a_gateway_is_sent_to_up(stack: FakeStack) -> None:
    with (
        pytest.raises(OpsError, match="no gateway yet"),
        consumer.present(stack.as_pulumi, settings.platform(stack.file), {}, Stops(), print),
    ):
        pytest.fail("there is nothing to write")


def soon(what: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


CHILD = """
import pathlib, signal, subprocess, sys, time
seen = pathlib.Path(sys.argv[1])
count = 0
def stop(*_):
    global count
    count += 1
    seen.with_suffix(f".{count}").touch()
    if count == int(sys.argv[2]): sys.exit(130)
signal.signal(signal.SIGINT, stop)
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
seen.write_text(str(worker.pid))
for _ in range(1000): time.sleep(0.01)
"""


class TestStops:
    @pytest.mark.parametrize(("signals", "gives_in", "code"), [(1, 1, 130), (2, 2, 130), (3, 9, 137)])
    def test_each_ctrl_c_is_passed_on_and_the_third_ends_it(
        self, tmp_path: Path, signals: int, gives_in: int, code: int
    ) -> None:
        seen = tmp_path / "seen"

        def press() -> None:
            soon(lambda: seen.exists() and seen.read_text())
            for number in range(1, signals + 1):
                os.kill(os.getpid(), signal.SIGINT)
                soon(lambda number=number: number == 3 or seen.with_suffix(f".{number}").exists())

        with noted() as stops:
            fingers = threading.Thread(target=press)
            fingers.start()
            ended = stops.run([sys.executable, "-c", CHILD, str(seen), str(gives_in)], os.environ, tmp_path)
            fingers.join()
        assert (ended, stops.asked) == (code, signals)
        worker = Path(f"/proc/{seen.read_text()}/cmdline")
        soon(lambda: not worker.exists() or not worker.read_bytes())

    def test_nothing_is_started_once_it_was_asked(self, tmp_path: Path) -> None:
        with noted() as stops:
            os.kill(os.getpid(), signal.SIGTERM)
            with pytest.raises(KeyboardInterrupt):
                stops.run([sys.executable, "-c", "open('made', 'w')"], os.environ, tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_the_handlers_before_are_put_back(self) -> None:
        before = signal.getsignal(signal.SIGINT)
        with noted():
            assert signal.getsignal(signal.SIGINT) != before
        assert signal.getsignal(signal.SIGINT) == before


class TestWords:
    def test_they_go_on_as_the_run_takes_them(self) -> None:
        assert loads.given({"USERS": "2", "FOR": "10s", "RATE": "", "HOME": "/root"}) == {
            "LOAD_USERS": "2", "LOAD_FOR": "10s"
        }  # fmt: skip

    def test_wrong_ones_are_refused_before_anything_is_deployed(self) -> None:
        with pytest.raises(OpsError, match=r"USERS=many"):
            loads.given({"USERS": "many"})
        with pytest.raises(OpsError, match=r"/nowhere/a\.log cannot be read"):
            loads.given({"REPLAY": "/nowhere/a.log"})

    def test_secrets_and_stray_words_of_the_shell_stay_behind(self) -> None:
        shell = {"PATH": "/bin", "PULUMI_CONFIG_PASSPHRASE": "p", "LOAD_USERS": "9", "KEY": "sk-x", "KEYBOARD": "us"}
        assert loads.plain(shell) == {"PATH": "/bin", "KEYBOARD": "us"}

    def test_a_model_that_nobody_serves_is_refused(self, stack: FakeStack) -> None:
        platform = settings.platform(stack.file)
        assert loads.models(platform, {}) == {"LOAD_EMBEDDING_MODEL": "all-minilm"}
        with pytest.raises(OpsError, match=r"MODEL=huge: no model.*all-minilm, default, tiny"):
            loads.models(platform, {"LOAD_MODEL": "huge"})

    def test_a_profile_that_is_none_is_refused_too(self) -> None:
        with pytest.raises(OpsError, match="chta"):
            loads.given({"PROFILE": "chta"})

    @pytest.mark.parametrize(
        ("words", "signs_in"),
        [({}, False), ({"PROFILE": "code"}, False), ({"PROFILE": "ui"}, True),
         ({"PROFILE": "mixed"}, False), ({"PROFILE": "mixed", "MIX": "chat=50,ui=50"}, True)],
    )  # fmt: skip
    def test_only_people_of_the_chat_sign_in(self, stack: FakeStack, words: dict[str, str], signs_in: bool) -> None:
        platform = settings.platform(stack.file)
        pulumi = cast("Pulumi", SimpleNamespace(call=lambda *_: "secret\n"))
        found = loads.people(pulumi, platform, loads.given(words))
        assert found == ({"LOAD_CHAT_EMAIL": "admin@localhost", "LOAD_CHAT_PASSWORD": "secret"} if signs_in else {})

    def test_what_comes_with_the_chats_key_is_not_counted_as_the_tests(self) -> None:
        assert loads.server("dev", prometheus=True)["metrics"][:3] == ["docker", "exec", "private-llm-dev-gateway"]
        assert loads.server("dev", prometheus=True, counts=False)["metrics"] == []
        assert loads.server("dev", prometheus=False)["prometheus"] == []

    def test_without_a_chat_nobody_signs_in(self, stack: FakeStack) -> None:
        stack.write(PLATFORM | {"chat": {"enabled": False}})
        with pytest.raises(OpsError, match="no chat UI"):
            loads.people(stack.as_pulumi, settings.platform(stack.file), {"LOAD_PROFILE": "ui"})


class TestElsewhere:
    REQUEST = Request(command="load", url="https://llm.example.org/v1/")

    def test_the_run_gets_address_and_key_in_its_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        certificate = tmp_path / "root.crt"
        certificate.touch()
        names = ("OPENAI_BASE_URL", "OPENAI_API_KEY", "SSL_CERT_FILE", "LOAD_USERS", "KEY")
        script = f"import os, sys; print(sys.argv[1:], *(os.environ.get(n) for n in {names})); sys.exit(7)"
        monkeypatch.setattr(loads, "RUN", ("-c", script))
        request = replace(self.REQUEST, ca=str(certificate))
        assert loads.elsewhere(request, {"LOAD_USERS": "2"}, {"KEY": "sk-k", "PATH": os.environ["PATH"]}) == 7
        captured = capfd.readouterr()
        assert captured.out == f"[] https://llm.example.org/v1 sk-k {certificate} 2 None\n"
        assert "not this machine's to change" in captured.err
        assert "sk-k" not in captured.err

    def test_a_key_is_needed(self) -> None:
        with pytest.raises(OpsError, match="read -rs KEY"):
            loads.elsewhere(self.REQUEST, {}, {})

    def test_a_certificate_that_is_not_there_is_refused(self) -> None:
        with pytest.raises(OpsError, match="CA=/no/where: there is no such file"):
            loads.elsewhere(replace(self.REQUEST, ca="/no/where"), {}, {"KEY": "k"})

    @pytest.mark.parametrize(
        "url", ["http://llm.example.org", "http://192.168.1.2:8080", "ftp://x", "https://", "https://a:b@c", "llm.org"]
    )
    def test_addresses_where_the_key_would_not_be_safe_are_refused(self, url: str) -> None:
        with pytest.raises(OpsError, match="travel in clear" if url.startswith("http://") else "write the deployment"):
            loads.refuse_clear(url)

    @pytest.mark.parametrize(
        "url", ["https://x.org", "http://127.0.0.1:8080/v1", "http://localhost", "http://[::1]:80"]
    )
    def test_others_are_taken(self, url: str) -> None:
        assert loads.refuse_clear(url) == url


class TestFacts:
    def test_the_configuration_is_told_by_its_keys(self, stack: FakeStack) -> None:
        stack.write(PLATFORM | {"engine": {"parallel": 8, "queue": 4, "instances": 2}})
        told = facts.configuration(settings.platform(stack.file))
        assert told["engine.parallel"] == "8"
        assert told["engine.contextLength"] == "4096"
        assert told["models"] == "tiny (default), all-minilm"
        assert told["at once with one key"] == "12 of 24"

    def test_the_hardware_is_of_the_machine_with_the_containers(self, stack: FakeStack) -> None:
        platform = settings.platform(stack.file)
        info = {"NCPU": 8, "MemTotal": 32 << 30, "Name": "the-host"}
        told = facts.hardware(info, platform, ["2 x NVIDIA GeForce RTX 4090, 24564 MiB, 550.1"], "AMD EPYC")
        assert told == {
            "processor": "AMD EPYC", "cores": "8", "memory": "32.0 GiB",
            "GPUs": "2 x NVIDIA GeForce RTX 4090, 24564 MiB, 550.1",
        }  # fmt: skip
        assert facts.hardware(info, platform, [], "")["GPUs"] == "none"
        assert facts.hardware(info, platform, None, "")["GPUs"] == "not known"

    def test_equal_cards_are_counted(self, stack: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
        platform = settings.platform(stack.file)
        monkeypatch.setattr(facts, "SMI", ("printf", "A100, 80 GiB, 550\nA100, 80 GiB, 550\nT4, 16 GiB, 550\n"))
        assert facts.gpus(platform) == ["2 x A100, 80 GiB, 550", "1 x T4, 16 GiB, 550"]
        monkeypatch.setattr(facts, "SMI", ("/no/nvidia-smi",))
        assert facts.gpus(platform) == []
        stack.write(PLATFORM | {"engine": {"accelerator": "amd", "deviceGroups": [44]}})
        assert facts.gpus(settings.platform(stack.file)) is None

    def test_programs_tell_their_versions_and_who_is_not_there_is_left_out(self) -> None:
        said = {"ollama": "ollama version is 0.35.0\n", "gateway": "v2.11.9 h1:abc=\n"}

        def docker(command: Any, _env: Any, _limit: Any, _text: Any) -> Result:
            service = command[2].removeprefix("private-llm-dev-")
            return Result(0, said[service], "") if service in said else Result(1, "", "no such container")

        found = facts.programs(DockerCli({}, runner=docker), "private-llm-dev")
        assert found == {"engine": "Ollama 0.35.0", "gateway": "Caddy 2.11.9"}

    def test_the_commit_says_whether_the_files_are_its_own(self, tmp_path: Path) -> None:
        assert facts.project(tmp_path) == "not known"
        for words in ("init -q .", "-c user.name=a -c user.email=a@b commit -q --allow-empty -m first"):
            assert os.waitstatus_to_exitcode(os.system(f"git -C {tmp_path} {words}")) == 0
        commit = facts.project(tmp_path)
        assert len(commit) == 12
        (tmp_path / "Pulumi.dev.yaml").touch()
        assert facts.project(tmp_path) == commit
        (tmp_path / "more.py").touch()
        assert facts.project(tmp_path) == f"{commit}, with changes"
