"""Shapes for plain locust: who should be there when."""

from __future__ import annotations

import pytest

from loadtests.generator.shapes import Ramp, Steps, chosen


def test_steps_follow_each_other_and_end() -> None:
    shape = chosen({"LOAD_STEPS": "1,4,2", "LOAD_FOR": "10s"})
    assert shape == Steps([1, 4, 2], 10)
    assert [shape(now) and shape(now)[0] for now in (0, 9.9, 10, 29.9, 30)] == [1, 1, 4, 2, None]  # type: ignore[index]


def test_a_step_is_taken_at_once() -> None:
    assert Steps([1, 40], 10)(10) == (40, 40)


def test_a_ramp_grows_evenly_from_one_to_all() -> None:
    shape = chosen({"LOAD_RAMP": "11", "LOAD_FOR": "100s"})
    assert shape == Ramp(11, 100)
    people = [now_ and now_[0] for now_ in map(shape, (0, 9.9, 10, 50, 99.9, 100))]
    assert people == [1, 1, 2, 6, 10, None]


def test_people_of_a_ramp_may_come_as_fast_as_it_grows() -> None:
    found = Ramp(200, 10)(5)
    assert found is not None
    assert found[1] == 20


def test_two_minutes_when_nothing_is_said() -> None:
    assert chosen({"LOAD_STEPS": "1"}) == Steps([1], 120)
    assert chosen({"LOAD_PROFILE": "chat"}) is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"LOAD_STEPS": "1,2", "LOAD_RAMP": "4"}, "do not go together"),
        ({"LOAD_STEPS": "1,,2"}, "LOAD_STEPS=1,,2: '' is no number"),
        ({"LOAD_STEPS": "0"}, "from 1 to 100,000"),
        ({"LOAD_RAMP": "many"}, "LOAD_RAMP=many"),
        ({"LOAD_RAMP": "200000"}, "from 1 to 100,000"),
        ({"LOAD_RAMP": "4", "LOAD_FOR": "soon"}, "LOAD_FOR=soon"),
        ({"LOAD_RAMP": "4", "LOAD_FOR": "0s"}, "LOAD_FOR=0s"),
    ],
)
def test_what_is_wrong_is_said(given: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        chosen(given)
