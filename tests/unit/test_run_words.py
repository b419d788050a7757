"""The words of a run: what they mean together, and what is said where one is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.analysis.metrics import Objectives
from loadtests.runs import words
from loadtests.runs.words import Shape, Unit, Words
from tests.unit.test_purity import imported


def parse(**given: str) -> Words:
    return words.parse({f"LOAD_{name}": value for name, value in given.items()})


def test_without_a_word_people_are_searched_for() -> None:
    assert parse() == Words()
    assert (Words().shape, Words().unit, Words().budget) == (Shape.SEARCH, Unit.USERS, 900)


@pytest.mark.parametrize(
    ("given", "shape", "unit", "loads"),
    [
        ({"USERS": "8"}, Shape.HOLD, Unit.USERS, (8,)),
        ({"USERS": " 8,1, 2,8 "}, Shape.SWEEP, Unit.USERS, (1, 2, 8)),
        ({"RATE": "0.5"}, Shape.HOLD, Unit.RATE, (0.5,)),
        ({"RATE": "0.5,1"}, Shape.SWEEP, Unit.RATE, (0.5, 1)),
        ({"RATE": "4", "RAMP": "1"}, Shape.RAMP, Unit.RATE, (4,)),
        ({"USERS": "4", "RAMP": "0"}, Shape.HOLD, Unit.USERS, (4,)),
        ({"SEARCH": "users"}, Shape.SEARCH, Unit.USERS, ()),
        ({"SEARCH": "rate", "USERS": ""}, Shape.SEARCH, Unit.RATE, ()),
        ({"REPLAY": "a.log"}, Shape.REPLAY, Unit.RATE, ()),
    ],
)
def test_the_shape_of_a_run(given: dict[str, str], shape: Shape, unit: Unit, loads: tuple[float, ...]) -> None:
    made = parse(**given)
    assert (made.shape, made.unit, made.loads) == (shape, unit, loads)


def test_every_word_is_read() -> None:
    made = parse(
        PROFILE="rag", RATE="2", FOR="90s", SLO="ttft=1,tpot=0.05", ARRIVALS="gamma:2", SEED="7", PROCESSES="3",
        TIMEOUT="30s", OUT="out/x", GATE="1", TAX="1",
    )  # fmt: skip
    assert made == Words(
        shape=Shape.HOLD, unit=Unit.RATE, profile="rag", loads=(2.0,), seconds=90, slo="ttft=1,tpot=0.05",
        objectives=Objectives(ttft=1, tpot=0.05), arrivals="gamma:2", seed=7, processes=3, timeout=30,
        out=Path("out/x"), gate=True, tax=True,
    )  # fmt: skip
    assert parse(SEARCH="rate", BUDGET="5m").budget == 300
    assert parse(REPLAY="a.log", SPEED="2.5").speed == 2.5
    assert parse(PROFILE="embed").objectives == Objectives(e2e=1.0), "an embedding has no first token"
    assert parse(PROFILE="embed", SLO="e2e=2").objectives == Objectives(e2e=2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"USERS": "0"}, "USERS=0: '0' is none; a whole number from 1 to 100,000, or several: 1,2,4"),
        ({"USERS": "1,two"}, "USERS=1,two: 'two' is none"),
        ({"USERS": "1.5"}, "'1.5' is none; a whole number"),
        ({"RATE": "nan"}, "RATE=nan: 'nan' is none; requests a second, above 0"),
        ({"RATE": "-1"}, "'-1' is none"),
        ({"USERS": "1", "RATE": "1"}, "USERS and RATE do not go together"),
        ({"SEARCH": "people"}, "SEARCH='people': allowed are users"),
        ({"USERS": "1", "FOR": "2 minutes"}, "FOR=2 minutes: not a duration: write a whole number and one of ms, s"),
        ({"USERS": "1", "FOR": "0s"}, "FOR=0s: from 1s to 7d"),
        ({"FOR": "2m"}, "FOR=2m would do nothing here: a replay lasts as long as its log"),
        ({"USERS": "1", "BUDGET": "2m"}, "BUDGET=2m would do nothing here: it is for SEARCH"),
        ({"USERS": "1", "ARRIVALS": "poisson"}, "ARRIVALS=poisson would do nothing here: it is for RATE"),
        ({"USERS": "1", "SPEED": "2"}, "SPEED=2 would do nothing here"),
        ({"RAMP": "1"}, "RAMP=1 would do nothing here: it needs USERS"),
        ({"RAMP": "1", "USERS": "1,2"}, "RAMP=1 grows to one load, USERS has 2"),
        ({"REPLAY": "a", "SPEED": "0"}, "SPEED=0: a number from 0.001 to 1000"),
        ({"SEED": "x"}, "SEED=x: a whole number"),
        ({"PROCESSES": "0"}, "PROCESSES=0: how many processes make the load: a whole number from 1"),
        ({"GATE": "yes"}, "GATE=yes: 1 for yes, 0 for no"),
        ({"SLO": "fast"}, "SLO=fast: objectives 'fast': not known; allowed: people, interactive"),
        ({"SLO": "ttft=1,ttft=2"}, "'ttft=2': allowed, once each, are ttft=seconds, ttfo=seconds"),
        ({"SLO": "speed=1"}, "'speed=1': allowed, once each"),
        ({"SLO": "ttft=0"}, "'ttft=0': ttft takes seconds above 0"),
        ({"SLO": "ttft=2s"}, "'ttft=2s': ttft takes seconds above 0"),
        ({"USER": "3"}, "LOAD_USER is not known; did you mean LOAD_USERS?"),
    ],
)
def test_a_wrong_word_is_named_with_its_value_and_what_is_allowed(given: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=r".+") as raised:
        parse(**given)
    assert message in str(raised.value)


def test_the_report_says_what_was_asked_for() -> None:
    assert parse(RATE="2,4", FOR="90s").said() == {
        "PROFILE": "chat", "SLO": "people", "SHAPE": "sweep", "UNIT": "requests/s", "PROCESSES": "1",
        "TIMEOUT": "120 s", "LOADS": "2, 4", "FOR": "90 s", "ARRIVALS": "poisson",
    }  # fmt: skip
    assert parse().said()["BUDGET"] == "900 s"
    assert parse(REPLAY="/home/someone/a.log").said()["REPLAY"] == "a.log", "no folders of this machine"


def test_words_can_be_read_without_gevent() -> None:
    assert imported("loadtests.runs.words") == ({}, [])
