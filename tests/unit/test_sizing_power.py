"""What a card draws at work: typed, else measured in the load run whose readings Prometheus had, else the board's."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from loadtests import machine
from loadtests.machine import Server
from loadtests.report import files as reports
from loadtests.results import store
from loadtests.results.schema import Series
from loadtests.sizing import measured, power, sized, words
from loadtests.sizing.measured import Run
from loadtests.sizing.sized import Asked, Sized
from stack.capacity.cost import Habits
from tests.support.boxes import BETWEEN, Box
from tests.unit.test_machine import FakePrometheus, prometheus
from tests.unit.test_sizing import planned

__all__ = ["prometheus"]

HABITS = Habits()
BUSY, EASY = 350.0, 150.0
HELD = 200.0


@cache
def box() -> Box:
    """A machine under one person, then under eight."""
    made = Box()
    for users in (1, 8):
        made.hold(users, HELD)
    return made


def drew(at: float) -> float:
    """What its cards drew: 150 W with one person, then 60 W with nobody, then 350 W with eight."""
    begins = HELD + BETWEEN
    return BUSY if begins + 5 <= at < begins + HELD else EASY if at < HELD else 60.0


def readings(drawn: Callable[[float], float], start: float = 1000.0) -> dict[str, object]:
    """As Prometheus has them: the last of one each 15 seconds."""
    values = [[start + at, str(drawn(15 * (at // 15)))] for at in range(0, 600, 5)]
    return {"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {}, "values": values}]}}


def asked(found: tuple[str, type[FakePrometheus]], drawn: Callable[[float], float] = drew) -> list[Series]:
    """What a run takes from Prometheus."""
    url, fake = found
    fake.power = readings(drawn)
    return machine.ask(Server(prometheus=url), 1000, 1600)


def ran(series: list[Series], gpus: str = "1 x NVIDIA GeForce RTX 4090, 24564 MiB, 570.86.15") -> Run:
    rows = list(csv.DictReader(io.StringIO(store.to_csv(box().records))))
    return measured.of("night", box().result(series=series, gpus=gpus), rows)


def size(run: Run, watts: float | None = None) -> Sized:
    return sized.size("dev", "", Asked(), box=planned(), runs=[run], watts=watts)


def test_a_run_with_readings_goes_before_the_board_power_and_says_so(
    prometheus: tuple[str, type[FakePrometheus]], tmp_path: Path
) -> None:
    result = box().result(series=asked(prometheus), gpus="1 x NVIDIA GeForce RTX 4090, 24564 MiB, 570.86.15")
    store.write(tmp_path / "night", reports.render(result, box().records))
    found = size(measured.read(tmp_path / "night"))
    told = {row[2]: row for row in words.assumptions(found)[1]}
    assert told["CARD_W"][1:] == ("350 W", "CARD_W", "measured in this run: night")
    assert found.watts == BUSY + HABITS.host_busy_w
    assert found.bill is not None
    board = size(ran([])).bill
    assert board is not None
    assert found.bill.kwh < board.kwh


def test_what_was_typed_goes_before_what_was_measured(prometheus: tuple[str, type[FakePrometheus]]) -> None:
    found = size(ran(asked(prometheus)), watts=300)
    assert {row[2]: row[1:] for row in words.assumptions(found)[1]}["CARD_W"] == ("300 W", "CARD_W", "given")
    assert found.watts == 300 + HABITS.host_busy_w


def test_without_readings_it_is_the_board_power() -> None:
    found = power.card(planned(), [ran([])], HABITS)
    assert found == power.Card(watts=planned().device.power or 0, source="its board power; most draw less")


def test_only_the_measured_part_of_the_busiest_load_counts(prometheus: tuple[str, type[FakePrometheus]]) -> None:
    run = ran(asked(prometheus))
    first, second = run.result.levels
    assert power.mean(run.result, first) == EASY
    assert power.mean(run.result, second) == BUSY
    assert first.in_flight < power.WORKING < second.in_flight


def test_readings_of_a_few_seconds_tell_nothing(prometheus: tuple[str, type[FakePrometheus]]) -> None:
    run = ran(asked(prometheus))
    level = run.result.levels[1]
    begins = level.window[0]
    short, enough = (level.model_copy(update={"window": (begins, begins + seconds)}) for seconds in (28.0, 45.0))
    assert power.mean(run.result, short) is None
    assert power.mean(run.result, enough) == BUSY


def test_a_load_that_leaves_the_card_idle_in_between_is_none_at_work(
    prometheus: tuple[str, type[FakePrometheus]],
) -> None:
    run = ran(asked(prometheus))
    idle = run.result.model_copy(update={"levels": run.result.levels[:1]})
    seen = power.card(planned(), [Run(name="a", result=idle, parts=(), rows=(), slots=4)], HABITS)
    assert seen is not None
    assert "board power" in seen.source


@pytest.mark.parametrize(
    ("gpus", "watts", "said"),
    [
        ("2 x NVIDIA L4, 23034 MiB, 570.86.15", BUSY - 30, "less 30 W for each of 1 idle beside"),
        ("1 x NVIDIA L4, 23034 MiB, 570.86.15; 2 x NVIDIA T4, 15360 MiB, 570.86.15", BUSY - 60, "each of 2 idle"),
        ("not known", BUSY, "measured in this run: night"),
    ],
)
def test_cards_beside_the_models_are_taken_off(
    prometheus: tuple[str, type[FakePrometheus]], gpus: str, watts: float, said: str
) -> None:
    """Prometheus has the sum of all cards of the host."""
    seen = power.card(planned(), [ran(asked(prometheus), gpus)], HABITS)
    assert seen is not None
    assert seen.watts == watts
    assert said in seen.source


def test_a_machine_of_its_own_is_more_than_its_chip(prometheus: tuple[str, type[FakePrometheus]]) -> None:
    one = planned("nvidia-dgx-spark-gb10")
    seen = power.card(one, [ran(asked(prometheus))], HABITS)
    assert seen is not None
    assert (seen.watts, seen.source) == (one.device.power, "its board power; most draw less")
