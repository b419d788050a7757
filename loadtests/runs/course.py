"""The course of a run: a load that is held, several of them, one that grows, a log again, or a search.

Everything here asks a fleet for loads and reads what came of them; it neither knows the network nor writes a file.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from loadtests.analysis import gates, search
from loadtests.analysis.gates import Gate, Server
from loadtests.analysis.metrics import SECOND, judged
from loadtests.analysis.stats import Verdict
from loadtests.generator.loads import Held, Load
from loadtests.records import Outcome as Ended
from loadtests.records import Record
from loadtests.results import build, figures
from loadtests.results.schema import Answer, Level
from loadtests.results.verdict import Said, judge
from loadtests.runs import progress, sweep
from loadtests.runs.hold import Measured, Patience, Runner, Tally, grace, label, longer, measured
from loadtests.runs.probe import PROBES, Prober, Tried
from loadtests.runs.words import Shape, Unit, Words

SLICES: Final = 10
"""A ramp is told in so many parts of its time."""
BENDS: Final = "a ramp shows where it bends, it settles nowhere"
SETTLED: Final = 0.5
"""Of the repetitions of a search, so many must stand still. Around its knee a queue drifts by chance: at nine tenths of
the capacity 9 of 21 did, and the load that was found was right within 2%."""
HIGHEST_USERS: Final = 4096
START_USERS: Final = 4
WIDEST: Final = 1024
"""A rate is searched for from 1/64 of what one person alone would ask, to this many times as much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run came to: what `build.result` takes."""

    records: tuple[Record, ...]
    gates: tuple[Gate, ...]
    window: tuple[int, int] | None = None
    label: str = "whole run"
    levels: tuple[Level, ...] = ()
    found: Answer | None = None
    said: Said | None = None
    trouble: str = ""
    """Why the run could not go on; what is here was seen before."""


@dataclass(slots=True, kw_only=True)
class Course:
    """A run, with all that it needs."""

    words: Words
    fleet: Runner
    load: Callable[[float], Load]
    """What to run for a number of users, or a rate; for a ramp what grows to it, for a replay the log."""
    seconds: float
    """Of a hold, a level, a ramp, a replay."""
    answer_s: float = 0.0
    """How long an answer takes when nobody else asks."""
    server: Server = field(default_factory=Server)
    stopped: Callable[[], bool] = lambda: False
    told: Callable[[str, Tally, float, int], None] = lambda _, __, ___, ____: None
    """Progress: the load in words, what finished, seconds since its beginning, and how many requests are under way."""
    said: Callable[[str], None] = lambda _: None
    """A line of progress."""
    clock: Callable[[], int] = time.monotonic_ns

    def run(self) -> Outcome:
        """The whole run, to its end or until it is stopped."""
        match self.words.shape:
            case Shape.SEARCH:
                return self._search()
            case Shape.RAMP:
                return self._ramp()
            case Shape.REPLAY:
                return self._whole(self._held("replay", 0, 0, early=False), "replay")
            case Shape.HOLD:
                name = label(self.words.loads[0], self.words.unit.value)
                return self._whole(self._held(name, self.words.loads[0], 0), name)
        return self._sweep()

    def _held(self, name: str, load: float, number: int, *, early: bool = True) -> Held:
        """Holds one load; with `early` only until its p95 is known well enough."""
        self.said(f"{name}: for {'at most ' if early else ''}{self.seconds:g} s")
        watch = Patience(
            Tally(self.words.objectives), self.seconds, self.stopped,
            lambda tally, seconds: self.told(name, tally, seconds, self.fleet.in_flight), early=early,
        )  # fmt: skip
        seed = self.words.seed * 1_000_003 + number
        held = self.fleet.hold(
            self.load(load), seed, seconds=self.seconds, until=watch, grace=grace(self.answer_s)
        )  # fmt: skip
        whole = Tally(self.words.objectives)
        whole.add(held.records)
        self.said(f"{name}, all: {progress.words(whole, (held.ended_ns - held.began_ns) / SECOND)}")
        return held

    def _measured(self, load: float, number: int) -> Measured:
        name = label(load, self.words.unit.value)
        one = measured(name, load, self._held(name, load, number), self.words.objectives, self.server)
        self.said(f"{name}: {one.said[0].upper()}, {one.said[1]}")
        self._advise(one)
        return one

    def _advise(self, one: Measured) -> None:
        if advice := longer(one, self.seconds):
            self.said(advice)

    def _whole(self, held: Held, name: str) -> Outcome:
        one = measured(name, 0.0, held, self.words.objectives, self.server)
        if self.words.shape is Shape.HOLD and not self.stopped():
            self._advise(one)
        return Outcome(records=one.records, gates=one.gates, window=one.window, label=name)

    def _sweep(self) -> Outcome:
        levels, trouble = sweep.sweep(self.words.loads, self._measured, self.stopped)
        return replace(_levels(levels, sweep.conclude(levels, len(self.words.loads))), trouble=trouble)

    def _ramp(self) -> Outcome:
        """One load that grows, told in slices of its time. Nothing in it settles, so those gates say n/a.

        It has no verdict: without them a slice would pass from a handful of requests, of a load that was gone at once.
        """
        top = self.words.loads[0]
        held = self._held(f"growing to {label(top, self.words.unit.value)}", top, 0, early=False)
        step = max(1, (held.ended_ns - held.began_ns) // SLICES)
        levels = []
        for number in range(SLICES):
            window = held.began_ns + number * step, held.began_ns + (number + 1) * step
            load = float(f"{top * (number + 0.5) / SLICES:.3g}")
            name = f"about {label(load, self.words.unit.value)}"
            one = measured(name, load, held, self.words.objectives, self.server, window=window)
            if one.level.requests:
                checks = tuple(_unsettled(gate) for gate in one.gates)
                said = judge(held.records, self.words.objectives, checks, window=window)
                levels.append(replace(one, gates=checks, said=said))
        if not levels:
            return replace(self._whole(held, "ramp"), said=("none", f"{BENDS}, and here no request began"))
        told = sweep.conclude(levels, len(levels))
        return replace(_levels(levels, told), records=held.records, said=self._bent(told))

    def _bent(self, told: sweep.Sweep) -> Said:
        """Where a ramp bent, from how many requests, and what to hold for a verdict."""
        counts = [one.level.requests for one in told.levels]
        parts = f"in parts of {min(counts)} to {max(counts)} requests"
        verdict, reason = told.said
        if verdict != "pass":
            return "none", f"{BENDS}: {parts}, {reason}"
        unit, load = self.words.unit, told.best.load
        hold = max(1, int(load)) if unit is Unit.USERS else f"{load:g}"
        reason = f"{parts} the objectives held {reason}; hold a load for a verdict ({unit.name}={hold})"
        return "none", f"{BENDS}: {reason}"

    def _search(self) -> Outcome:
        """The highest load, within the budget."""
        plan = self._plan()
        unit = self.words.unit.value
        prober = Prober(
            fleet=self.fleet, load=self.load, objectives=self.words.objectives, plan=plan,
            seconds=self.words.budget, answer_s=self.answer_s, stopped=self.stopped, clock=self.clock,
            told=lambda load, tally, seconds: self.told(label(load, unit), tally, seconds, self.fleet.in_flight),
            said=lambda line: self.said(f"{unit} {line}"),
        )  # fmt: skip
        if self.words.budget < PROBES * prober.least:
            self.said(
                f"a probe takes at least {prober.least:.3g} s here, and a search about {PROBES} of them: this one may "
                f"end without a number (BUDGET={math.ceil(PROBES * prober.least / 60)}m)"
            )
        found = search.search(plan, prober, prober.said)
        self.said(f"the search ended: {found.ending}, {found.why}")
        levels = tuple(self._level(one) for one in _longest(prober.tried))
        checks = self._checks(prober.tried, found)
        unsettled = gates.no_verdict([gate for gate in checks if gate.side is not gates.Side.SERVER])
        # That some requests fail is what a search looks for: errors are misses, and counted as such. But not of those
        # that no objective is about.
        names = [gate.name for gate in checks if gate.passed is False and gate.name != "errors"]
        bad = ", ".join([*names, *self._unheard(prober.tried, found, plan.allowed)])
        verdict: Said = "none", found.why
        if found.ending is search.Ending.NONE:
            verdict = "fail", found.why
        elif found.ending in {search.Ending.FOUND, search.Ending.ALL}:
            verdict = ("none", unsettled) if unsettled else ("pass", found.why)
            if bad and not unsettled:
                verdict = "fail", _not_held(found.why, bad)
        records = tuple(record for one in prober.tried for record in one.held.records)
        best = _nearest(prober.tried, found, plan.allowed)
        return Outcome(
            records=records, gates=checks, levels=levels, found=build.answer(found, plan), said=verdict,
            trouble=prober.trouble,
            window=best.window if best else None, label=self._name(best.result.load) if best else "whole run",
        )  # fmt: skip

    def _plan(self) -> search.Plan:
        if self.words.unit is Unit.USERS:
            return search.Plan(start=START_USERS, lowest=1, highest=HIGHEST_USERS, whole=True, seed=self.words.seed)
        alone = float(f"{1 / max(self.answer_s, 0.001):.2g}")
        return search.Plan(start=alone, lowest=alone / 64, highest=alone * WIDEST, seed=self.words.seed)

    def _name(self, load: float) -> str:
        return label(load, self.words.unit.value)

    def _level(self, one: Tried) -> Level:
        return figures.level(
            self._name(one.result.load), one.result.load, one.held.records, self.words.objectives, one.window
        )

    def _checks(self, tried: Sequence[Tried], found: search.Found) -> tuple[Gate, ...]:
        """The gates of the probes that the answer rests on."""
        parts = [
            (
                self._name(one.result.load),
                gates.check(one.held.records, self.words.objectives, client=one.held.client, server=self.server,
                            window=one.window),
            )
            for one in _counted(tried, found)
        ]  # fmt: skip
        return gates.merge(parts, SETTLED)

    def _unheard(self, tried: Sequence[Tried], found: search.Found, allowed: float) -> list[str]:
        """The gate of the errors among requests that no objective is about; empty where it holds."""
        objectives = self.words.objectives
        others = [
            one for probe in _counted(tried, found) for one in probe.held.records
            if one.intended_ns >= probe.window[0] and one.outcome is not Ended.CANCELLED and not judged(one, objectives)
        ]  # fmt: skip
        held = not others or gates.errors(others, objectives, allowed).passed
        return [] if held else ["errors, of requests that no objective is about"]


def reconciled(outcome: Outcome, output_tokens: int) -> Outcome:
    """The outcome with the gate of the tokens over the whole run; where it fails, so does a pass that was said before.

    Args:
        outcome: what the run came to.
        output_tokens: how many the server says it has sent over the whole run.
    """
    gate = gates.tokens(outcome.records, Server(output_tokens=output_tokens))
    said = outcome.said
    if gate.passed is False and said is not None and said[0] == "pass":
        held = said[1] if outcome.found is not None else f"the objectives held {said[1]}"
        said = "fail", _not_held(held, gate.name)
    checks = tuple(gate if one.name == gate.name else one for one in outcome.gates)
    return replace(outcome, gates=checks, said=said)


def _not_held(said: str, names: str) -> str:
    return f"{said}; but these gates did not hold: {names}"


def _levels(levels: Sequence[Measured], told: sweep.Sweep) -> Outcome:
    records = tuple(record for one in levels for record in one.records)
    return Outcome(
        records=records, gates=told.gates, window=told.best.window, label=told.best.label,
        levels=tuple(one.level for one in levels), said=told.said,
    )  # fmt: skip


def _unsettled(gate: Gate) -> Gate:
    if gate.name not in {"steady state", "Little's law"}:
        return gate
    return replace(gate, passed=None, value="a ramp never settles")


def _counted(tried: Sequence[Tried], found: search.Found) -> Sequence[Tried]:
    """The repetitions that the answer rests on; all probes where there are none."""
    believed = [one for one in tried if not one.result.invalid]
    counted = [one for one in believed if one.final] or believed or list(tried)
    return counted[-1:] if found.ending is search.Ending.NONE else counted


def _nearest(tried: Sequence[Tried], found: search.Found, allowed: float) -> Tried | None:
    """The probe that the report tells in full: the longest at the answer; without one at the highest load that held."""
    longest = _longest(tried)
    if found.load is not None:
        value = found.load.value
        return min(longest, key=lambda one: abs(one.result.load - value), default=None)
    held = [one for one in longest if one.result.verdict is Verdict.PASS or one.result.share <= allowed]
    return held[-1] if held else (longest[0] if longest else None)


def _longest(tried: Sequence[Tried]) -> list[Tried]:
    """For each load the probe with the most requests, in growing order."""
    best: dict[float, Tried] = {}
    for one in tried:
        if not one.result.invalid and one.result.n > (best[one.result.load].result.n if one.result.load in best else 0):
            best[one.result.load] = one
    return [best[load] for load in sorted(best)]
