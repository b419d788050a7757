"""The constants of speed read half of the published measurements, and the other half says how good they are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean

import pytest

from bench import planner
from stack.capacity import calibrate, fits, naive_speed, published
from stack.capacity.facts import rows
from stack.capacity.least_squares import FitError, nonnegative, pair
from stack.capacity.published import Measured
from tests.support.loads import reached


@pytest.fixture
def fresh() -> Iterator[Callable[[], None]]:
    """Forgets what was fitted, and forgets it again afterwards."""
    cached = (fits.fitted, fits.prefill_constants, fits.answer_cost, fits.batch_band, fits.unmeasured_band)

    def forget() -> None:
        for one in cached:
            one.cache_clear()

    forget()
    yield forget
    forget()


def constants() -> list[object]:
    kinds = sorted({row.card.kind for row in published.recent("decode")})
    decode = [reached(fits.fitted(kind)) for kind in kinds]
    prompts = [fits.prefill_constants(kind, mixture=mixture)[0] for kind in kinds for mixture in (False, True)]
    starts = [reached(planner.start(rows[0])) for rows in planner.machines(planner.KINDS)]
    return [*decode, *prompts, fits.answer_cost(), *starts]


def poison(monkeypatch: pytest.MonkeyPatch, chosen: Callable[[Measured], bool]) -> None:
    tables = {
        table: tuple(replace(row, rate=row.rate * 3) if chosen(row) else row for row in published.measurements(table))
        for table in ("decode", "prefill", "batch")
    }
    monkeypatch.setattr(published, "_measurements", tables.__getitem__)


def test_a_poisoned_held_out_row_changes_no_constant(
    monkeypatch: pytest.MonkeyPatch, fresh: Callable[[], None]
) -> None:
    before = constants()
    poison(monkeypatch, lambda row: row.held_out)
    fresh()
    assert constants() == before


def test_a_poisoned_row_of_the_fit_is_noticed(monkeypatch: pytest.MonkeyPatch, fresh: Callable[[], None]) -> None:
    before = constants()
    poison(monkeypatch, lambda row: not row.held_out)
    fresh()
    assert all(now != then for now, then in zip(constants(), before, strict=True))


def test_no_calibration_starts_from_the_machines_own_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a machine would be predicted by constants that were fitted to what is predicted."""
    firsts = [rows[0] for rows in planner.machines(planner.KINDS)]
    assert len({one.group for one in firsts if not one.held_out}) >= 40
    for one in firsts:
        with monkeypatch.context() as poisoned:
            before, with_own = planner.start(one), planner.start(one, own=True)
            poison(poisoned, lambda row, group=one.group: row.group == group)
            assert planner.start(one) == before, one.group
            assert one.held_out or planner.start(one, own=True) != with_own


def test_a_calibration_starts_from_builds_of_the_age_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    now, then = (next(row for row in published.measurements("decode") if row.old is old) for old in (False, True))
    assert planner.start(then).layer > 1.5 * planner.start(now).layer
    assert planner.start(then, age=False).layer < 1.5 * planner.start(now).layer
    before = [planner.start(now), planner.start(then, age=False)]
    poison(monkeypatch, lambda row: row.old)
    assert [planner.start(now), planner.start(then, age=False)] == before


@pytest.mark.parametrize(("table", "least"), [("decode", 60), ("prefill", 30), ("batch", 60)])
def test_every_row_says_where_it_is_from_and_stands_on_one_side(table: str, least: int) -> None:
    listed = published.measurements(table)
    assert len(listed) >= least
    assert all(row.source and row.device and row.date[:2] == "20" and row.rate > 0 for row in listed)
    sides: dict[str, set[bool]] = {}
    for row in listed:
        sides.setdefault(row.group, set()).add(row.held_out)
    assert all(len(side) == 1 for side in sides.values())
    assert {side for one in sides.values() for side in one} == {True, False}


def test_there_are_batch_tables_of_several_machines() -> None:
    found = published.curves(published.recent("batch"))
    assert len(found) >= 6
    assert len({group for group, _ in found}) >= 6


def test_the_split_is_the_hash_of_who_measured_what() -> None:
    row = published.measurements("decode")[0]
    assert replace(row, rate=1, model="other").held_out is row.held_out
    assert {replace(row, device=f"card {number}").held_out for number in range(20)} == {True, False}


