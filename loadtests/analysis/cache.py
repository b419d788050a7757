"""How much of the prompts the server had kept, and how much of them it could have: beginnings that were there before.

The server says how many tokens of a prompt came from its cache. What may come from there on purpose is the beginning
that all prompts share, and in a conversation everything up to the answer before. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.analysis import metrics
from loadtests.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Cached:
    """Shares (0 to 1) of all prompt tokens of the requests whose server tells."""

    share: float
    """What it says came from its cache."""
    least: float
    """What all prompts share on purpose."""
    most: float
    """That, or what was there already in the same conversation, whichever is more."""
    tokens: float
    """Tokens of a prompt, on average."""


def seen(records: Sequence[Record], before: Sequence[Record], shared: int = 0) -> Cached | None:
    """What the requests say; None where the server tells nothing.

    Engines that tell may leave the count out where it is zero (vLLM does): once one request of a scenario has it, the
    others of that scenario had nothing cached.

    Args:
        records: the requests to judge.
        before: all of the load, for the histories of conversations; their sessions are unique within it.
        shared: tokens at the beginning of every prompt that are the same for all, on purpose.
    """
    telling = {(one.scenario, one.model) for one in records if one.cached_tokens is not None}
    told = [one for one in records if one.input_tokens and (one.scenario, one.model) in telling]
    if not told:
        return None
    # A later prompt begins with the one before it and its answer.
    history = {
        (one.scenario, one.session, one.turn + 1): one.input_tokens + metrics.tokens(one)
        for one in before
        if one.input_tokens
    }
    every = sum(one.input_tokens or 0 for one in told)
    least = sum(min(shared, one.input_tokens or 0) for one in told)
    most = sum(
        min(max(shared, history.get((one.scenario, one.session, one.turn), 0)), one.input_tokens or 0) for one in told
    )
    return Cached(
        share=sum(one.cached_tokens or 0 for one in told) / every, least=least / every, most=most / every,
        tokens=every / len(told),
    )  # fmt: skip
