"""Texts have about the length that was asked for, and nothing in common."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.workload import prompts
from loadtests.workload.prompts import Measured, Ruler


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_words_are_plain_and_there_are_enough_of_them() -> None:
    assert len(prompts.WORDS) > 250
    assert [word for word in prompts.WORDS if not re.fullmatch("[a-z]{2,12}", word)] == []
    assert len(set(prompts.WORDS)) == len(prompts.WORDS)
    assert len(prompts.filler(500, rng()).split()) == 500


@settings(deadline=None)
@given(words=st.integers(1, 400), answer=st.integers(0, 2000))
def test_a_question_has_so_many_words_its_task_included(words: int, answer: int) -> None:
    assert len(prompts.question(words, answer, rng()).split()) == words


def test_a_question_asks_for_more_than_the_answer_may_be() -> None:
    text = prompts.question(100, 300, rng())
    asked = re.search(r"at least (\d+) words", text)
    assert asked is not None
    assert int(asked[1]) >= 2 * 300
    assert prompts.question(12, 300, rng()).endswith(prompts.SHORT_TASK)


def test_no_two_texts_begin_alike_but_what_is_shared() -> None:
    beginnings = [tuple(prompts.filler(50, rng(seed)).split()[:4]) for seed in range(2000)]
    assert len(set(beginnings)) == 2000
    assert prompts.shared(50, 3) == prompts.shared(50, 3) != prompts.shared(50, 4)


@settings(deadline=None)
@given(
    per_word=st.floats(0.6, 3), frame=st.floats(0, 50), sizes=st.lists(st.integers(1, 5000), min_size=2, unique=True)
)
def test_a_ruler_finds_how_a_server_counts(per_word: float, frame: float, sizes: list[int]) -> None:
    truth = Ruler(per_word, frame)
    found = prompts.ruler(Measured(size, 1, round(truth.tokens(size))) for size in [*sizes, 8000])
    for tokens in (200, 2000):
        assert truth.tokens(found.words(tokens)) == pytest.approx(tokens, abs=4 + 0.01 * tokens)


def test_a_ruler_tells_words_from_messages() -> None:
    truth = Ruler(1.3, 9)
    seen = [Measured(words, messages, round(truth.tokens(words, messages))) for words, messages in ((40, 1), (900, 7))]
    found = prompts.ruler(seen)
    assert found.tokens_per_word == pytest.approx(1.3, abs=0.01)
    assert found.per_message == pytest.approx(9, abs=1)


def test_a_text_is_never_empty() -> None:
    assert Ruler().words(0) == Ruler(2, 50).words(10) == 1


def test_counts_that_say_nothing_or_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="two different"):
        prompts.ruler([Measured(10, 1, 20), Measured(20, 2, 40)])
    with pytest.raises(ValueError, match="as no tokenizer does"):
        prompts.ruler([Measured(10, 1, 7), Measured(1000, 1, 7)])
