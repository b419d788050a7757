"""The answer: how many people, what stops there, what the next step brings, what to buy, what it costs. Pure.

From a plan (a `Box`), from load runs, or from both: what was measured goes before what is modelled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Final

from loadtests.analysis import slo as objectives
from loadtests.analysis.metrics import Objectives
from loadtests.results.schema import Answer as Search
from loadtests.results.schema import Check
from loadtests.sizing import power
from loadtests.sizing.check import HeldOut, held_out
from loadtests.sizing.measured import CannotSize, Fitted, Part, Row, Run, fit, more_slots
from loadtests.sizing.place import Elsewhere
from loadtests.sizing.power import Card
from stack.capacity import cost, steps
from stack.capacity.box import Box, serving
from stack.capacity.choose import Choice, ChooseError, Market, choose
from stack.capacity.cost import Beside, Bill, CostError, Habits, Prices
from stack.capacity.facts import Known
from stack.capacity.fit import MOST_SLOTS, Settings
from stack.capacity.people import MOST_PEOPLE, Answer, Met, meet, people
from stack.capacity.serving import CASES, Serving
from stack.capacity.usage import PeopleError, Slo, Usage

POINTS: Final = 24
"""Of a plot over people."""
WORTHWHILE: Final = 0.05
"""Of the people that are served: less is no reason to change a setting."""
REACH: Final = 1.6
"""A plot goes so far beyond the answer."""
FALSIFIED: Final[Mapping[str, str]] = {
    "tokens reconciled": "how quick its answers are is not known, nor with it how many people are served",
    "answer length": "people whose answers are as long as was asked for meet another machine; OUTPUT= says how long",
    "cache honesty": "prompts that nobody asked before take longer than its prompts did, so fewer people are served",
}
"""Gates of the server -> what cannot be told from a run that failed them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked, and what is assumed in place of what is usual."""

    people: int | None = None
    """To buy for; None: as many as are served now."""
    usage: dict[str, float] = field(default_factory=dict)
    """Numbers of `Usage` that were given."""
    slo: Slo = field(default_factory=Slo)
    habits: Habits = field(default_factory=Habits)
    prices: Prices = field(default_factory=lambda: Prices(currency="USD"))
    market: Market = field(default_factory=lambda: Market(currency="USD"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A next step, in words, and who is served then."""

    what: str
    before: int
    after: int | None
    why: str
    """What stops then, or why it cannot be."""
    measured: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """Everything that is said."""

    stack: str
    made: str
    """When, RFC 3339."""
    asked: Asked
    answer: Answer
    curve: tuple[tuple[Met, Met, Met], ...]
    """For growing numbers of people: with low, expected and high speeds."""
    box: Box | None
    model: str
    runs: tuple[Run, ...]
    fitted: Fitted | None
    """What the runs tell."""
    notes: tuple[str, ...]
    held: tuple[HeldOut, ...]
    changes: tuple[Change, ...]
    choice: Choice | None
    choice_why: str
    bill: Bill | None
    bill_why: str
    card: Card | None
    """What one of its cards draws at work."""
    watts: float | None
    """At work, all of it."""
    beside: Beside | None
    elsewhere: Elsewhere | None = None
    """What was measured, where that is not known to be this stack on this machine."""

    @property
    def measured(self) -> bool:
        """Whether the answer rests on a load run."""
        return bool(self.runs)

    @property
    def doubted(self) -> bool:
        """Whether it rests on a run in which the server's side was not what it has to be; the notes say what."""
        return any(_falsified(run) for run in self.runs)

    @property
    def found(self) -> Search | None:
        """What a search found, within the same objectives and with people as they were there."""
        for run in self.runs:
            one = run.result.answer
            same = (
                run.result.objectives
                == objectives.limits(Objectives(ttft=self.asked.slo.ttft, tpot=self.asked.slo.tpot))
                and not self.asked.usage
            )
            believed = run.result.verdict == "pass"
            if believed and one is not None and one.unit == "users" and one.value is not None and same:
                return one
        return None


