"""Texts of about so many tokens, no two alike, without a tokenizer. Pure.

A text is common English words in random order. Servers keep the prompts of the past and skip what they have seen, which
looks like speed: here two conversations differ from their first word on. What all are meant to share is asked for as
such (`shared`). How many tokens a word has depends on the model, so a `Ruler` is fitted to what its server counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

# Words so common that vocabularies have them, with the space before them, as one token. A `Ruler` finds what is true.
WORDS: Final = tuple(
    """
    time year people way day man thing woman life child world school state family student group country problem hand
    part place case week company system program question work government number night point home water room mother
    area money story fact month lot right study book eye job word business issue side kind head house service friend
    father power hour game line end member law car city community name president team minute idea body information
    back parent face others level office door health person art war history party result change morning reason
    research girl guy moment air teacher force education foot boy age policy music market sense nation plan college
    interest death experience effect use class control field development role effort rate heart drug show leader
    light voice wife police mind church report action price need difference picture table letter summer list film
    event course process paper bank west energy model data tree wall machine hair sea glass window sun rock street
    summit fire ground road bird fish horse river stone wood train ship bridge garden kitchen bread milk coffee
    fruit sugar salt corn green blue red black white brown small large early late young old long short high low
    strong weak clear dark warm cold soft hard quick slow deep wide open closed full empty simple common public
    private local national human social medical legal final main major single special certain recent able good great
    new little own other important different next few same best better sure free true whole real left hot
    """.split()  # noqa: SIM905  (a page of words is easier to read than a list)
)
TASK: Final = "Tell a story with these words, at least {} words long, and do not end it before that."
SHORT_TASK: Final = "Tell a very long story."
SALT: Final = 0x9E3779B9
"""Keeps the words that all share apart from those of a person."""


@dataclass(frozen=True, slots=True)
class Ruler:
    """How long a text of so many tokens is. Without a fit: a token for each word, and the usual frame of a message."""

    tokens_per_word: float = 1.0
    per_message: float = 6.0
    """Tokens that the chat template puts around each message."""

    def words(self, tokens: int) -> int:
        """How many words make a message of about so many tokens; at least 1."""
        return max(1, round((tokens - self.per_message) / self.tokens_per_word))

    def tokens(self, words: int, messages: int = 1) -> float:
        """How many tokens messages with so many words in all are."""
        return words * self.tokens_per_word + messages * self.per_message


@dataclass(frozen=True, slots=True)
class Measured:
    """One request that the server counted."""

    words: int
    messages: int
    input_tokens: int


def ruler(measured: Iterable[Measured]) -> Ruler:
    """The ruler that agrees best (least squares) with what a server counted.

    Raises:
        ValueError: too little to tell words and frame apart, or counts that no tokenizer gives.
    """
    seen = list(measured)
    if len({one.words / one.messages for one in seen}) < 2:
        raise ValueError("a ruler needs the counts of messages with at least two different numbers of words")
    sides = np.array([(one.words, one.messages) for one in seen], dtype=np.float64)
    counts = np.array([one.input_tokens for one in seen], dtype=np.float64)
    per_word, per_message = (float(one) for one in np.linalg.lstsq(sides, counts, rcond=None)[0])
    if not (0.5 <= per_word <= 6 and -8 <= per_message <= 5000):
        raise ValueError(
            f"the server counts {per_word:.2f} tokens for a word and {per_message:.0f} around a message, as no "
            "tokenizer does: its counts of input tokens are not used"
        )
    return Ruler(per_word, max(0.0, per_message))


def filler(words: int, rng: np.random.Generator) -> str:
    """So many words in random order."""
    return " ".join(WORDS[place] for place in rng.integers(len(WORDS), size=words).tolist())


def question(words: int, answer_tokens: int, rng: np.random.Generator) -> str:
    """A message of so many words that ends with a task whose answer is longer than `answer_tokens`.

    Models end an answer when they are done, and most servers cannot forbid it. So more is asked for than may be
    answered, and the limit on the answer decides. Too short a message has no room for a task.
    """
    for task in (TASK.format(max(50, 2 * answer_tokens)), SHORT_TASK):
        if words >= 2 * (size := len(task.split())):
            return f"{filler(words - size, rng)}\n{task}"
    return filler(words, rng)


@lru_cache(maxsize=16)
def shared(words: int, nonce: int) -> str:
    """So many words that are the same for everybody in a run."""
    return filler(words, np.random.default_rng((SALT, nonce)))
