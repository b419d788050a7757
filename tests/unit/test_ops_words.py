"""The words beside `make`: what a shell happens to export is none of them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from loadtests.runs import words
from ops import bench
from ops.docker import DockerCli, Result
from tests.support.samples import ROOT

OTHERS = ("SOURCE", "HOST", "Q", "MODEL", "S", "NAME", "DATA", "CONFIRM", "COLD", "URL", "CA", "SLOW")
WORDS = (*dict.fromkeys((*OTHERS, *words.WORDS)),)


def passed_on(shell: dict[str, str], *typed: str) -> dict[str, str]:
    """The words in the environment of a recipe of the Makefile."""
    kept = {key: value for key, value in os.environ.items() if key not in bench.MAKES_OWN and key not in WORDS}
    done = subprocess.run(
        ["make", "-s", "--no-print-directory", "--eval", "probe: ; @env", "probe", *typed],
        cwd=ROOT, env=kept | shell, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return {word: found[word] for word in WORDS if word in found}


def test_a_shells_variables_are_no_words() -> None:
    assert passed_on(dict.fromkeys(WORDS, "/data")) == {}


def test_typed_words_are_passed_on_whatever_the_shell_has() -> None:
    typed = {word: f"typed-{word.lower()}" for word in WORDS}
    assert passed_on(dict.fromkeys(WORDS, "/data"), *(f"{word}={value}" for word, value in typed.items())) == typed


@pytest.mark.parametrize("target", ["load", "contract"])
def test_a_key_that_is_typed_is_refused_and_one_of_the_shell_is_not(target: str) -> None:
    def planned(*typed: str, **shell: str) -> subprocess.CompletedProcess[str]:
        # Nothing else is run: the next line's interpreter fails.
        command = ["make", "-s", "--no-print-directory", target, "PYTHON=false", *typed]
        environment = {"PATH": os.environ["PATH"], **shell}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    typed, shell = planned("KEY=sk-0123456789"), planned(KEY="sk-0123456789")
    assert typed.returncode == shell.returncode == 2
    assert typed.stderr.startswith("error: KEY=… typed after make can be seen by others: leave it out, and type `read")
    assert "sk-0123" not in typed.stdout + typed.stderr
    assert "typed after make" not in shell.stderr


def test_the_benchmark_types_its_words(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text() + '\nprobe: ; @echo "$$STACK $$Q $$DATA"\n')
    env = {"PATH": os.environ["PATH"], "STACK": "mine", "DATA": "/data"}
    one = bench.Bench(tmp_path, env, {"STACK": "bench"})
    assert one.make("probe", "probe", Q="say hello").strip() == "bench say hello"
    assert "probe" in one.steps


def test_the_benchmark_types_no_word_that_a_target_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    typed: list[list[str]] = []

    def run(command: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
        typed.append(command[2:])
        return real(command, **more)

    real = subprocess.run
    monkeypatch.setattr(bench.subprocess, "run", run)
    one = bench.Bench(ROOT, {"PATH": os.environ["PATH"], "MAKEFLAGS": "n"}, {"STACK": "bench"}, "mirror")
    for target, more in (("up", {}), ("ask", {"Q": "say"}), ("env", {}), ("destroy", {"DATA": "delete"})):
        one.make(target, target, **more)
    assert typed == [
        ["up", "STACK=bench", "SOURCE=mirror"], ["ask", "STACK=bench", "Q=say"], ["env", "STACK=bench"],
        ["destroy", "STACK=bench", "SOURCE=mirror", "DATA=delete"],
    ]  # fmt: skip


def test_the_benchmark_unloads_the_models_that_are_in_memory() -> None:
    ran: list[list[str]] = []

    def docker(command: list[str], _env: object, _limit: float, _text: object) -> Result:
        ran.append(command[3:])
        return Result(0, "NAME ID SIZE\ntiny:latest 1 9 MB\n" if command[-1] == "ps" else "", "")

    bench.unload(DockerCli({}, runner=docker))  # type: ignore[arg-type]
    assert ran == [["ollama", "ps"], ["ollama", "stop", "tiny:latest"]]
