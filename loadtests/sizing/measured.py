"""What load runs tell of a machine: its speed with 1, 2, … answers at once, and how people used it.

A sweep (`make load USERS=1,2,4,8`) has a load after the other. The speed at each number of answers at once is taken
from single requests (`observed`); what a prompt takes from requests that met nobody. Pure, but for `read`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean, pstdev
from typing import Final

from loadtests.results import store
from loadtests.results.schema import Level, Result, inside
from loadtests.results.store import CannotRead
from stack.capacity import observed, queueing, serving
from stack.capacity.observed import ObservedError
from stack.capacity.roofline import REACH, Speed
from stack.capacity.serving import SAME, Serving, Speeds
from stack.capacity.usage import PeopleError, Usage

ALONE: Final = 5
"""Requests that met nobody, at least, for what a prompt takes."""
CHANCE: Final = 0.08
"""By so much the loads as a whole may differ by chance from what their single answers say."""
SLOWER: Final = 0.8
"""Were the machine so much slower, a load that waits for it would lose at least half of that."""
SLOWEST: Final = 1 / 3
"""Of what single answers say, as a whole; and three times as quick."""
PACES: Final = 200
LEAST_STEP: Final = 0.2
"""Of a measured gap between tokens: what the prompts of others take of it cannot be more than the rest."""

MOST_LOAD: Final = 100_000.0
"""People, or requests a second: more are not asked for."""

Row = Mapping[str, str]


class CannotSize(ValueError):
    """A run tells nothing of how many people are served; the message says why and what would."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One load of a run."""

    level: Level
    users: float | None
    """None where requests came by a rate."""
    rows: tuple[Row, ...]
    share: float = 1.0
    """Of its requests those that asked for an answer in words; the others are embeddings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One load run: its result, and the requests of each of its loads that asked for an answer in words."""

    name: str
    result: Result
    parts: tuple[Part, ...]
    rows: tuple[Row, ...]
    slots: int | None
    """What the stack's configuration said; None where it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A machine as measured, and what people did to it."""

    serving: Serving
    usage: Usage
    notes: tuple[str, ...]
    known: Mapping[int, float]
    """Answers at once -> tokens a second of all, as far as they were seen."""


# --- reading ---------------------------------------------------------------------------------------------------------


def read(folder: Path) -> Run:
    """A run from the folder that `make load` wrote. Raises CannotSize."""
    if not (folder / store.NAME).is_file():
        raise CannotSize(f"RUN={folder}: {store.NONE}")
    try:
        result = store.read(folder / store.NAME)
        rows = store.requests(folder / "requests.csv")
    except CannotRead as error:
        raise CannotSize(f"RUN={folder}: {error}") from None
    if bad := [gate.name for gate in result.gates if gate.side == "client" and gate.word == "FAIL"]:
        raise CannotSize(
            f"RUN={folder}: the client of that run was the bottleneck ({', '.join(bad)}), so its figures are not the "
            "machine's: run it again with PROCESSES=2, or from another machine"
        )
    return of(folder.name, result, rows)


def of(name: str, result: Result, rows: Sequence[Row]) -> Run:
    """A run from its parts. Raises CannotSize for rows or loads that are none."""
    told = result.environment.configuration
    if (engines := told.get("engine.instances", "1")) != "1":
        raise CannotSize(
            f"{name}: {engines} engines shared the answers, so how many one had at once is not known\n"
            "fix: load it with engine.instances: 1; size it without RUN=, then each engine counts"
        )
    if (unit := told.get("UNIT", "users")) not in {"users", "requests/s"}:
        raise CannotSize(f"{name}: result.json has UNIT {unit[:40]!r}, which no load is a number of; run it again")
    users = unit == "users"
    levels = [one for one in result.levels if one.load is not None]
    if not levels and told.get("SHAPE", "hold") == "hold" and "LOADS" in told:
        levels = [result.whole.model_copy(update={"load": _held(name, told["LOADS"])})]
    if wrong := [one.load for one in levels if not (1 if users else 0) <= (one.load or 0) <= MOST_LOAD]:
        raise CannotSize(f"{name}: result.json has a load of {wrong[0]:g}, which no load run makes; run it again")
    # The probes of a search end as soon as they are clear, and the parts of a ramp are no load that was held.
    held = told.get("SHAPE") not in {"search", "ramp"}
    try:
        # A program that asks documents asks the embedding model too, before each question.
        chats = tuple(row for row in rows if row["asked_tokens"] != "0")
        parts = [_part(one, users=users, held=held, rows=rows, chats=chats) for one in levels]
    except (KeyError, TypeError, ValueError) as error:
        raise CannotSize(f"{name}: requests.csv has rows that no load run writes ({error})") from None
    if rows and not chats:
        raise CannotSize(
            f"{name}: it asked for embeddings only, and nobody talks to that model\n"
            "fix: a load run with PROFILE=chat, code, rag or agent tells how many people are served"
        )
    slots = told.get("engine.parallel", "")
    return Run(
        name=name, result=result, parts=tuple(parts), rows=chats,
        slots=int(slots) if slots.isdecimal() and len(slots) < 6 else None,
    )  # fmt: skip


