"""`make size`: words are checked, settings come out as the smallest edit, and nothing wrong is written."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtests.report import files as reports
from loadtests.results import store
from loadtests.sizing.place import Here
from ops import paths, progress, record, size
from ops.__main__ import main
from ops.docker import DockerCli, Result
from ops.errors import OpsError
from ops.pulumi import PROJECT
from ops.request import parse
from ops.size import asked, edit
from stack.capacity import box as boxes
from stack.capacity import facts
from stack.capacity.devices import devices
from stack.capacity.usage import Slo, Usage
from stack.config.explain import ConfigError, parse_platform
from stack.config.model import OWN_ENGINE
from tests.support.boxes import Box

TOP = ("config", "private-llm:platform")
STACK = """\
# what this box is for
config:
  private-llm:platform:
    engine:
      accelerator: nvidia   # the big one
      hardware: [{ device: nvidia-rtx-4090 }]
      contextLength: 8192

    # what is served
    models:
      - name: qwen3:14b
        aliases: [default]
      - name: all-minilm
        role: embedding
    consumers:
      - name: default
      - name: chat   # the people
      - { name: ci, scopes: [chat] }
encryptionsalt: v1:abc=
"""


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stack's file, with nothing of this machine around it."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(size, "OUT", tmp_path / "out")
    monkeypatch.setenv("PRIVATE_LLM_STATE", str(tmp_path / "state"))
    record.remember("dev", source="mirror")  # no engine is asked for what its files say
    for word in ("PEOPLE", "APPLY", "SLO", "THINK", "GPU_PRICE", "FORMAT", "MODEL"):
        monkeypatch.delenv(word, raising=False)
    file = tmp_path / "Pulumi.dev.yaml"
    file.write_text(STACK)
    return file


def run_in(folder: Path, **told: str) -> Path:
    box = Box()
    for users in (1, 2, 4, 8):
        box.hold(users, 100)
    store.write(folder, reports.render(box.result(**told), box.records))
    return folder


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("engine", "contextLength"), "      contextLength: 6"),
        (("engine", "parallel"), "      parallel: 6"),
        (("consumers", 0, "concurrentStreams"), "        concurrentStreams: 6"),
        (("consumers", 1, "concurrentStreams"), "        concurrentStreams: 6"),
        (("consumers", 2, "concurrentStreams"), "      - { name: ci, scopes: [chat], concurrentStreams: 6 }"),
        (("gateway", "limits", "api", "burst"), "          burst: 6"),
    ],
)
def test_an_edit_changes_a_line_and_nothing_else(path: edit.Path, line: str) -> None:
    after = edit.edited(STACK, {(*TOP, *path): 6}, "f")
    kept = [one for one in STACK.splitlines() if one in after.splitlines()]
    assert line in after.splitlines()
    assert len(kept) >= len(STACK.splitlines()) - 1, "all but the line that is another one"
    found: Any = yaml.safe_load(after)
    for step in (*TOP, *path):
        found = found[step]
    assert found == 6
    assert edit.edited(after, {(*TOP, *path): 6}, "f") == after


def test_several_edits_are_each_where_they_belong() -> None:
    after = edit.edited(STACK, {(*TOP, "engine", "parallel"): 8, (*TOP, "consumers", 2, "concurrentStreams"): 4}, "f")
    lines = edit.diff(STACK, after, "f").splitlines()
    assert [line for line in lines if line[0] in "+-" and line[1] not in "+-"] == [
        "+      parallel: 8", "-      - { name: ci, scopes: [chat] }",
        "+      - { name: ci, scopes: [chat], concurrentStreams: 4 }",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["config: {a: &x {b: 1}, c: *x}\n", "config:\n  c: []\n", "config:\n  c: text\n"])
def test_what_cannot_be_edited_safely_is_refused(text: str) -> None:
    with pytest.raises(OpsError, match=r"Pulumi.dev.yaml"):
        edit.edited(text, {("config", "c", "b"): 2}, "Pulumi.dev.yaml")


def test_words_are_read() -> None:
    said = asked.parse(
        {"PEOPLE": "20", "KWH": "0.30", "API_PRICE": "0.15/0.60", "GPU_PRICE": "1500 nvidia-l40s=7000", "THINK": "60",
         "SLO": "ttft=1,tpot=0.05", "HOURS": "200", "CURRENCY": "EUR"}
    )  # fmt: skip
    assert (said.asked.people, said.asked.usage, said.asked.slo) == (20, {"think_s": 60.0}, Slo(ttft=1.0, tpot=0.05))
    prices = said.asked.prices
    assert (prices.kwh, prices.card, prices.api_input, prices.api_output, prices.currency) == (
        0.3,
        1500,
        0.15,
        0.6,
        "EUR",
    )
    assert said.asked.market.cards == {"nvidia-l40s": 7000.0}
    assert said.asked.habits.hours == 200
    assert not said.apply


@pytest.mark.parametrize(
    ("word", "value", "says"),
    [
        ("PEOPLE", "many", "whole number"),
        ("KWH", "-1", "0 or more"),
        ("KWH", "nan", "0 or more"),
        ("GPU_PRICE", "rtx=cheap", "GPU_PRICE=1600"),
        ("GPU_PRICE", "no-such-card=5", "no-such-card"),
        (
            "GPU_PRICE",
            "nvidia-rtx-409=5",
            "GPU_PRICE=nvidia-rtx-409=5: 'nvidia-rtx-409' must be .*nearest: nvidia-rtx-4090",
        ),
        ("MONTHS", "0", "MONTHS=0: months are above 0"),
        ("DOLLAR", "0", "DOLLAR=0: what one US dollar is in USD, for example DOLLAR=0.9"),
        ("API_PRICE", "a/b", "API_PRICE=0.15/0.60"),
        ("SLO", "embeddings", "ttft=2,tpot=0.1"),
        ("SLO", "nosuch", "people"),
        ("ACTIVE", "2", "above 0 to 1"),
        ("HOURS", "1000", "HOURS=1000: hours of a month.*0 to 730"),
        ("PEOPLE", "0", "from 1 on"),
        ("INPUT", "0", "INPUT=0: tokens of a question"),
        ("ACTIVE", "10", "10 % is ACTIVE=0.1"),
        ("PEAK_SHARE", "50", "50 % is PEAK_SHARE=0.5"),
        ("MONTHS", "0", "months are above 0"),
        ("CARD_W", "0.45", "not kilowatts"),
        ("HOST_W", "0.12", "not in kilowatts"),
        ("KWH", "30", "not in cents"),
        ("APPLY", "yes", "APPLY=yes"),
    ],
)
def test_wrong_words_say_what_is_allowed(word: str, value: str, says: str) -> None:
    with pytest.raises(OpsError, match=says):
        asked.parse({word: value})


def test_a_plan_alone_says_what_is_modelled_and_writes_nothing(stack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert size.size(parse("size", {})) == 0
    said = capsys.readouterr().out
    assert said.startswith("Plan with ")
    assert re.search(r"\+      parallel: \d+", said)
    assert stack.read_text() == STACK
    (folder,) = (stack.parent / "out").iterdir()
    assert {one.name for one in folder.iterdir()} == {"report.html", "size.json", "summary.md"}


def test_what_is_proposed_is_written_when_that_is_asked_for(
    stack: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APPLY", "1")
    stack.chmod(0o640)
    assert size.size(parse("size", {})) == 0
    after = stack.read_text()
    assert re.search(r"^      parallel: \d+$", after, re.MULTILINE)
    assert [line for line in STACK.splitlines() if "#" in line] == [line for line in after.splitlines() if "#" in line]
    assert stack.stat().st_mode & 0o777 == 0o640
    assert "make up STACK=dev" in capsys.readouterr().out
    assert size.size(parse("size", {})) == 0
    assert stack.read_text() == after, "what was written is not proposed again"


def test_a_full_disk_is_told_and_leaves_the_stacks_file(
    stack: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setenv("APPLY", "1")
    monkeypatch.setattr(size, "_sized", lambda *_: None)
    monkeypatch.setattr(size, "_told", lambda *_: None)
    monkeypatch.setattr(size.proposal, "changes", lambda *_: {(*TOP, "engine", "parallel"): 8})
    monkeypatch.setattr(os, "fsync", full)
    assert main(["size"]) == 1
    assert capsys.readouterr().err == (
        f"error: {stack}: No space left on device\n"
        "fix: make room on that disk, then run the same again: a file is written whole or not at all\n"
    )
    assert stack.read_text() == STACK
    assert [one.name for one in stack.parent.glob(".Pulumi*")] == []


def test_what_is_proposed_is_checked_before_it_is_written(stack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPLY", "1")
    monkeypatch.setattr(size.proposal, "changes", lambda *_: {(*TOP, "engine", "parallel"): 1000})
    with pytest.raises(ConfigError):
        size.size(parse("size", {}))
    assert stack.read_text() == STACK


def test_a_run_tells_of_a_machine_without_a_plan(stack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stack.write_text(STACK.replace("accelerator: nvidia   # the big one", "parallel: 4").replace(
        "      hardware: [{ device: nvidia-rtx-4090 }]\n", ""))  # fmt: skip
    folder = run_in(stack.parent / "run")
    assert size.size(parse("size", {"RUN": str(folder), "FORMAT": "json"})) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["measured"], said["runs"], said["model"]) == (True, ["run"], "qwen3:14b")
    assert {one["verdict"] for one in said["heldOut"]} == {"PASS"}
    with pytest.raises(OpsError, match="make load STACK=dev USERS=1,2,4,8"):
        size.size(parse("size", {}))


@pytest.mark.parametrize(
    ("served", "said"), [("qwen3:14b (default)", "machine by run"), ("b:1b (default)", "asked b:1b")]
)
def test_a_run_is_held_against_the_machine_and_the_model(
    stack: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], served: str, said: str
) -> None:
    """A run of whatever was said to be of this stack on this machine."""
    asked_of: list[tuple[str, str]] = []

    def now(_: object, __: object, name: str, model: str) -> Here:
        asked_of.append((name, model))
        return Here(hardware={"GPUs": "none"}, model=model, digest="")

    monkeypatch.setattr(size, "here", now)
    folder = run_in(stack.parent / "run", models=served)
    assert size.size(parse("size", {"RUN": str(folder)})) == 0
    assert asked_of == [("dev", "qwen3:14b")]
    assert said in capsys.readouterr().out


def docker(command: Sequence[str], *_: object) -> Result:
    if command[1] == "info":
        return Result(0, '{"NCPU": 4, "MemTotal": 17179869184}', "")
    if list(command[1:3]) == ["exec", f"{PROJECT}-dev-{OWN_ENGINE}"]:
        return Result(0, "NAME ID SIZE MODIFIED\nqwen3:14b 0123456789ab 9.3 GB 2 days ago\n", "")
    return Result(1, "", "no such container")


def test_what_this_machine_is_comes_from_docker_and_the_engine() -> None:
    platform, env = parse_platform(yaml.safe_load(STACK)[TOP[0]][TOP[1]], "f"), {"DOCKER_HOST": "unix:///x"}
    found = size.here(DockerCli(env, runner=docker), platform, "dev", "qwen3:14b")
    assert (found.model, found.digest) == ("qwen3:14b", "0123456789ab")
    assert (found.hardware["cores"], found.hardware["memory"]) == ("4", "16.0 GiB")
    silent = DockerCli(env, runner=lambda *_: Result(1, "", "Cannot connect to the Docker daemon"))
    assert size.here(silent, platform, "dev", "qwen3:14b") == Here(hardware={}, model="qwen3:14b", digest="")


def machine(*cards: Mapping[str, Any], instances: int = 1, model: str = "qwen3:8b") -> boxes.Box:
    """How these cards are planned."""
    tree = yaml.safe_load(STACK)[TOP[0]][TOP[1]]
    gpus = [str(number) for number in range(len(cards))]
    tree["engine"] = {"accelerator": "nvidia", "gpus": gpus, "instances": instances, "hardware": list(cards)}
    tree["models"][0]["name"] = model
    made = size.machine(parse_platform(tree, "Pulumi.dev.yaml"), "dev", facts.model(model), ())
    assert made is not None
    return made


@pytest.mark.usefixtures("stack")
def test_what_to_buy_is_printed_when_people_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PEOPLE", "20")
    assert size.size(parse("size", {})) == 0
    said = capsys.readouterr().out
    assert "Machines that serve 20 people at once" in said
    assert len(re.findall(r"^  \S.* slots, \d+ to \d+ people, ", said, flags=re.MULTILINE)) == 3


@pytest.mark.usefixtures("stack")
def test_what_takes_a_while_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(size, "counted", partial(progress.counted, clock=count(step=2.0).__next__))
    assert size.size(parse("size", {})) == 0
    told = re.findall(r"^cards to buy looked at: (\d+) of (\d+)$", capsys.readouterr().err, flags=re.MULTILINE)
    assert len(told) > 10
    assert {int(whole) for _, whole in told} == {len(devices())}
    assert [int(done) for done, _ in told] == sorted({int(done) for done, _ in told})


def test_a_model_that_does_not_fit_says_what_would(stack: Path) -> None:
    stack.write_text(STACK.replace("qwen3:14b", "llama3.3:70b"))
    with pytest.raises(OpsError, match=r"takes .* GiB(.|\n)*fix: `make plan STACK=dev`"):
        size.size(parse("size", {}))


SMALL, LARGE = {"device": "nvidia-rtx-3060"}, {"device": "nvidia-rtx-4090"}


@pytest.mark.usefixtures("stack")
def test_instances_on_different_cards_are_as_good_as_the_weakest() -> None:
    """An RTX 3060 beside an RTX 4090 was counted as a second RTX 4090."""
    assert machine(LARGE, SMALL, instances=2) == machine(SMALL, SMALL, instances=2)
    assert machine(LARGE, LARGE, instances=2).device.id == LARGE["device"]


@pytest.mark.usefixtures("stack")
def test_instances_of_several_cards_are_counted_each() -> None:
    """Two instances that share a large model over two cards each were counted as one."""
    card = {"device": "nvidia-rtx-5090"}
    alone, both = (machine(*[card] * 2 * many, instances=many, model="llama3.3:70b") for many in (1, 2))
    assert [boxes.serving(one, Usage()).engines for one in (alone, both)] == [1, 2]


@pytest.mark.usefixtures("stack")
def test_a_card_of_ones_own_is_planned_like_others_of_its_kind() -> None:
    own = boxes.serving(machine({"memory": "24GiB", "bandwidth": 1008}), Usage())
    assert own.decode == boxes.serving(machine(LARGE), Usage()).decode


def test_a_model_nobody_talks_to_is_named(stack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL", "all-minilm")
    with pytest.raises(OpsError, match="there are qwen3:14b"):
        size.size(parse("size", {}))
    assert stack.read_text() == STACK


def test_a_folder_that_is_no_run_is_named(stack: Path) -> None:
    with pytest.raises(
        OpsError, match=f"RUN={stack.parent}: there is no result.json: give the folder that `make load`"
    ):
        size.size(parse("size", {"RUN": str(stack.parent)}))
