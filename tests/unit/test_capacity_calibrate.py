"""What one machine was measured to do, and what is said of it afterwards."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from stack.capacity import calibrate, fits, roofline
from stack.capacity.roofline import Card, Constants, Work
from tests.support.loads import CARD, DENSE, MIXTURE, curve, reached


def run(model: str, load: Work, *, depth: float = 100, slower: float = 1.0, answers: int = 1) -> calibrate.Run:
    usual = fits.fitted(CARD.kind)
    return calibrate.Run(
        model=model,
        load=load,
        depth=depth,
        answers=answers,
        rate=1 / (roofline.seconds(load, CARD, usual, depth) * slower),
    )


def unlikely(made: Constants, usual: Constants, runs: list[calibrate.Run]) -> float:
    """How far a machine is from the usual one and from its runs, in spreads, squared; a model counts once."""
    off = [
        math.log(usual.efficiency / made.efficiency) / calibrate.READING,
        math.log(made.layer / usual.layer) / calibrate.LAYERS,
    ]
    for one in runs:
        alike = sum(other.model == one.model for other in runs)
        off.append(
            math.log(roofline.seconds(one.load, CARD, made, one.depth) * one.rate) / calibrate.MODEL / math.sqrt(alike)
        )
    return sum(part**2 for part in off)


@pytest.mark.parametrize(
    "runs",
    [
        [run("one", DENSE, slower=1.3)],
        [run("one", DENSE, slower=1.2), run("two", MIXTURE, slower=0.9)],
        [run("one", DENSE, slower=1.2), run("one", DENSE, slower=1.1, depth=9000), run("two", MIXTURE, slower=1.0)],
        [run("one", DENSE, slower=18)],
    ],
)
def test_a_calibration_is_the_likeliest_machine(runs: list[calibrate.Run]) -> None:
    usual = fits.fitted(CARD.kind)
    made = calibrate.calibrate(CARD, runs).constants()
    assert made.mixture / usual.mixture == pytest.approx(made.layer / usual.layer)
    least = unlikely(made, usual, runs)
    for reading in (0.999, 1, 1.001):
        for layers in (0.999, 1, 1.001):
            other = replace(
                made, efficiency=made.efficiency * reading, layer=made.layer * layers, mixture=made.mixture * layers
            )
            assert (reading, layers) == (1, 1) or unlikely(other, usual, runs) > least


def test_runs_as_usual_leave_a_machine_as_usual() -> None:
    usual = fits.fitted(CARD.kind)
    made = calibrate.calibrate(CARD, [run("one", DENSE), run("two", MIXTURE)])
    assert reached(made.constants()) == pytest.approx(reached(usual))


def test_a_machine_with_an_older_build_starts_from_what_such_builds_reach() -> None:
    then = replace(fits.fitted(CARD.kind), layer=90e-6)
    old = calibrate.Run(model="one", load=DENSE, depth=100, rate=1 / roofline.seconds(DENSE, CARD, then, 100))
    assert reached(calibrate.calibrate(CARD, [old], usual=then).constants()) == pytest.approx(reached(then))
    assert calibrate.calibrate(CARD, [old]).layer < 0.8 * then.layer


def test_a_measured_model_has_its_own_factor_and_a_narrower_band() -> None:
    made = calibrate.calibrate(CARD, [run("one", DENSE, slower=1.1), run("two", MIXTURE, slower=1.6)])
    assert made.decode("two", MIXTURE, 100).value == pytest.approx(run("two", MIXTURE, slower=1.6).rate)
    assert made.decode("one", DENSE, 100).value == pytest.approx(run("one", DENSE, slower=1.1).rate)
    assert made.constants("one").band[1] < made.constants("three").band[1]


def test_several_answers_at_once_make_a_curve() -> None:
    runs = [
        calibrate.Run(model="one", load=DENSE, depth=point.depth, rate=point.rate, answers=point.answers)
        for point in curve(DENSE)
    ]
    made = calibrate.calibrate(replace(CARD, bandwidth=2e12), runs)
    found = made.batch("one", DENSE)
    assert found is not None
    assert found.rate(16, 2000).value == pytest.approx(curve(DENSE, (16,))[0].rate, rel=1e-3)
    assert found.band == fits.batch_band()
    assert made.batch("other", DENSE) is None


def test_a_kind_that_nobody_measured_can_be_calibrated() -> None:
    made = calibrate.calibrate(
        Card(kind="abacus", bandwidth=1e11), [calibrate.Run(model="one", load=DENSE, depth=0, rate=12.0)]
    )
    assert made.decode("one", DENSE, 0).value == pytest.approx(12)


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ([], "single answer"),
        ([calibrate.Run(model="m", load=DENSE, depth=0, rate=100, answers=4)], "single answer"),
        ([calibrate.Run(model="m", load=DENSE, depth=0, rate=0)], "cannot be"),
        ([calibrate.Run(model="m", load=DENSE, depth=0, rate=float("nan"))], "cannot be"),
        ([calibrate.Run(model="m", load=DENSE, depth=0, rate=5000)], "faster than this memory"),
    ],
)
def test_runs_that_cannot_be_are_refused(runs: list[calibrate.Run], words: str) -> None:
    with pytest.raises(calibrate.CalibrationError, match=words):
        calibrate.calibrate(CARD, runs)


def test_the_file_gives_back_what_was_stored(tmp_path: Path) -> None:
    runs = [
        calibrate.Run(model="one", load=DENSE, depth=point.depth, rate=point.rate / 3, answers=point.answers)
        for point in curve(DENSE)
    ]
    made = {"host": calibrate.calibrate(CARD, runs, measured="2026-11-21")}
    path = tmp_path / "calibration.json"
    assert calibrate.load(path) == {}
    path.write_text(calibrate.dump(made))
    assert calibrate.load(path) == made


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"version": 7, "hosts": {}}', '{"version": 1, "hosts": {"a": {}}}', '{"version": 1, "hosts": 3}'],
)
def test_a_damaged_file_is_refused_with_the_way_out(tmp_path: Path, text: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(calibrate.CalibrationError, match="make calibrate"):
        calibrate.load(path)


def test_values_that_cannot_be_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    made = replace(calibrate.calibrate(CARD, [run("one", DENSE)]), efficiency=-1)
    path.write_text(calibrate.dump({"host": made}))
    with pytest.raises(calibrate.CalibrationError, match="cannot be"):
        calibrate.load(path)
