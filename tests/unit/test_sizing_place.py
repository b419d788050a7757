"""Sizing: an answer says where it was measured when that was not here, and what may not be believed of it."""

from __future__ import annotations

import re
from functools import cache

import pytest

from loadtests.results.schema import Environment, Result
from loadtests.sizing import files, measured, sized, words
from loadtests.sizing.measured import Run
from loadtests.sizing.place import Elsewhere, Here, elsewhere, model
from loadtests.sizing.sized import Asked, Sized
from tests.support.boxes import Box
from tests.unit.test_sizing import rows

DIGEST = "0123456789abcdef0123456789abcdef"
THERE = {
    "processor": "AMD EPYC 7B13",
    "cores": "16",
    "memory": "62.7 GiB",
    "GPUs": "1 x NVIDIA L4, 23034 MiB, 570.86.15",
}
SERVED = {"models": "qwen3:0.6b (default, small), all-minilm", "digest qwen3:0.6b": f"sha256:{DIGEST}"}
HERE = Here(hardware=THERE, model="qwen3:0.6b", digest=DIGEST[:12])


@cache
def box() -> Box:
    made = Box()
    for users in (1, 2, 4):
        made.hold(users, 100)
    return made


def run(hardware: dict[str, str], told: dict[str, str], result: Result | None = None) -> Run:
    result = result or box().result()
    environment = Environment(
        target="http://127.0.0.1:18205", hardware=hardware, versions={}, seeds={},
        configuration=result.environment.configuration | told,
    )  # fmt: skip
    return measured.of("sweep", result.model_copy(update={"environment": environment}), rows(box()))


def size(one: Run, other: Elsewhere | None = None) -> Sized:
    return sized.size("dev", "2026-01-02T03:04Z", Asked(), runs=[one], model="qwen3:0.6b", elsewhere=other)


@pytest.mark.parametrize(
    ("now", "served"),
    [
        (THERE, SERVED),
        (THERE | {"GPUs": "1 x NVIDIA L4, 23034 MiB, 580.95.05"}, SERVED),  # another driver
        (THERE | {"GPUs": "not known"}, SERVED),
        (THERE, {"models": SERVED["models"], "digest qwen3:0.6b": "not in the engine: run `make up`"}),
    ],
)
def test_a_run_of_this_machine_and_model_is_of_here(now: dict[str, str], served: dict[str, str]) -> None:
    found = elsewhere(run(THERE, served), Here(hardware=now, model=HERE.model, digest=HERE.digest))
    assert found is None
    assert words.basis(size(run(THERE, served), found)).startswith("Measured on this machine by sweep")


@pytest.mark.parametrize(
    ("there", "served", "now", "subject", "said"),
    [
        ({}, {}, HERE, "The deployment at http://127.0.0.1:18205", "of which the run knows no more than the address"),
        (
            THERE | {"memory": "15.6 GiB"}, SERVED, HERE, "Another machine than this stack's",
            "on another machine than this stack's: memory 15.6 GiB there, 62.7 GiB here",
        ),
        (
            THERE, SERVED, Here(hardware={}, model="qwen3:0.6b", digest=""), "The machine that was measured",
            "on a machine that may be another one: .*docker",
        ),
        (
            THERE, SERVED | {"models": "llama3.2:1b (default)"}, HERE, "This box with another model",
            "the run asked llama3.2:1b, and qwen3:0.6b is sized",
        ),
        (
            THERE, SERVED, Here(hardware=THERE, model="qwen3:0.6b", digest="ffff"), "This box with another model",
            "qwen3:0.6b was 0123456789ab then and is ffff now",
        ),
    ],
)  # fmt: skip
def test_a_run_of_something_else_is_not_said_to_be_of_this_machine(
    there: dict[str, str], served: dict[str, str], now: Here, subject: str, said: str
) -> None:
    """A run against a stub was measured "on this machine", for a stack with another model."""
    one = run(there, served)
    made = size(one, elsewhere(one, now))
    assert words.headline(made).startswith(f"{subject} serves about ")
    assert words.basis(made).startswith("Measured ")
    assert "on this machine" not in words.basis(made)
    assert re.search(said, words.basis(made))
    for text in files.render(made, {}, "").values():
        assert "Measured on this machine" not in text
    assert "MEASURED ELSEWHERE" in files.render(made, {}, "")["report.html"]


def test_a_model_is_known_by_its_aliases() -> None:
    served = "a:1b, hub.example/b:2b (default, other), c"
    assert [model(served, one) for one in ("a:1b", "other", "default", "c", "d")] == [
        "a:1b", "hub.example/b:2b", "hub.example/b:2b", "c", "d",
    ]  # fmt: skip


def failed(name: str) -> Result:
    """The run with one of its gates failed, as it is judged then."""
    result = box().result()
    checks = [
        one.model_copy(update={"word": "FAIL", "value": "37% of it"} if one.name == name else {})
        for one in result.gates
    ]
    assert any(one.word == "FAIL" for one in checks)
    return result.model_copy(update={"gates": checks, "verdict": "fail", "reason": f"{name}: 37% of it"})


@pytest.mark.parametrize("name", list(sized.FALSIFIED))
def test_a_gate_of_the_server_that_failed_says_what_is_wrong_with_the_answer(name: str) -> None:
    made = size(run(THERE, SERVED, failed(name)))
    notes = [note for note in made.notes if f"failed {name} (37% of it" in note]
    assert len(notes) == 1
    assert sized.FALSIFIED[name] in notes[0]
    assert "may not be believed" in words.basis(made)
    written = files.render(made, {}, "")
    assert all(sized.FALSIFIED[name] in text for text in written.values())
    assert "MEASURED, IN DOUBT" in written["report.html"]


def test_whatever_did_not_pass_is_told_with_its_reason() -> None:
    for verdict, start in (("none", "The run sweep concludes nothing by itself"), ("fail", "The run sweep failed")):
        result = box().result().model_copy(update={"verdict": verdict, "reason": "ttft is missed at 4 users"})
        assert f"{start}: ttft is missed at 4 users." in size(run(THERE, SERVED, result)).notes
    result = box().result().model_copy(update={"verdict": "pass"})
    assert not any("The run sweep" in note for note in size(run(THERE, SERVED, result)).notes)
