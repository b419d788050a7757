"""`make load` on a real platform: its key is there while it runs, nobody else notices, and nothing of it is left."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from ops import paths
from tests.support.live.platform import Platform
from tests.support.live.waits import until

START = 120.0  # seconds until the load runs
END = 180.0
WORDS = {"USERS": "2", "FOR": "10s"}
VERDICTS = {0: {"pass"}, 1: {"fail", "none"}}


@dataclass
class Run:
    """A `make load` that is under way: its process, the run behind it, and the key that it was given."""

    platform: Platform
    process: subprocess.Popen[str]
    out: Path

    def child(self) -> Path | None:
        """The process that makes the load, in /proc."""
        for path in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.process.pid and b"loadtests.run" in (path / "cmdline").read_bytes():
                    return path
            except (OSError, ValueError, IndexError):
                continue
        assert self.process.poll() is None, f"it has ended: {self.process.stdout.read() if self.process.stdout else ''}"
        return None

    def key(self) -> str:
        """The key, from the environment of the process that has it."""
        environment = (until("the load runs", self.child, START) / "environ").read_bytes().split(b"\0")
        (found,) = [one.partition(b"=")[2].decode() for one in environment if one.startswith(b"OPENAI_API_KEY=")]
        return found

    def wait_for(self, words: str) -> None:
        """Reads what it says up to these words."""
        assert self.process.stdout is not None
        read = ""
        for line in self.process.stdout:
            read += line
            if words in line:
                return
        raise AssertionError(f"it ended without {words!r}:\n{read}")

    def ended(self) -> tuple[int, str]:
        """Exit status, and all that it said."""
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            text = stdout.read()
        with self.platform.log.open("a") as log:
            log.write(text)
        return self.process.wait(END), text


def begin(platform: Platform, out: Path, **words: str) -> Run:
    assert (paths.ROOT / "loadtests").is_dir()
    return Run(platform, platform.start("load", OUT=str(out), **{**WORDS, **words}), out)


def status(platform: Platform, key: str) -> int:
    return platform.session(key).get(f"{platform.url}/v1/models", timeout=10).status_code


def starts(platform: Platform) -> dict[str, str]:
    return {name: platform.inspect(name)["State"]["StartedAt"] for name in platform.running()}


def holds(folder: Path, text: str) -> list[str]:
    """Files below a folder in which a text is."""
    done = subprocess.run(
        ["grep", "-rlF", "--exclude-dir=.venv", "-e", text, str(folder)], capture_output=True, text=True, check=False
    )
    return done.stdout.splitlines()


def argv() -> str:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)


def untouched(platform: Platform, before: tuple[bytes, dict[str, str]]) -> None:
    """The settings are the same bytes, no container was started again, and an `up` would change nothing."""
    assert (platform.settings.read_bytes(), starts(platform)) == before
    assert not (platform.state / "stacks" / f"{platform.stack}.load.yaml").exists()
    assert {step["op"] for step in json.loads(platform.pulumi("preview", "--json"))["steps"]} == {"same"}


@pytest.fixture
def before(platform: Platform) -> tuple[bytes, dict[str, str]]:
    return platform.settings.read_bytes(), starts(platform)


def test_a_run_ends_with_a_report_and_nothing_left(
    platform: Platform, before: tuple[bytes, dict[str, str]], tmp_path: Path
) -> None:
    run = begin(platform, tmp_path / "out")
    key = run.key()
    assert status(platform, key) == 200
    assert key not in argv()
    code, said = run.ended()
    assert code in VERDICTS, said
    result = json.loads((run.out / "result.json").read_text())
    assert result["verdict"] in VERDICTS[code]
    assert result["complete"]
    assert result["whole"]["outcomes"].get("ok", 0) > 0
    environment = result["environment"]
    assert environment["hardware"]["cores"] == str(platform.docker.info()["NCPU"])
    assert environment["versions"]["engine"].startswith("Ollama ")
    assert environment["configuration"]["engine.parallel"] == "4"
    checks = {check["name"]: check["word"] for check in result["gates"]}
    assert checks["model warm"] == "PASS"
    assert status(platform, key) == 401
    untouched(platform, before)
    assert holds(run.out, key) + holds(platform.folder, key) == []
    assert key not in said


def test_ctrl_c_leaves_a_marked_report_and_no_consumer(
    platform: Platform, before: tuple[bytes, dict[str, str]], tmp_path: Path
) -> None:
    run = begin(platform, tmp_path / "out", FOR="10m")
    key = run.key()
    run.wait_for(" answered")
    run.process.send_signal(signal.SIGINT)
    code, said = run.ended()
    assert code == 130, said
    assert not json.loads((run.out / "result.json").read_text())["complete"]
    assert status(platform, key) == 401
    untouched(platform, before)


def test_after_a_kill_the_next_up_takes_the_consumer_away(platform: Platform, tmp_path: Path) -> None:
    run = begin(platform, tmp_path / "out", FOR="10m")
    key, child = run.key(), until("the load runs", run.child, START)
    run.process.kill()
    run.ended()
    until("the load has ended with it", lambda: not child.exists(), 60)
    assert status(platform, key) == 200
    said = platform.up().text
    assert "removed what a load test that was killed had left" in said
    end = time.monotonic() + 10
    while status(platform, key) == 200:
        assert time.monotonic() < end
    assert status(platform, key) == 401


def test_changes_that_wait_for_an_up_are_not_deployed(platform: Platform, tmp_path: Path) -> None:
    platform.configure(lambda config: config["consumers"].append({"name": "eve"}))
    try:
        ended = platform.ops("load", OUT=str(tmp_path / "out"), **WORDS)
    finally:
        platform.configure(lambda config: config["consumers"].pop())
    assert ended.code == 2, "nothing was measured"
    assert "gateway-consumers-seed would change" in ended.text
    assert {step["op"] for step in json.loads(platform.pulumi("preview", "--json"))["steps"]} == {"same"}
