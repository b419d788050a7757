"""Speed: its constants read half of the published measurements, and the other half says how good they are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean

import pytest

from bench import planner
from stack.capacity import calibrate, fits, naive_speed, published, roofline, speed
from stack.capacity.devices import devices
from stack.capacity.facts import rows
from stack.capacity.least_squares import FitError, nonnegative
from stack.capacity.published import Measured
from stack.capacity.roofline import Card, Constants, Point, SpeedError, Work
from stack.capacity.shape import Cache, Experts, Shape

CARD = Card(kind="cuda-gddr", bandwidth=1e12, tflops=100)
DENSE = Work(dense=5e9, layers=32, active=8e9, cache=131072, attention=131072)
MIXTURE = Work(dense=1e9, experts=16e9, share=8 / 128, layers=48, active=3.3e9, cache=98304)
EXACT = Constants(efficiency=0.8, layer=50e-6, band=(-0.1, 0.2), basis="given")


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
    decode = [(one.efficiency, one.layer, one.mixture) for one in map(fits.fitted, kinds)]
    prompts = [fits.prefill_constants(kind, mixture=mixture)[0] for kind in kinds for mixture in (False, True)]
    return [*decode, *prompts, fits.answer_cost()]


def poison(monkeypatch: pytest.MonkeyPatch, *, held_out: bool) -> None:
    tables = {
        table: tuple(
            replace(row, rate=row.rate * 3) if row.held_out is held_out else row
            for row in published.measurements(table)
        )
        for table in ("decode", "prefill", "batch")
    }
    monkeypatch.setattr(published, "_measurements", tables.__getitem__)


def test_a_poisoned_held_out_row_changes_no_constant(
    monkeypatch: pytest.MonkeyPatch, fresh: Callable[[], None]
) -> None:
    before = constants()
    poison(monkeypatch, held_out=True)
    fresh()
    assert constants() == before


def test_a_poisoned_row_of_the_fit_is_noticed(monkeypatch: pytest.MonkeyPatch, fresh: Callable[[], None]) -> None:
    before = constants()
    poison(monkeypatch, held_out=False)
    fresh()
    assert all(now != then for now, then in zip(constants(), before, strict=True))


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


def test_others_estimates_are_worse_on_the_same_rows() -> None:
    unseen = [row for row in published.recent("decode", "cuda-gddr") if row.held_out]
    ours = planner.mape(planner.uncalibrated(unseen))
    for rule in naive_speed.DECODE.values():
        assert planner.mape([planner.Miss(row, rule(row)) for row in unseen]) > ours


def test_every_known_card_is_of_a_measured_kind_or_says_that_it_is_not() -> None:
    for name in devices():
        assert fits.fitted(roofline.kind(name)).efficiency > 0
    with pytest.raises(SpeedError, match="make calibrate"):
        roofline.kind("abacus-9000")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("nvidia-rtx-3090", "cuda-gddr"),
        ("nvidia-rtx-6000-ada", "cuda-gddr"),
        ("nvidia-l40s", "cuda-gddr"),
        ("nvidia-h200-nvl", "cuda-hbm"),
        ("nvidia-a100-pcie-80", "cuda-hbm"),
        ("nvidia-quadro-rtx-8000", "cuda-old"),
        ("nvidia-tesla-p40", "cuda-old"),
        ("amd-rx-7900-xtx", "rocm"),
    ],
)
def test_kinds_of_cards(name: str, kind: str) -> None:
    assert roofline.kind(name) == kind


def test_a_card_of_the_table_is_one_to_reckon_with() -> None:
    found = roofline.card(devices()["nvidia-rtx-3090"], cards=2)
    assert (found.kind, found.bandwidth, found.tflops, found.cards) == ("cuda-gddr", 936.2e9, 71, 2)
    with pytest.raises(SpeedError, match="bandwidth"):
        roofline.card(replace(devices()["nvidia-rtx-3090"], bandwidth=None))


def test_published_mixtures_lie_within_what_is_said_of_them() -> None:
    """An RTX 4090 was said to give 228 to 269 tokens/s with gpt-oss:20b; published are 187."""
    listed = [row for row in published.recent("decode", "cuda-gddr") if row.work.experts]
    said = [(row, speed.decode(row.work, row.card, row.depth)) for row in listed]
    assert len(said) >= 6
    assert [row.model for row, one in said if not 0.92 * one.low <= row.rate <= 1.02 * one.high] == []
    for kind in ("rocm", "cuda-hbm"):  # without a published mixture
        assert fits.fitted(kind).around(MIXTURE)[0] <= -0.5 < fits.fitted(kind).around(DENSE)[0]


def test_no_card_reads_faster_than_its_memory_delivers() -> None:
    for kind in {row.card.kind for row in published.measurements("decode")}:
        known = fits.fitted(kind)
        assert 0.3 < known.efficiency <= 1
        assert 0 <= known.layer < 1e-3
        assert known.band[0] < 0 < known.band[1]


def test_a_step_is_reading_and_layers() -> None:
    taken = roofline.seconds(DENSE, CARD, EXACT, 1000)
    assert taken == pytest.approx((5e9 + 131072 * 1000) / 0.8e12 + 32 * 50e-6)
    said = speed.decode(DENSE, CARD, 1000, EXACT)
    assert (said.low, said.value, said.high) == pytest.approx((0.9 / taken, 1 / taken, 1.2 / taken))


def test_two_cards_make_one_answer_no_quicker() -> None:
    assert speed.decode(DENSE, replace(CARD, cards=2), 0, EXACT) == speed.decode(DENSE, CARD, 0, EXACT)


def test_a_window_bounds_what_is_read_of_the_past() -> None:
    load = replace(DENSE, windowed=1000, window=512)
    assert load.history(10_000) - DENSE.history(10_000) == 512_000


def test_experts_are_read_by_need() -> None:
    assert MIXTURE.weights(1) == pytest.approx(1e9 + 1e9)
    assert MIXTURE.weights(2) < 1e9 + 2e9
    assert MIXTURE.weights(1000) == pytest.approx(17e9)


def test_a_shape_reads_what_its_table_row_says() -> None:
    shape = Shape(
        name="qwen3:30b", architecture="qwen3moe", size=round(30.25 * 2**30), parameters=30_532_122_624, layers=48,
        caches=(Cache(heads=4, key=128, value=128),) * 48, width=2048, heads=32, feed_forward=6144,
        vocabulary=151_936, context=40_960, embedding=330_612_736, tied=False,
        experts=Experts(count=128, used=8, width=768, shared=0, size=30_803_000_000),
    )  # fmt: skip
    mine = roofline.work(shape)
    row = next(row for row in published.measurements("decode") if row.model == "qwen3moe 30B.A3B Q8_0")
    assert mine.cache == row.work.cache
    assert mine.layers == row.work.layers
    assert mine.attention == row.work.attention
    assert mine.weights() == pytest.approx(row.work.weights(), rel=0.01)
    assert mine.active == pytest.approx(row.work.active, rel=0.1)
    assert roofline.work(shape, "q8_0").cache == pytest.approx(mine.cache * 34 / 64)


def test_offload_costs_what_system_memory_takes() -> None:
    inside = speed.offloaded(DENSE, CARD, 0, outside=0, system=5e10, constants=EXACT).value
    half = speed.offloaded(DENSE, CARD, 0, outside=0.5, system=5e10, constants=EXACT)
    assert inside == pytest.approx(1 / roofline.seconds(DENSE, CARD, EXACT, 0))
    assert half.value == pytest.approx(1 / (2.5e9 / 0.8e12 + 32 * 50e-6 + 2.5e9 / 5e10))
    assert half.low < half.value < half.high
    with pytest.raises(SpeedError, match="0 to 1"):
        speed.offloaded(DENSE, CARD, 0, outside=1.5, system=5e10, constants=EXACT)


def test_a_chip_computes_prompts_no_quicker_under_another_name() -> None:
    """An L40S is an RTX 4090's chip with a few more units; an L4 is an RTX 4070's at a third of its power."""
    cards = devices()
    assert (cards["nvidia-l40s"].tflops or 0) == pytest.approx(cards["nvidia-rtx-4090"].tflops, rel=0.15)
    assert (cards["nvidia-l4"].tflops or 0) <= 1.1 * (cards["nvidia-rtx-4070"].tflops or 0)


def test_kinds_without_published_prompts_lie_between_those_that_have_some() -> None:
    """The fit has no prompts of AMD cards; the rows that were held out are within the band all the same."""
    share, (low, high), basis = fits.prefill_constants("rocm", mixture=False)
    dense = [fits.prefill_constants(kind, mixture=False)[0] for kind in ("cuda-gddr", "cuda-hbm", "cuda-unified")]
    assert (share * (1 + low), share * (1 + high)) == pytest.approx((min(dense), max(dense)))
    assert "no published prompts of rocm" in basis
    out = [row for row in published.recent("prefill", "rocm") if row.held_out]
    assert len(out) >= 3
    for row in out:
        said = speed.prefill(row.work, row.card, row.depth * 2)
        assert 0.95 * said.low <= row.rate <= said.high


@pytest.mark.parametrize("kind", ["rocm", "cuda-hbm"])
def test_mixtures_lose_as_much_on_a_kind_that_nobody_measured_them_on(kind: str) -> None:
    """Else an H100 would be promised 86,000 tokens a second of prompts of qwen3:30b."""
    dense, around, _ = fits.prefill_constants(kind, mixture=False)
    share, (low, high), basis = fits.prefill_constants(kind, mixture=True)
    assert 0.2 * dense < share < 0.7 * dense
    assert low < min(around[0], -0.5)
    assert high > max(around[1], 0.5)
    assert "mixtures" in basis


def test_a_longer_prompt_is_slower_and_a_cached_part_counts_as_past() -> None:
    short, long = speed.prefill(DENSE, CARD, 512), speed.prefill(DENSE, CARD, 65_536)
    assert short.value > long.value
    assert speed.prefill(DENSE, CARD, 65_536, cached=65_024).value < long.value
    with pytest.raises(SpeedError, match="TFLOPS"):
        speed.prefill(DENSE, replace(CARD, tflops=None), 512)


def curve(load: Work, numbers: tuple[int, ...] = (1, 2, 4, 8), depths: tuple[int, ...] = (2000,)) -> list[Point]:
    """What a machine of 1 ns a kB, 0.3 ms an answer and 2 ms a step measures."""
    return [
        Point(answers=n, depth=depth, rate=n / (load.reads(depth, n) * 1e-12 + n * 3e-4 + 2e-3))
        for n in numbers
        for depth in depths
    ]


@pytest.mark.parametrize("load", [DENSE, MIXTURE], ids=["dense", "mixture"])
def test_a_curve_through_exact_points_is_the_machine(load: Work) -> None:
    made = speed.batch(load, curve(load))
    assert made.rate(16, 2000).value == pytest.approx(curve(load, (16,))[0].rate, rel=1e-4)
    assert made.rate(16, 2000).low < made.rate(16, 2000).value < made.rate(16, 2000).high


def test_nothing_is_said_beyond_twice_what_was_measured() -> None:
    made = speed.batch(DENSE, curve(DENSE))
    made.rate(16, 0)
    with pytest.raises(SpeedError, match="more than twice the 8"):
        made.rate(17, 0)
    with pytest.raises(SpeedError, match="two numbers"):
        speed.batch(DENSE, curve(DENSE, (4,)))


def test_a_machine_without_measured_batches_has_a_wide_band() -> None:
    made = speed.unmeasured_batch(DENSE, CARD)
    assert made.band[0] < fits.batch_band()[0]
    assert made.rate(8, 1000).value > made.rate(1, 1000).value


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


# --- one machine -----------------------------------------------------------------------------------------------------


def run(model: str, load: Work, *, depth: float = 100, slower: float = 1.0, answers: int = 1) -> calibrate.Run:
    usual = fits.fitted(CARD.kind)
    return calibrate.Run(
        model=model,
        load=load,
        depth=depth,
        answers=answers,
        rate=1 / (roofline.seconds(load, CARD, usual, depth) * slower),
    )


def test_one_run_tells_how_much_slower_a_machine_is() -> None:
    usual = fits.fitted(CARD.kind)
    there = replace(
        usual, efficiency=usual.efficiency / 1.1, layer=usual.layer * 1.1**3, mixture=usual.mixture * 1.1**3
    )
    rate = 1 / roofline.seconds(DENSE, CARD, there, 1000)
    made = calibrate.calibrate(CARD, [calibrate.Run(model="one", load=DENSE, depth=1000, rate=rate)])
    assert [made.efficiency, made.layer] == pytest.approx([there.efficiency, there.layer])
    for load in (DENSE, MIXTURE):
        said = made.decode("other", load, 5000).value
        assert said == pytest.approx(1 / roofline.seconds(load, CARD, there, 5000))


def test_experts_cost_steps_of_their_own() -> None:
    plain = roofline.seconds(MIXTURE, CARD, EXACT, 0)
    assert roofline.seconds(MIXTURE, CARD, replace(EXACT, mixture=20e-6), 0) == pytest.approx(plain + 48 * 20e-6)
    assert roofline.seconds(DENSE, CARD, replace(EXACT, mixture=20e-6), 0) == roofline.seconds(DENSE, CARD, EXACT, 0)
    assert fits.fitted("cuda-gddr").mixture > 0
    assert fits.fitted("cuda-hbm").mixture == 0, "nobody measured a mixture in the half that is fitted"


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


# --- the tables and the page -----------------------------------------------------------------------------------------


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