def test_decode_of_held_out_cards_is_within_a_tenth() -> None:
    unseen = [row for row in published.recent("decode", "cuda-gddr") if row.held_out]
    assert len(unseen) >= 15
    assert planner.mape(planner.uncalibrated(unseen)) <= 0.10


def test_batches_beyond_what_was_measured_are_within_a_fifth() -> None:
    found = fits.extrapolated()
    assert len(found) >= 40
    assert mean(abs(value / row.rate - 1) for row, value in found) <= 0.20


def test_a_measured_model_is_within_a_twentieth_at_other_depths() -> None:
    found = planner.calibrated(["cuda-unified"], 1, same_model=True)
    assert len(found) >= 60
    assert planner.mape(found) <= 0.05


def test_other_models_on_a_measured_card_are_within_a_twentieth() -> None:
    found = planner.calibrated([planner.GDDR], 1, same_model=False)
    assert len(found) >= 56
    assert len({miss.row.group for miss in found if miss.row.held_out}) >= 5
    assert planner.mape(found) <= 0.05


@pytest.mark.parametrize("spread", ["READING", "LAYERS", "MODEL"])
@pytest.mark.parametrize("times", [0.5, 2])
def test_no_other_spread_does_better_on_the_fitted_half(
    monkeypatch: pytest.MonkeyPatch, spread: str, times: float
) -> None:
    def off() -> float:
        found = planner.calibrated([planner.GDDR], 1, same_model=False)
        return planner.mape([miss for miss in found if not miss.row.held_out])

    chosen = off()
    monkeypatch.setattr(calibrate, spread, times * getattr(calibrate, spread))
    assert off() > chosen


def test_others_estimates_are_worse_on_the_same_rows() -> None:
    unseen = [row for row in published.recent("decode", "cuda-gddr") if row.held_out]
    ours = planner.mape(planner.uncalibrated(unseen))
    for rule in naive_speed.DECODE.values():
        assert planner.mape([planner.Miss(row, rule(row)) for row in unseen]) > ours


def test_bands_are_wide_when_little_is_held_out() -> None:
    assert fits.band([0.01, 0.02]) == (-0.5, 0.5)
    assert fits.band([-0.2, -0.1, 0.0, 0.1, 0.2]) == pytest.approx((-0.18, 0.18))


def test_least_squares_finds_weights_and_never_negative_ones() -> None:
    assert nonnegative([(1, 0), (0, 1), (1, 1)], [2, 3, 5]) == pytest.approx((2, 3))
    assert nonnegative([(1, 0), (1, 1), (1, 2)], [3, 2, 1])[1] == 0
    assert nonnegative([(1, 1), (2, 2)], [1, 2])[0] + nonnegative([(1, 1), (2, 2)], [1, 2])[1] == pytest.approx(1)
    for values in ([], [0.0]):
        with pytest.raises(FitError):
            nonnegative([(1.0,)] * len(values), values)


def test_two_weights_of_either_sign() -> None:
    assert pair([(1, 0, 2), (0, 1, -3), (1, 1, -1)]) == pytest.approx((2, -3))
    assert pair([(1, 0, 0), (1, 0, 1), (0, 2, 4)]) == pytest.approx((0.5, 2))
    for rows_ in ([], [(1.0, 2.0, 3.0), (2.0, 4.0, 6.0)]):
        with pytest.raises(FitError, match="apart"):
            pair(rows_)


def test_every_measured_model_is_described_and_used() -> None:
    described = {row["model"] for row in rows("measured_models")}
    assert described == {row.model for table in ("decode", "prefill", "batch") for row in published.measurements(table)}


def test_nothing_measured_reads_faster_than_its_memory() -> None:
    def over(row: Measured) -> float:
        return row.work.reads(row.depth) * row.rate / row.card.bandwidth

    assert max(over(row) for row in published.measurements("decode")) < 1.05


def test_the_page_has_todays_figures() -> None:
    page = (Path(__file__).parents[2] / "docs" / "planner.md").read_text()
    run_ = subprocess.run(
        [sys.executable, "-m", "bench.planner"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert run_.returncode in (0, 1), run_.stderr
    shown = [line for line in run_.stdout.splitlines() if line.startswith(("met", "MISSED"))]
    assert len(shown) == 5
    for line in shown[1:]:
        assert line.split("%")[0].split()[-1] + " %" in page, f"docs/planner.md does not say: {line}"
