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
from stack.config.access import CHAT_CONSUMER, Scope
from stack.config.model import Platform

ROUND: Final = 1024  # tokens of context
SLOTS_AT_MOST: Final = 64
SHARE: Final = 0.5
"""Of all slots, what one consumer's answers may take at a time: others are served too."""
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
    own = {CHAT_CONSUMER, *(service.name for service in platform.services if service.api)}
    streams = max(math.ceil(SHARE * slots * engine.instances), 1)
    for place, one in enumerate(platform.consumers):
        if one.name in own or Scope.CHAT not in one.scopes:
            continue  # the chat's people are limited one by one
        if one.concurrent_streams is None and sized.answer.planned:
            found["config", key, "consumers", place, "concurrentStreams"] = streams
    return found


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