def _held(name: str, load: str) -> float:
    """The one load of a run, from its words."""
    try:
        return float(load)
    except ValueError:
        raise CannotSize(f"{name}: result.json has LOADS {load[:40]!r}, which is no load; run it again") from None


def _part(level: Level, *, users: bool, held: bool, rows: Sequence[Row], chats: Sequence[Row]) -> Part:
    asked = within(chats, level)
    return Part(
        level=level, users=level.load if users else None, rows=asked if held else (),
        share=len(asked) / max(len(within(rows, level)), 1),
    )  # fmt: skip


def within(rows: Sequence[Row], level: Level) -> tuple[Row, ...]:
    """The requests of a load: loads of a sweep follow each other, the next begins when the last has ended."""
    return tuple(row for row in rows if inside(level.held, float(row["intended_s"])))


# --- fitting ---------------------------------------------------------------------------------------------------------


def fit(parts: Sequence[Part], rows: Sequence[Row], slots: int | None, *, context: int) -> Fitted:
    """The machine that these loads show. Raises CannotSize when they show too little.

    Args:
        parts: the loads, for how people used it.
        rows: the requests to learn from.
        slots: how many answers it works on at once; the most that was seen where nobody knows.
        context: tokens of a slot.
    """
    try:
        answers = observed.answers(rows)
        rates = observed.rates(answers)
        prompts = _prompts(rows)
        prompt, spread = fmean(prompts), pstdev(map(math.log, prompts))
        usage = replace(_usage(parts, rows), input_spread=min(spread, 3.0))
        known = {one.answers: _alone(one, prompt, usage.output_tokens) for one in rates}
        last, notes = max(known), []
        wanted = slots or last
        if wanted > REACH * last:
            notes.append(
                f"{wanted} slots are configured and at most {last} answers were seen at once: this counts on "
                f"{int(REACH * last)} only. A run with more people tells more."
            )
        decode = _levels(known, min(wanted, int(REACH * last)))
    except (ObservedError, PeopleError) as error:
        raise CannotSize(
            f"{error}\nfix: a run with few and with many people tells it: make load USERS=1,2,4,8"
        ) from None
    speed = usage.prompt_tokens / prompt
    prefill = Speed(value=speed, low=speed * (1 + SAME[0]), high=speed * (1 + SAME[1]), basis="measured in a load run")
    if slots is None:
        notes.append(f"How many slots the engine has is not known: {len(decode)}, the most answers seen at once.")
    made = Serving(decode=decode, prefill=prefill, context=context, measured=True)
    if (pace := _pace(parts, usage, made)) != 1:
        notes.append(
            f"As a whole the machine was {abs(pace - 1):.0%} {'slower' if pace < 1 else 'quicker'} than its single "
            "answers say: this counts on the whole. Was something else at work on it?"
        )
    return Fitted(
        serving=_paced(made, pace), usage=usage, notes=tuple(notes),
        known={count: pace * rate for count, rate in known.items()},
    )  # fmt: skip


def _pace(parts: Sequence[Part], usage: Usage, made: Serving) -> float:
    """The factor on all speeds with which the loads' tokens/s come nearest to what was seen (least squares of logs).

    Single answers are told by medians, so pauses of a busy machine are not in them; the loads have them.
    """
    loads = [
        part
        for part in parts
        if part.users is not None
        and part.rows
        and part.level.tokens_per_second > 0
        # Elsewhere people mostly think, no pace changes much, and chance alone would choose one.
        and _throughput(part, _paced(made, SLOWER), usage) < (1 + SLOWER) / 2 * _throughput(part, made, usage)
    ]
    if not loads:
        return 1.0

    def miss(pace: float) -> float:
        serves = _paced(made, pace)
        return math.fsum(math.log(_throughput(one, serves, usage) / one.level.tokens_per_second) ** 2 for one in loads)

    paces = [math.exp(math.log(SLOWEST) * (1 - 2 * k / PACES)) for k in range(PACES + 1)]
    best = min(paces, key=miss)
    return best if abs(best - 1) > CHANCE and paces[0] < best < paces[-1] else 1.0


