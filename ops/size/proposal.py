"""The settings that fit the answer: slots, context, and limits of consumers, as changes of the stack's file. Pure."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from loadtests.sizing.measured import Run
from loadtests.sizing.sized import Sized, best_slots
from ops.size.edit import Path
from stack.capacity.box import Box, placed
from stack.capacity.fit import Verdict
from stack.capacity.people import Answer
from stack.capacity.serving import Speeds
from stack.config.access import CHAT_CONSUMER, Scope
from stack.config.gateway import MOST_A_MINUTE
from stack.config.model import Platform

ROUND: Final = 1024  # tokens of context
SLOTS_AT_MOST: Final = 64
SHARE: Final = 0.5
"""Of all slots, what one consumer's answers may take at a time: others are served too."""
SHORTER: Final = 2.0
"""A consumer's answers may be so many times quicker than those of all people on average."""
SPARE: Final = 1.25
"""A conversation may be so much longer than the longest that was seen."""


def changes(platform: Platform, sized: Sized, key: str) -> dict[Path, int]:
    """What to change, by its path in the file; `key`: where the platform is under `config`. Nothing for no reason."""
    engine = platform.engine
    found: dict[Path, int] = {}
    slots = engine.parallel
    if platform.uses_engine and (best := best_slots(sized)) and best != slots and best <= SLOTS_AT_MOST:
        slots = best
        found["config", key, "engine", "parallel"] = best
    context = _context(sized)
    if platform.uses_engine and context > engine.context_length and _fits(sized.box, slots, context):
        found["config", key, "engine", "contextLength"] = context
    usual = platform.gateway.limits.api.a_minute
    own = {CHAT_CONSUMER, *(service.name for service in platform.services if service.api)}
    half = max(math.ceil(SHARE * slots * engine.instances), 1)
    for place, one in enumerate(platform.consumers):
        if one.name in own or Scope.CHAT not in one.scopes:
            continue  # the chat's people are limited one by one
        if not sized.answer.planned:
            continue
        if one.concurrent_streams is None:
            found["config", key, "consumers", place, "concurrentStreams"] = half
        rate = requests(sized.answer, one.concurrent_streams or half)
        if one.requests_per_minute is None and rate > usual:
            found["config", key, "consumers", place, "requestsPerMinute"] = rate
    return found


def requests(answer: Answer, streams: int) -> int:
    """Requests a minute that only a program run wild asks with so many streams; a round number.

    A stream that asks again at once, with nobody else at work, ends 60/T a minute: T is the time of one answer alone.
    """
    a_minute = 60 * Speeds(answer.serving, answer.usage, "high").ends(1)
    return min(_round(SHORTER * streams * a_minute), MOST_A_MINUTE)


def _round(value: float) -> int:
    """The next of 1, 2, 5, 10, 20, 50 and so on."""
    tens: int = 10 ** max(math.floor(math.log10(value)), 0)
    return next(digit * tens for digit in (1, 2, 5, 10) if digit * tens >= value)


def _context(sized: Sized) -> int:
    """Tokens that a slot needs: for the longest conversation that was seen, else for what is assumed."""
    usage = sized.answer.usage
    need = max([usage.input_tokens + usage.output_tokens, *(_longest(run) for run in sized.runs)])
    return math.ceil(SPARE * need / ROUND) * ROUND


def _longest(run: Run) -> float:
    return max((float(row["input_tokens"] or 0) + float(row["output_tokens"] or 0) for row in run.rows), default=0.0)


def _fits(box: Box | None, slots: int, context: int) -> bool:
    """Without a plan nobody knows; `make up` looks again before anything is touched."""
    if box is None:
        return True
    tried = replace(box, settings=replace(box.settings, slots=slots, context=context))
    return placed(tried)[0].verdict is not Verdict.NO
