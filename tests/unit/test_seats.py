"""Where people stand when a closed load begins: as if it had gone on for long."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from loadtests.analysis.stats import kolmogorov
from loadtests.generator.loads import Closed
from loadtests.generator.seats import rest, seat
from loadtests.workload.lengths import Length
from loadtests.workload.profiles import PROFILES, Profile


def thinking(text: str) -> Profile:
    return replace(PROFILES["chat"], think=Length.parse(text))


def firsts(profile: Profile, people: int = 4000, seconds: float = 100) -> list[float]:
    return [seat(profile, Closed(people), seconds, 3, place).first_s for place in range(people)]


def test_what_is_left_of_a_fixed_pause_is_even() -> None:
    _, p = kolmogorov(firsts(thinking("fixed:30")), lambda left: np.clip(left / 30, 0, 1))
    assert p > 0.001


@pytest.mark.parametrize("text", ["fixed:30", "lognormal:30,0.9,2,300", "normal:20,5"])
def test_from_the_first_moment_on_as_many_ask_as_ever(text: str) -> None:
    profile, people = thinking(text), 20_000
    first = np.array(firsts(profile, people))
    expected = people / profile.think.mean
    for begin, end in ((1.5, 4), (4, 8)):
        within = np.count_nonzero((first >= begin) & (first < end))
        # Whoever thinks for less has asked a second time by then, which is not in these first moments.
        alive = np.mean([np.mean(np.array(profile.think.grid) > at) for at in np.linspace(begin, end, 50)])
        assert within == pytest.approx(expected * (end - begin) * alive, rel=0.1)


def test_the_mean_rest_is_that_of_renewal_theory() -> None:
    length, rng = Length.parse("lognormal:30,0.7"), np.random.default_rng(1)
    grid = np.array(length.grid)
    mean = np.mean([rest(length, rng) for _ in range(20_000)])
    assert mean == pytest.approx(np.mean(grid**2) / (2 * np.mean(grid)), rel=0.03)


def test_who_hardly_thinks_does_not_come_in_one_moment() -> None:
    first = firsts(thinking("fixed:0"), 500)
    assert 0.9 < max(first) < 1
    assert max(firsts(thinking("fixed:0"), 500, seconds=1)) < 0.2


def test_people_of_a_ramp_come_one_by_one_and_begin_anew() -> None:
    seats = [seat(thinking("fixed:30"), Closed(4, ramp=True), 100, 3, place) for place in range(4)]
    assert [one.first_s for one in seats] == [0, 25, 50, 75]
    assert not any(one.midway for one in seats)


@pytest.mark.parametrize("ramp", [False, True])
def test_a_person_keeps_the_place_from_session_to_session(ramp: bool) -> None:
    seats = [seat(thinking("fixed:30"), Closed(4, ramp=ramp), 100, 3, place) for place in range(4)]
    assert [one.place for one in seats] == [0, 1, 2, 3]
    assert [list(islice(one.numbers, 2)) for one in seats] == [[0, 4], [1, 5], [2, 6], [3, 7]]


def test_nobody_has_the_number_of_another() -> None:
    taken = [
        number for place in range(5) for number in islice(seat(PROFILES["chat"], Closed(5), 9, 1, place).numbers, 7)
    ]
    assert sorted(taken) == list(range(35))


def test_the_same_seed_is_the_same_load() -> None:
    assert firsts(PROFILES["chat"], 5) == firsts(PROFILES["chat"], 5)
    assert seat(PROFILES["chat"], Closed(5), 9, 1, 0).first_s != seat(PROFILES["chat"], Closed(5), 9, 2, 0).first_s