def size(
    stack: str,
    made: str,
    asked: Asked,
    *,
    box: Box | None = None,
    known: Known | None = None,
    settings: Settings | None = None,
    runs: Sequence[Run] = (),
    context: int = 4096,
    model: str = "",
    watts: float | None = None,
    reached: Callable[[int, int], None] | None = None,
    elsewhere: Elsewhere | None = None,
) -> Sized:
    """The answer. Raises CannotSize or PeopleError where there is none.

    Args:
        stack: its name.
        made: when, RFC 3339.
        asked: words and assumptions.
        box: the machine as it is planned; None where nothing can be said of it (a CPU, cards without a bandwidth).
        known: what is known of the model.
        settings: how the engine is set up.
        runs: load runs on it.
        context: tokens of a slot.
        model: its name.
        watts: of one card at work, as it was said.
        reached: is given how many machines to buy were looked at, and how many there are; it takes a while.
        elsewhere: what the runs measured, where that is not known to be this stack on this machine.
    """
    fitted = _fitted(runs, context)
    if fitted is None and box is None:
        raise CannotSize(
            "nothing is known of how quick this machine is\n"
            f"fix: make load STACK={stack} USERS=1,2,4,8, then make size STACK={stack} RUN=<the folder it names>; "
            "docs/hardware.md says what to buy for how many people"
        )
    usage = replace(fitted.usage if fitted else Usage(), **asked.usage)
    serves = fitted.serving if fitted else serving(box, usage) if box else None
    assert serves is not None  # noqa: S101 (one of both is there)
    answer = people(usage, asked.slo, serves)
    wanted = asked.people or max(answer.planned, 1)
    choice, choice_why = _choice(wanted, known, settings, usage, asked, box.reserved if box else 0, reached)
    card = power.card(box, runs, asked.habits, watts) if box else None
    bill, bill_why = _bill(box, usage, answer.met, asked, card)
    return Sized(
        stack=stack, made=made, asked=asked, answer=answer, curve=tuple(_curve(answer, serves)),
        box=box, model=model or (known.shape.name if known else ""), runs=tuple(runs),
        fitted=fitted, notes=(*(fitted.notes if fitted else ()), *_doubts(runs), *_guessed(box)),
        held=tuple(one for run in runs for one in held_out(run, context=context)),
        changes=(*(_measured_changes(fitted, answer, usage, asked.slo) if fitted else ()),
                 *(_modelled_changes(box, usage, asked.slo, fitted is None) if box else ())),
        choice=choice, choice_why=choice_why, bill=bill, bill_why=bill_why, card=card, watts=_watts(box, asked, card),
        beside=_beside(box, answer), elsewhere=elsewhere,
    )  # fmt: skip


def _doubts(runs: Sequence[Run]) -> Iterator[str]:
    """Runs that did not pass, and why: their requests still tell how quick the machine was."""
    for run in runs:
        if run.result.verdict == "none":
            yield f"The run {run.name} concludes nothing by itself: {run.result.reason}."
        elif run.result.verdict == "fail":
            yield f"The run {run.name} failed: {run.result.reason}."
        for gate in _falsified(run):
            yield f"The run {run.name} failed {gate.name} ({gate.value}; {gate.limit}): {FALSIFIED[gate.name]}."


def _falsified(run: Run) -> list[Check]:
    return [gate for gate in run.result.gates if gate.word == "FAIL" and gate.name in FALSIFIED]


def _guessed(box: Box | None) -> Iterator[str]:
    if box is not None and box.known.guessed:
        yield (
            f"What {box.known.shape.name} is made of is not known, only guessed from its name "
            f"({box.known.shape.source.removeprefix('guessed: ')}): what is modelled here may be far off. "
            "make plan GGUF=<its file> reads what it is made of."
        )


def joined(runs: Sequence[Run]) -> tuple[list[Part], list[Row]]:
    """The loads and requests of several runs, as if one had come after the other."""
    parts: list[Part] = []
    rows: list[Row] = []
    for run, number in zip(runs, count(), strict=False):
        apart = number * 1e7  # seconds: no run is as long
        parts += run.parts
        rows += [{**row, "intended_s": str(float(row["intended_s"]) + apart)} for row in run.rows]
    return parts, rows


def _fitted(runs: Sequence[Run], context: int) -> Fitted | None:
    if not runs:
        return None
    parts, rows = joined(runs)
    slots = {run.slots for run in runs}
    if len(slots) > 1:
        told = ", ".join(str(one or "not known") for one in sorted(slots, key=str))
        raise CannotSize(f"these runs were of engines with different numbers of slots ({told}): give one of them")
    return fit(parts, rows, slots.pop(), context=context)


