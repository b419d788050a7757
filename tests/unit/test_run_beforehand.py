"""What is wrong with a run is told before there is anything to measure: a mistake costs no deployment and no time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loadtests.analysis.metrics import Objectives
from loadtests.runs import beforehand
from loadtests.runs.beforehand import Wanted
from loadtests.workload.arrivals import Kind
from tests.unit.test_purity import imported


def check(folder: Path, **given: str) -> Wanted:
    """The run of these words, with its report and its baselines in this folder."""
    words = {"OUT": str(folder / "out"), **given}
    return beforehand.check({"BASELINES": str(folder), **{f"LOAD_{name}": value for name, value in words.items()}})


def test_a_run_that_can_begin_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("at_s,input_tokens,output_tokens\n0,12,5\n2,12,5\n")
    held = check(tmp_path, RATE="2", ARRIVALS="gamma:2")
    assert (held.law.kind, held.law.cv, held.kinds, held.vectors, held.log) == (Kind.GAMMA, 2, {"chat"}, False, None)
    log = check(tmp_path, REPLAY=str(tmp_path / "trace.csv"), PROFILE="mixed", MIX="ui=1,embed=2")
    assert log.kinds == {"ui", "embed"}
    assert log.log is not None
    assert len(log.log.arrivals) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"USERS": "many"}, "USERS=many: 'many' is none"),
        ({"PROFILE": "chta"}, "PROFILE=chta: did you mean chat?"),
        ({"RATE": "1", "ARRIVALS": "often"}, "ARRIVALS=often: allowed are constant"),
        ({"RATE": "1", "ARRIVALS": "gamma:99"}, "ARRIVALS=gamma:99: allowed are constant"),
        ({"REPLAY": "/nowhere/a.log"}, "/nowhere/a.log cannot be read"),
        ({"PROCESSES": "256"}, f"PROCESSES=256: this machine has {os.cpu_count()} cores"),
        (
            {"USERS": "1", "MIX": "chat=1"},
            "MIX=chat=1 would do nothing here: it is for PROFILE=mixed, and this is chat",
        ),
        ({"PROFILE": "mixed", "MIX": "chat=0"}, "MIX=chat=0: 'chat=0': a share is a number above 0"),
        ({"PROFILE": "mixed", "MIX": "chta=1"}, "MIX=chta=1: 'chta=1': allowed, once each, are chat, code"),
        ({"RATE": "100000", "FOR": "1h"}, "RATE=100000 FOR=3600s: 360,000,000 requests, and one load has at most 20"),
        ({"BUDGET": "19s"}, "BUDGET=19s: a probe takes 20 s with SLO=people (10 times its longest objective)"),
        ({"BUDGET": "1s", "SLO": "e2e=0.5"}, "and a search about 20 of them: write BUDGET=2m"),
        ({"PROFILE": "embed", "SLO": "people"}, "SLO=people: PROFILE=embed asks for vectors, which have no tokens"),
        ({"PROFILE": "mixed", "MIX": "embed=1", "SLO": "ttft=1"}, "allowed are embeddings and e2e=seconds"),
        ({"USERS": "1", "GATE": "1"}, "GATE=1: there is no baseline in "),
        ({"GATE": "1"}, "GATE=1 would do nothing here: a baseline is of one load that is held"),
        ({"USERS": "1,2", "GATE": "1"}, "and this is a sweep"),
        ({"USERS": "8", "RAMP": "1", "GATE": "1"}, "and this is a ramp"),
        ({"OUT": "/proc/none/out"}, "OUT=/proc/none/out: no report can be written there (No such file or directory)"),
    ],
)
def test_what_cannot_be_is_told_with_its_word(tmp_path: Path, given: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=r".+") as raised:
        check(tmp_path, **given)
    assert message in str(raised.value)


def test_a_gate_with_a_baseline_may_begin(tmp_path: Path) -> None:
    (tmp_path / "dev-0123.json").touch()
    assert check(tmp_path, USERS="8", GATE="1").words.gate
    assert not check(tmp_path, USERS="1,2", GATE="0").words.gate


def test_looking_whether_a_report_can_be_written_leaves_nothing(tmp_path: Path) -> None:
    check(tmp_path, OUT=str(tmp_path / "one" / "two"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kept").mkdir()
    check(tmp_path, OUT=str(tmp_path / "kept"))
    assert [one.name for one in tmp_path.iterdir()] == ["kept"]
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file: no report can be written there"):
        check(tmp_path, OUT=str(tmp_path / "file"))


def test_vectors_are_held_against_what_they_have_whatever_the_profile_is_called(tmp_path: Path) -> None:
    team = tmp_path / "team.yaml"
    team.write_text("scenario: embed\ninput: fixed:20\noutput: fixed:0\n")
    found = check(tmp_path, PROFILE=str(team))
    assert found.vectors
    assert (found.words.slo, found.words.objectives) == ("embeddings", Objectives(e2e=1.0))
    assert check(tmp_path, PROFILE=str(team), SLO="e2e=2").words.objectives == Objectives(e2e=2)
    with pytest.raises(ValueError, match="MIX=embed=1 would do nothing here"):
        check(tmp_path, PROFILE=str(team), MIX="embed=1")


def test_it_can_be_asked_without_gevent() -> None:
    assert imported("loadtests.runs.beforehand", "loadtests.workload.mix") == ({}, [])
