"""Speed: what a step reads, how long that takes, and what is said of a card."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stack.capacity import fits, published, roofline, speed
from stack.capacity.devices import devices
from stack.capacity.roofline import SpeedError, Work
from stack.capacity.shape import Cache, Experts, Shape
from tests.support.loads import CARD, DENSE, EXACT, MIXTURE, curve


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


def test_experts_cost_steps_of_their_own() -> None:
    plain = roofline.seconds(MIXTURE, CARD, EXACT, 0)
    assert roofline.seconds(MIXTURE, CARD, replace(EXACT, mixture=20e-6), 0) == pytest.approx(plain + 48 * 20e-6)
    assert roofline.seconds(DENSE, CARD, replace(EXACT, mixture=20e-6), 0) == roofline.seconds(DENSE, CARD, EXACT, 0)
    assert fits.fitted("cuda-gddr").mixture > 0
    assert fits.fitted("cuda-hbm").mixture == 0, "nobody measured a mixture in the half that is fitted"