def _curve(answer: Answer, serves: Serving) -> Iterator[tuple[Met, Met, Met]]:
    top = min(max(round(answer.active.high * REACH), serves.slots, 4), MOST_PEOPLE)
    numbers = sorted({1 + round(k * (top - 1) / (POINTS - 1)) for k in range(POINTS)})
    for number in numbers:
        low, value, high = (meet(number, answer.usage, answer.slo, serves, case) for case in CASES)
        yield low, value, high


def _measured_changes(fitted: Fitted, before: Answer, usage: Usage, slo: Slo) -> Iterator[Change]:
    """What the measured machine would do with one slot more, and twice."""
    slots = len(fitted.serving.decode)
    tried = [("the same machine twice", replace(fitted.serving, engines=2))]
    if more := more_slots(fitted, slots + 1):
        tried.insert(0, (f"one more slot ({slots + 1}), if memory has room", more))
    best, served = _best(fitted, before)
    if served > before.planned and best not in {slots, slots + 1} and (more := more_slots(fitted, best)):
        tried.insert(len(tried) - 1, (f"{best} slots, if memory has room", more))
    for what, serves in tried:
        after = people(usage, slo, serves)
        yield Change(what=what, before=before.planned, after=after.planned, why=after.why, measured=True)


def _modelled_changes(box: Box, usage: Usage, slo: Slo, alone: bool) -> Iterator[Change]:
    try:
        before = steps.answer(box, usage, slo).planned
    except PeopleError:
        before = 0
    for one in steps.steps(box, usage, slo):
        if not alone and one.kind in {"slot", "host"}:
            continue  # measured above
        after = one.answer.planned if one.answer else None
        why = one.answer.why if one.answer else one.refused
        yield Change(what=one.what, before=before, after=after, why=why, measured=False)


def _choice(
    wanted: int,
    known: Known | None,
    settings: Settings | None,
    usage: Usage,
    asked: Asked,
    reserved: int,
    reached: Callable[[int, int], None] | None,
) -> tuple[Choice | None, str]:
    if settings is None:
        return None, "Nothing is offered: what the model is made of is not known."
    try:
        found = choose(
            wanted, known, settings, usage, asked.slo, asked.market, habits=asked.habits, reserved=reserved,
            reached=reached,
        )  # fmt: skip
        return found, ""
    except (ChooseError, PeopleError) as wrong:
        return None, f"Nothing is offered: {wrong}."


def _bill(box: Box | None, usage: Usage, met: Met, asked: Asked, card: Card | None) -> tuple[Bill | None, str]:
    if box is None:
        return None, "What it costs is not known: the stack does not say which cards it has (engine.hardware)."
    try:
        return cost.bill(box, usage, met, asked.habits, asked.prices, watts=card.watts if card else None), ""
    except CostError as wrong:
        return None, f"What it costs is not known: {wrong}."


def _watts(box: Box | None, asked: Asked, card: Card | None) -> float | None:
    return cost.power(box, asked.habits, card.watts).busy if box and card else None


def _beside(box: Box | None, answer: Answer) -> Beside | None:
    try:
        return (
            cost.beside([box], people=answer.named.of(answer.serving.plan), tokens=answer.met.tokens) if box else None
        )
    except CostError:
        return None


def best_slots(sized: Sized) -> int | None:
    """The fewest slots of an engine that serve the most people; None where that is no more than now."""
    answer = sized.answer
    if sized.fitted is not None:
        best, served = _best(sized.fitted, answer)
    elif sized.box is not None:
        best, served = _widest(sized.box, answer)
    else:
        return None
    return best if served > answer.planned * (1 + WORTHWHILE) else None


def _widest(box: Box, answer: Answer) -> tuple[int, int]:
    """(slots, people) of the same box with the slots that serve the most; from there on, more change nothing."""
    while (wider := steps.widest(box, answer.usage, answer.slo)).settings.slots != box.settings.slots:
        box = wider
    return box.settings.slots, steps.answer(box, answer.usage, answer.slo).planned


def _best(fitted: Fitted, answer: Answer) -> tuple[int, int]:
    """(slots, people): the fewest slots that serve the most, as far as the measurements tell."""
    served = {len(fitted.serving.decode): answer.planned}
    for tried in range(1, MOST_SLOTS + 1):
        if (serves := more_slots(fitted, tried)) is not None:
            served[tried] = people(answer.usage, answer.slo, serves).planned
    best = min(served, key=lambda tried: (-served[tried], tried))
    return best, served[best]
