"""What fits where: verdicts, what would fit, and the tables of models and cards that they count with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.capacity import naive
from stack.capacity.devices import DeviceError, devices, find
from stack.capacity.facts import GUESS, Known, model, models, requantized, rows
from stack.capacity.fit import COMFORT, Fit, Host, Placed, Settings, Verdict, fit, place
from stack.capacity.memory import GIB, Run, cache, need

CARD = Host(name="card", memory=(24 * GIB,))
TWO = Host(name="two cards", memory=(24 * GIB, 24 * GIB))
SETTINGS = Settings(context=8192, slots=4)


def known(name: str) -> Known:
    found = model(name)
    assert found is not None
    return found


def placed(name: str, host: Host = CARD, settings: Settings = SETTINGS) -> Placed:
    return fit(host, [known(name)], settings, loaded=1).models[0]


def tried(name: str, host: Host, **changed: Any) -> Verdict:
    return place(host, known(name), replace(SETTINGS, **changed)).verdict


# Published: what llama-server allocates, or a model that people run (or not) on such a card.
@pytest.mark.parametrize(
    ("name", "host", "settings", "verdict"),
    [
        ("qwen3:8b", CARD, SETTINGS, Verdict.FITS),
        ("qwen3:32b", CARD, SETTINGS, Verdict.NO),
        ("qwen3:32b", CARD, Settings(context=4096, slots=1), Verdict.FITS),
        ("llama3.3:70b", CARD, Settings(context=4096, slots=1), Verdict.NO),
        ("llama3.3:70b", TWO, Settings(context=4096, slots=1), Verdict.FITS),
        ("gpt-oss:20b", Host(name="16 GB", memory=(16 * GIB,)), Settings(context=32768, slots=1), Verdict.FITS),
        ("gpt-oss:120b", CARD, SETTINGS, Verdict.NO),
    ],
)
def test_models_fit_where_they_do(name: str, host: Host, settings: Settings, verdict: Verdict) -> None:
    assert placed(name, host, settings).verdict is verdict


def test_what_would_fit_is_said_with_numbers_and_does_fit() -> None:
    found = placed("qwen3:32b")
    assert found.verdict is Verdict.NO
    context = int(next(line for line in found.advice if line.startswith("contextLength")).split()[1])
    assert tried("qwen3:32b", CARD, context=context) is not Verdict.NO
    assert tried("qwen3:32b", CARD, context=context + 256) is Verdict.NO
    slots = int(next(line for line in found.advice if line.startswith("parallel")).split()[1])
    assert tried("qwen3:32b", CARD, slots=slots) is not Verdict.NO
    assert tried("qwen3:32b", CARD, slots=slots + 1) is Verdict.NO
    assert any(line.startswith("kvCache: q8_0") for line in found.advice)
    assert tried("qwen3:32b", CARD, cache="q8_0") is not Verdict.NO
    name = next(line for line in found.advice if line.startswith("the quantization")).split()[2]
    smaller = replace(known("qwen3:32b"), shape=requantized(known("qwen3:32b").shape, name))
    assert place(CARD, smaller, SETTINGS).verdict is not Verdict.NO
    assert "of 64 layers would be on the card" in found.advice[-1]


def test_what_fits_gets_no_advice() -> None:
    assert placed("qwen3:8b").advice == ()


def test_on_a_cpu_the_limit_that_would_do_is_said_and_does() -> None:
    found = placed("qwen3:8b", Host(name="cpu", memory=(4 * GIB,), cpu=True), Settings(context=4096, slots=4))
    line = next(line for line in found.advice if line.startswith("engine.resources.memory"))
    size = int(line.split()[1].removesuffix("MiB")) << 20
    again = placed("qwen3:8b", Host(name="cpu", memory=(size,), cpu=True), Settings(context=4096, slots=4))
    assert (found.verdict, again.verdict is not Verdict.NO) == (Verdict.NO, True)
    assert not any("layers would be on the card" in line for line in found.advice)


def test_in_system_memory_the_token_embedding_counts_too() -> None:
    shape = known("qwen3:8b").shape
    on_cpu = place(Host(name="cpu", memory=(64 * GIB,), cpu=True), known("qwen3:8b"), SETTINGS)
    assert on_cpu.need.weights == shape.size > place(CARD, known("qwen3:8b"), SETTINGS).need.weights


@given(
    st.sampled_from(sorted(row["name"] for row in rows("models"))),
    st.integers(1, 64),
    st.integers(1, 64),
    st.integers(1, 16),
)
def test_more_memory_never_makes_it_worse_and_more_use_never_better(
    name: str, memory: int, context: int, slots: int
) -> None:
    order = [Verdict.FITS, Verdict.TIGHT, Verdict.NO]
    here = Settings(context=context * 1024, slots=slots)

    def verdict(gib: int, settings: Settings) -> int:
        return order.index(place(Host(name="any", memory=(gib * GIB,), cpu=True), known(name), settings).verdict)

    assert verdict(memory + 1, here) <= verdict(memory, here)
    assert verdict(memory, replace(here, slots=slots + 1)) >= verdict(memory, here)
    assert verdict(memory, replace(here, context=here.context + 1024)) >= verdict(memory, here)


def test_the_last_hundredths_are_tight() -> None:
    sure = replace(known("qwen3:8b"), band=0.0)
    total = place(CARD, sure, SETTINGS).need.total
    edges = {round(total / COMFORT) + 1: Verdict.FITS, total + 1: Verdict.TIGHT, total - 1: Verdict.NO}
    for memory, verdict in edges.items():
        # The same batch as on the large card, so that the totals agree.
        at = Host(name="edge", memory=(memory,))
        run = place(at, sure, SETTINGS).run
        if run.batch == place(CARD, sure, SETTINGS).run.batch:
            assert place(at, sure, SETTINGS).verdict is verdict
    cpu = place(Host(name="cpu", memory=(64 * GIB,), cpu=True), sure, SETTINGS).need.total
    for memory, verdict in {
        round(cpu / COMFORT) + 1: Verdict.FITS,
        cpu + 1: Verdict.TIGHT,
        cpu - 1: Verdict.NO,
    }.items():
        assert place(Host(name="cpu", memory=(memory,), cpu=True), sure, SETTINGS).verdict is verdict


def test_one_card_is_taken_before_two() -> None:
    assert placed("qwen3:8b", TWO).cards == 1
    many = placed("llama3.3:70b", TWO)
    alone = need(known("llama3.3:70b").shape, replace(many.run, devices=1))
    assert many.cards == 2
    assert many.need.compute > 2 * alone.compute
    assert many.need.overhead > 2 * alone.overhead


def test_models_that_do_not_fit_together_are_told_from_ones_that_do_not_fit() -> None:
    def both(loaded: int) -> Fit:
        return fit(CARD, [known("qwen3:14b"), known("gemma3:12b")], SETTINGS, loaded=loaded)

    assert [one.verdict for one in both(2).models] == [Verdict.FITS, Verdict.FITS]
    assert both(2).together is Verdict.NO
    assert both(1).together is not Verdict.NO
    assert both(2).sum > 24 * GIB > both(1).sum


def test_together_the_last_hundredths_are_tight_too() -> None:
    pair = [replace(known("qwen3:8b"), band=0.0), replace(known("llama3.1:8b"), band=0.0)]

    def verdict(memory: int) -> Verdict:
        return fit(Host(name="cpu", memory=(memory,), cpu=True), pair, SETTINGS, loaded=2).together

    total = fit(Host(name="cpu", memory=(64 * GIB,), cpu=True), pair, SETTINGS, loaded=2).sum
    assert verdict(round(total / COMFORT) + 1) is Verdict.FITS
    assert verdict(total) is Verdict.TIGHT
    assert verdict(total - 1) is Verdict.NO


def test_ollama_answers_one_at_a_time_with_hybrids_and_embeddings() -> None:
    hybrid = placed("qwen3.6:27b")
    assert (hybrid.run.slots, len(hybrid.notes)) == (1, 1)
    assert "one request at a time" in hybrid.notes[0]
    assert placed("all-minilm").run.slots == 1


def test_no_model_gets_more_context_than_it_was_made_for() -> None:
    found = placed("qwen3:8b", settings=Settings(context=131072, slots=1))
    assert (found.run.context, len(found.notes)) == (40960, 1)


def test_the_batch_grows_where_there_is_room_as_ollama_does() -> None:
    large = Host(name="large", memory=(96 * GIB,))
    assert placed("qwen3:8b", large, Settings(context=40960, slots=1)).run.batch == 2048
    assert placed("qwen3:8b", large, Settings(context=8192, slots=1)).run.batch == 1024
    assert placed("qwen3:8b", large, Settings(context=4096, slots=1)).run.batch == 512
    assert placed("qwen3:32b", CARD, Settings(context=40960, slots=1)).run.batch == 512


# Bytes of cache for each token and layer set, as published (16-bit; layers without a window).
@pytest.mark.parametrize(
    ("name", "each"),
    [
        ("llama3.2:1b", 32_768),
        ("llama3.2", 114_688),
        ("llama3.1:8b", 131_072),
        ("llama3.3:70b", 327_680),
        ("qwen3:8b", 147_456),
        ("qwen3:30b", 98_304),
        ("qwen2.5:7b", 57_344),
        ("qwen3.6:27b", 65_536),
        ("qwen3.6:35b", 20_480),
        ("phi4", 204_800),
        ("deepseek-r1:671b", 70_272),
        ("glm-4.7-flash", 54_144),
        ("gemma3:4b", 20_480),
        ("gemma3:27b", 81_920),
        ("gpt-oss:20b", 24_576),
    ],
)
def test_the_table_has_the_published_cache_for_each_token(name: str, each: int) -> None:
    shape = known(name).shape
    whole = replace(shape, caches=tuple(layer for layer in shape.caches if layer.window is None))
    assert cache(whole, Run(context=4096)) == 4096 * each


def test_every_model_and_card_has_a_source_and_a_name_of_its_own() -> None:
    for table, key in (("models", "name"), ("devices", "id")):
        listed = rows(table)
        assert all(row["source"] for row in listed)
        assert len({row[key] for row in listed}) == len(listed)
    names = [name for row in rows("models") for name in (row["name"], *row["also"].split())]
    assert len(names) == len(set(names)) == len(models())


@pytest.mark.parametrize("row", rows("models"), ids=lambda row: row["name"])
def test_every_model_of_the_table_is_one(row: dict[str, str]) -> None:
    shape = models()[row["name"]].shape
    assert 0.4 <= shape.size * 8 / shape.parameters / 4.89 <= 4
    assert len(shape.caches) <= shape.layers
    assert (not shape.caches) == (shape.architecture in {"bert", "nomic-bert"})
    assert shape.embedding < shape.size
    assert need(shape, Run(context=512)).total > shape.size * 0.8


def test_the_quantization_in_a_tag_changes_the_size() -> None:
    plain, eight = known("llama3.1:8b").shape, known("llama3.1:8b-instruct-q8_0").shape
    assert eight.size == pytest.approx(8.54e9, rel=0.01)  # Llama-3.1-8B Q8_0, llama.cpp tools/quantize/README.md
    assert (eight.caches, eight.name) == (plain.caches, "llama3.1:8b-instruct-q8_0")


def test_a_model_of_which_only_the_size_is_known_is_guessed_with_a_wide_band() -> None:
    guess = known("nobody/newmodel:13b-q8_0")
    assert (guess.guessed, guess.band) == (True, GUESS)
    assert guess.shape.size == round(13e9 * 8.5 / 8)
    assert model("nobody/newmodel") is None


def test_a_guess_refuses_only_what_is_too_large_at_its_best() -> None:
    total = place(CARD, known("nobody/newmodel:34b"), Settings(context=4096, slots=1)).need.total
    narrow = Host(name="narrow", memory=(round(total * 0.9),))
    assert place(narrow, known("nobody/newmodel:34b"), Settings(context=4096, slots=1)).verdict is Verdict.TIGHT
    small = Host(name="small", memory=(total // 2,))
    assert place(small, known("nobody/newmodel:34b"), Settings(context=4096, slots=1)).verdict is Verdict.NO


def test_an_unknown_card_gets_the_nearest_names() -> None:
    assert len(devices()) >= 100
    with pytest.raises(DeviceError, match="nvidia-rtx-4090"):
        find("rtx4090")


def test_error_correction_keeps_a_part_of_some_cards() -> None:
    assert find("nvidia-rtx-4090").memory == 24 * GIB
    assert find("nvidia-l4").memory / 2**20 == pytest.approx(23_034, rel=0.005)  # what nvidia-smi shows


def test_ollamas_own_estimate_is_as_far_off_as_its_users_found() -> None:
    # ollama/ollama#17037: 21.25 GiB of cache predicted for gemma3:4b at 131072 tokens, 2.67 GiB taken.
    shape, run = known("gemma3:4b").shape, Run(context=131072)
    predicted = naive.ollama(shape, run) - shape.size - shape.projector
    assert predicted / GIB == pytest.approx(21.25, rel=0.26)
    assert predicted > 6 * cache(shape, run)
    assert [plan(shape, run) > 0 for plan in naive.PLANNERS.values()] == [True] * 3