def _paced(made: Serving, pace: float) -> Serving:
    def one(speed: Speed) -> Speed:
        return replace(speed, value=pace * speed.value, low=pace * speed.low, high=pace * speed.high)

    return replace(made, decode=tuple(one(speed) for speed in made.decode), prefill=one(made.prefill))


def more_slots(fitted: Fitted, slots: int) -> Serving | None:
    """The same machine with so many slots; None beyond what its measurements tell."""
    try:
        return replace(fitted.serving, decode=_levels(fitted.known, slots))
    except PeopleError:
        return None


def _levels(known: Mapping[int, float], slots: int) -> tuple[Speed, ...]:
    if len(known) == 1 and slots == 1:
        rate = known[1] if 1 in known else next(iter(known.values()))
        return (Speed(value=rate, low=rate * (1 + SAME[0]), high=rate * (1 + SAME[1]), basis="measured alone"),)
    return serving.levels(known, slots)


def _alone(one: observed.Rate, prompt: float, output: float) -> float:
    """Tokens a second of so many answers without the prompts of their neighbours, which come once for each answer."""
    step = one.answers / one.rate
    return one.answers / max(step - (one.answers - 1) * prompt / output, LEAST_STEP * step)


def _prompts(rows: Sequence[Row]) -> list[float]:
    """Seconds to the first token of requests that met nobody, less a step. Raises ObservedError for too few."""
    spans = sorted(
        ((float(row["intended_s"]), float(row["e2e_ms"]) / 1000, row) for row in rows), key=lambda one: one[:2]
    )
    found, busy = [], 0.0
    for start, took, row in spans:
        if start >= busy and row["outcome"] == "ok" and row["ttft_ms"]:
            found.append(max(float(row["ttft_ms"]) - float(row["tpot_ms"] or 0), 0.1) / 1000)
        busy = max(busy, start + took)
    if len(found) < ALONE:
        raise ObservedError(
            f"{len(found)} requests met nobody else at work, so what a prompt takes is not known; it takes {ALONE}"
        )
    return found


def _usage(parts: Sequence[Part], rows: Sequence[Row]) -> Usage:
    done = [row for row in rows if row["outcome"] == "ok" and row["output_tokens"] and row["input_tokens"]]
    if not done:
        raise ObservedError("no answer has its tokens counted")
    thinks = [one for part in parts for one in _thinks(part)]
    usage = Usage(
        input_tokens=fmean(float(row["input_tokens"]) for row in done),
        output_tokens=fmean(float(row["output_tokens"]) for row in done),
    )
    return replace(usage, think_s=min(fmean(thinks), 86_400.0)) if thinks else usage


def _thinks(part: Part) -> list[float]:
    """Seconds from each answer to the next question of the same person; none where requests come by a rate.

    What is embedded between the two is time away from this model, as thinking is.

    People have seats: who has seat k of n has the sessions k, k + n, k + 2n, …
    """
    took = part.level.metrics.get("e2e")
    if part.users and not part.rows and took is not None and part.level.requests_per_second and part.share:
        # By Little's law over people: whose requests are whose is not known.
        return [max(part.users / part.level.requests_per_second - took.mean, 0.0) / part.share]
    seats: dict[int, list[tuple[float, float]]] = {}
    for row in part.rows if part.users else ():
        start = float(row["intended_s"])
        seat = int(row["session"]) % round(part.users or 1)
        seats.setdefault(seat, []).append((start, start + float(row["e2e_ms"]) / 1000))
    return [max(then[0] - now[1], 0.0) for times in seats.values() for now, then in pairwise(sorted(times))]


def throughput(part: Part, fitted: Fitted) -> float:
    """Tokens a second of all people at this load, as predicted. Raises QueueError, PeopleError."""
    return _throughput(part, fitted.serving, fitted.usage)


def _throughput(part: Part, serves: Serving, usage: Usage) -> float:
    speeds = Speeds(serves, usage, "value")
    if part.users is None:
        return min(part.level.load or 0.0, speeds.ends(serves.slots)) * usage.output_tokens
    return queueing.closed(round(part.users), usage.think_s, speeds.ends, serves.slots).throughput * usage.output_tokens
