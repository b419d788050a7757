"""Machines as people notice them, and their next steps: everything is computed again, nothing is guessed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from stack.capacity import roofline, speed
from stack.capacity.box import Box, NoRoomError, beside, floor, placed, serving
from stack.capacity.calibrate import Run, calibrate
from stack.capacity.devices import devices, find
from stack.capacity.facts import Known, model
from stack.capacity.fit import Settings
from stack.capacity.people import Binds
from stack.capacity.serving import levels
from stack.capacity.steps import answer, quicker, steps, widest
from stack.capacity.usage import PeopleError, Slo, Usage

USAGE, SLO = Usage(), Slo()


def known(name: str) -> Known:
    found = model(name)
    assert found
    return found


def box(name: str = "qwen3:8b", device: str = "nvidia-rtx-3090", *, slots: int = 4, cards: int = 1) -> Box:
    return Box(
        known=known(name),
        device=find(device),
        cards=cards,
        settings=Settings(context=8192, slots=slots, flash_attention=True),
    )


def test_a_machine_serves_as_its_parts_say() -> None:
    said = serving(box(), USAGE)
    load, card = roofline.work(known("qwen3:8b").shape), roofline.card(find("nvidia-rtx-3090"))
    assert said.slots == 4
    assert said.decode[0] == speed.decode(load, card, USAGE.depth)
    assert said.decode[3] == speed.unmeasured_batch(load, card).rate(4, USAGE.depth)
    assert said.prefill == speed.prefill(load, card, USAGE.input_tokens)
    assert (said.measured, said.plan, said.room) == (False, "low", True)
    assert serving(box(slots=16), USAGE).room is False
    assert serving(box("mistral-small:24b", slots=8, cards=2), USAGE).room is False  # only with layers shared out


def test_cards_are_engines_of_their_own_where_the_model_has_room_on_one() -> None:
    assert serving(box(cards=2), USAGE).engines == 2
    assert serving(replace(box(cards=2), hosts=3), USAGE).engines == 6
    shared = box("llama3.3:70b", "nvidia-a100-pcie-40", cards=2)
    assert placed(shared)[0].cards == 2
    assert serving(shared, USAGE).engines == 1
    assert serving(replace(shared, hosts=2), USAGE).engines == 2


def test_what_does_not_fit_is_said_with_both_sizes() -> None:
    with pytest.raises(NoRoomError, match=r"takes \d+\.\d GiB, nvidia-rtx-3090 has 24\.0 GiB"):
        serving(box("llama3.3:70b"), USAGE)
    with pytest.raises(NoRoomError, match=r"has 9\.0 GiB"):
        serving(replace(box(), reserved=15 << 30), USAGE)


def test_engines_with_one_slot_have_one() -> None:
    said = serving(box("qwen3.6:35b", slots=4), USAGE)
    assert (said.slots, said.room) == (1, None)
    assert answer(box("qwen3.6:35b", slots=4), USAGE, SLO).binds is not Binds.MEMORY


def test_a_measured_machine_is_planned_with_what_was_measured() -> None:
    load, card = roofline.work(known("qwen3:8b").shape), roofline.card(find("nvidia-rtx-3090"))
    runs = [
        Run(model="qwen3:8b", load=load, depth=1000, rate=rate, answers=count)
        for count, rate in ((1, 110.0), (4, 330.0), (8, 520.0))
    ]
    said = serving(replace(box(slots=8), machine=calibrate(card, runs)), USAGE)
    assert said.measured
    assert said.plan == "value"
    assert said.decode[3].value == pytest.approx(330, rel=0.06)
    alone = serving(replace(box(slots=8), machine=calibrate(card, runs[:1])), USAGE)
    assert not alone.measured
    assert alone.decode[0].value == pytest.approx(110, rel=0.03)


def test_cards_without_tflops_have_prompts_within_a_band_of_published_ones() -> None:
    load = roofline.work(known("qwen3:8b").shape)
    least, middle, top = beside()
    assert least < middle < top
    inside = 0
    whole = [one for one in devices().values() if one.tflops and roofline.kind(one.id) == "cuda-gddr"]
    for one in whole:
        with_it = speed.prefill(load, roofline.card(one), 512).value
        without = floor(load, replace(roofline.card(one), tflops=None), 512)
        inside += without.low <= with_it <= without.high
    assert len(whole) > 15
    assert inside / len(whole) > 0.8
    with pytest.raises(roofline.SpeedError, match="TFLOPS"):
        floor(load, roofline.card(find("nvidia-tesla-p40")), 512)
    with pytest.raises(PeopleError, match="TFLOPS"):
        serving(box(device="nvidia-tesla-p40"), USAGE)


def test_no_second_card_goes_into_a_machine_of_its_own() -> None:
    kinds = {step.kind for step in steps(box(device="nvidia-dgx-spark-gb10"), USAGE, SLO)}
    assert "host" in kinds
    assert "card" not in kinds


def test_levels_go_through_what_was_measured() -> None:
    said = levels({1: 100.0, 4: 300.0, 8: 400.0}, 12)
    assert [said[count - 1].value for count in (1, 4, 8)] == pytest.approx([100, 300, 400])
    assert said[1].value == pytest.approx(2 / (0.01 + (4 / 300 - 0.01) / 3))
    assert 400 <= said[11].value < 12 / 8 * 400  # a step of more answers takes longer
    assert said[11].low / said[11].value < said[7].low / said[7].value
    for wrong, slots in (({1: 100.0}, 1), ({1: 100.0, 4: 300.0}, 9), ({1: 0.0, 2: 1.0}, 2), ({0: 1.0, 2: 1.0}, 2)):
        with pytest.raises(PeopleError):
            levels(wrong, slots)


def test_every_step_is_the_answer_of_the_changed_machine() -> None:
    now = answer(box(), USAGE, SLO)
    found = {step.kind: step for step in steps(box(), USAGE, SLO)}
    assert list(found) == ["slot", "slots", "quantization", "cache", "card", "other-card", "host"]
    for step in found.values():
        assert step.answer == answer(step.box, USAGE, SLO)
        assert step.gain(now) == step.answer.planned - now.planned
        assert str(step.box.settings.slots) in step.what or step.box.settings.slots == 4
    assert found["slot"].box == replace(box(), settings=replace(box().settings, slots=5))
    assert found["slots"].gain(now) > found["slot"].gain(now) > 0
    assert found["quantization"].box.known.shape.size < box().known.shape.size
    assert "IQ4_XS" in found["quantization"].what
    assert found["cache"].box.settings.cache == "q8_0"
    assert found["card"].gain(now) == found["host"].gain(now) > now.planned
    assert (found["other-card"].box.device.bandwidth or 0) > (find("nvidia-rtx-3090").bandwidth or 0)


def test_memory_that_a_step_frees_becomes_slots_where_memory_binds() -> None:
    full = box(slots=16)
    now = answer(full, USAGE, SLO)
    assert now.binds is Binds.MEMORY
    found = {step.kind: step for step in steps(full, USAGE, SLO)}
    assert found["slot"].answer is None
    assert "takes" in found["slot"].refused
    assert found["slot"].gain(now) == -now.planned
    assert "slots" not in found
    assert found["cache"].box.settings.slots > 16
    assert found["cache"].gain(now) > 0


def test_what_does_not_fit_has_the_steps_that_make_it_fit() -> None:
    found = {step.kind: step for step in steps(box("gpt-oss:20b", "nvidia-rtx-3060"), USAGE, SLO)}
    assert found["slot"].answer is None
    assert found["host"].answer is None
    assert found["other-card"].answer
    assert found["other-card"].gain(None) == found["other-card"].answer.planned > 0
    assert "quantization" not in found  # published in 4 bits only


def test_another_card_is_not_what_this_one_was_measured_to_be() -> None:
    load, card = roofline.work(known("qwen3:8b").shape), roofline.card(find("nvidia-rtx-3090"))
    machine = calibrate(card, [Run(model="qwen3:8b", load=load, depth=1000, rate=110.0)])
    other = find("nvidia-rtx-5090")
    prompts = roofline.Speed(value=3000, low=2900, high=3100, basis="the test")
    here = replace(box(), machine=machine, prompts=prompts)
    assert serving(here, USAGE).prefill == prompts
    step = next(one for one in steps(here, USAGE, SLO, other=other) if "5090" in one.what)
    assert (step.box.device, step.box.machine, step.box.prompts) == (other, None, None)


def test_the_widest_serves_the_most() -> None:
    best = widest(box("gpt-oss:20b"), USAGE, SLO)
    most = answer(best, USAGE, SLO).planned
    for slots in (4, 5, 6, 8, 12, 16):
        assert answer(box("gpt-oss:20b", slots=slots), USAGE, SLO).planned <= most


def test_the_quickest_card_has_none_to_go_to() -> None:
    fastest = max(
        (one for one in devices().values() if one.id.startswith("nvidia-rtx") and one.tflops),
        key=lambda one: (one.bandwidth or 0, one.memory),
    )
    assert quicker(replace(box(), device=fastest), USAGE, SLO) is None


@pytest.mark.parametrize(
    "call", [lambda: replace(box(), cards=0), lambda: replace(box(), hosts=0), lambda: box(slots=0)]
)
def test_nothing_is_no_machine(call: Callable[[], Box]) -> None:
    with pytest.raises(PeopleError, match="at least one"):
        call()
