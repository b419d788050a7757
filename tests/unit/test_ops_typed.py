"""What is typed wrong after `make`: refused before anything starts, with the nearest that is right; never a value."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from typing import Final

import pytest

from loadtests.runs import words as run_words
from ops import bench, request, typed
from ops import load as loads
from ops.size import asked
from tests.support.samples import ROOT

MAKEFILE: Final = (ROOT / "Makefile").read_text()
TABLE: Final = {
    name: found.replace("\\\n", " ").split()
    for name, found in re.findall(r"^words\.([a-z-]+) := ((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)
}
HELP: Final = dict(re.findall(r"^([a-z-]+):.*?## (.*)$", MAKEFILE, re.MULTILINE))
ELSEWHERE: Final = {"KEY", "DIRECT", "URL", "CA"}
"""Words of a load that its run is not given as they are."""


def make(*typed: str, **shell: str) -> subprocess.CompletedProcess[str]:
    """`make`, which would only print what it would do (-n)."""
    kept = {key: value for key, value in os.environ.items() if key not in bench.MAKES_OWN}
    return subprocess.run(
        ["make", "-n", "--no-print-directory", *typed], cwd=ROOT, env=kept | shell, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (("load", "USER=3"), "`make load` has no word USER; did you mean USERS=…?"),
        (("load", "users=3"), "`make load` has no word users; did you mean USERS=…?"),
        (("size", "PEPLE=20"), "`make size` has no word PEPLE; did you mean PEOPLE=…?"),
        (("load", "STAK=box"), "did you mean STACK=…?"),
        (("size", "USERS=3"), "USERS=… would do nothing for `make size`; it is a word of `make load`"),
        (("down", "DATA=delete"), "DATA=… would do nothing for `make down`; it is a word of `make destroy`"),
        (("load", "RUN=x"), "it is a word of `make baseline`, `make calibrate`, `make size`"),
        (("up", "DOCKER_HOST=unix:///x"), "what is meant for another program goes in front: DOCKER_HOST=… make up"),
        (("load", "USERS", "3"), "USERS is a word and no target: write USERS=…"),
        (("load", "USERS=", "3"), "3 is no target; is it a value? It follows its word without a blank"),
        (("up", "staus"), "staus is no target; did you mean status?"),
        (("help", "x'y=1"), "`make help` has no word x'y"),
        (("USER=3",), "`make help` has no word USER"),
        (("up", "load", "PEOPLE=3"), "PEOPLE=… would do nothing for `make up load`"),
    ],
)
def test_what_means_nothing_is_refused_with_the_nearest_that_does(line: tuple[str, ...], said: str) -> None:
    done = make(*line)
    assert done.returncode == 2
    assert said in done.stderr
    assert "nothing was done" in done.stderr
    assert done.stdout == "", "no recipe was begun"


def test_what_is_allowed_is_told() -> None:
    assert f"`make load` takes {' '.join(TABLE['load'])}; all targets take STACK PYTHON" in make("load", "USR=3").stderr
    assert "`make down` takes SOURCE;" in make("down", "USR=3").stderr
    assert "`make lint` takes no words of its own;" in make("lint", "USR=3").stderr


@pytest.mark.parametrize(
    "line", [("load", "USR=sk-0123456789abcdef", "KEY=sk-0123456789abcdef"), ("load", "KEY=", "sk-0123456789abcdef")]
)
def test_values_are_not_told(line: tuple[str, ...]) -> None:
    done = make(*line)
    assert done.returncode == 2
    assert "nothing was done" in done.stderr
    assert "sk-0123456789abcdef" not in done.stdout + done.stderr


def test_names_alone_are_handed_on() -> None:
    done = make("load", "USR=secret", "USERS=hidden", "PYTHON=echo")
    assert "-m ops.typed load USR" in done.stderr
    assert "secret" not in done.stderr
    assert "hidden" not in done.stderr


@pytest.mark.parametrize(
    "line",
    [
        ("-s", "-j4", "-k", "load", "USERS=3", "STACK=box", "PYTHON=python3", "SHELL=/bin/bash", "MAKEFLAGS=n"),
        ("load", "URL=https://llm.example.org", "KEY=k", "CA=c"),
        ("up", "load", "SOURCE=mirror", "USERS=3"),
        ("help",),
        (),
    ],
)
def test_what_is_right_is_done(line: tuple[str, ...]) -> None:
    done = make(*line, USER="root", PEPLE="20", USERS="9")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_a_target_that_is_none_is_left_to_make() -> None:
    assert "No rule to make target 'laod'" in make("laod", "USERS=3").stderr


@pytest.mark.parametrize("target", sorted(TABLE))
def test_each_target_takes_its_words(target: str) -> None:
    assert make(target, *(f"{word}=1" for word in TABLE[target])).returncode == 0


@pytest.mark.parametrize("target", sorted(HELP))
def test_the_help_shows_no_word_that_is_refused(target: str) -> None:
    others = re.sub(r"`make [^`]*`", "", HELP[target])
    assert set(re.findall(r"\b([A-Z_]+)=", others)) - {"STACK"} <= set(TABLE.get(target, ()))


def test_every_word_is_explained_somewhere() -> None:
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "tests" / "attack" / "README.md"]
    told = "\n".join([*HELP.values(), *(page.read_text() for page in pages)])
    assert {word for words in TABLE.values() for word in words if not re.search(rf"\b{word}\b", told)} == set()


class Noting(Mapping[str, str]):
    """An environment without a variable, that notes which ones were looked for."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.seen.add(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def test_the_table_has_the_words_that_are_read_and_no_others() -> None:
    shell, sizes = Noting(), Noting()
    request.parse("up", shell)
    asked.parse(sizes)
    load = {*run_words.WORDS, loads.MIX, *ELSEWHERE}
    assert set(TABLE["load"]) == load
    assert sizes.seen - {"RUN", "FORMAT"} == set(TABLE["size"]) - {"RUN", "FORMAT"}
    own = {"SEED", "N", "ONLY", "REST", "QUICK", "KEY"}  # of programs that read the environment themselves
    assert {word for words in TABLE.values() for word in words} == (shell.seen - {"STACK"}) | load | sizes.seen | own


def test_a_word_of_another_target_is_told_as_such_however_near_one_of_this_is() -> None:
    said = typed.sentences(["size"], ["HOUR", "MIX"], [], {"size": ["HOURS"], "load": ["MIX", "HOUR"]})
    assert said == [
        "error: HOUR=… would do nothing for `make size`; it is a word of `make load`",
        "error: MIX=… would do nothing for `make size`; it is a word of `make load`",
        "`make size` takes HOURS; all targets take STACK PYTHON",
    ]
