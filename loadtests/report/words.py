"""The findings of a run in sentences, shared by the page and the Markdown summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from loadtests.report.svg import number, seconds
from loadtests.results.schema import Distribution, Level, Result, Stream

NAMES: Final = {
    "ttft": "time to first token",
    "ttfo": "time to first visible output",
    "tpot": "time per output token",
    "e2e": "time to the whole answer",
    "wire_ttft": "time to first token, from sending",
}
VERDICTS: Final = {"pass": "PASS", "fail": "FAIL", "none": "NO VERDICT"}
OUTCOMES: Final = {
    "ok": "answered", "limit": "limit hit (429)", "truncated": "cut off", "error": "failed", "timeout": "timed out",
    "cancelled": "stopped by us",
}  # fmt: skip


def objectives(result: Result) -> str:
    """What answers must keep."""
    limits = [(name, result.objectives[name]) for name in NAMES if name in result.objectives]
    kept = [f"{NAMES[name]} at most {seconds(limit)}" for name, limit in limits]
    return f"{' and '.join(kept) or 'no objective'} for {1 - result.allowed:.0%} of the requests"


def headline(result: Result) -> str:
    """The one sentence that comes first."""
    found = result.answer
    if found is not None and result.verdict != "pass" and result.reason == found.why:
        return f"No highest load can be named: {found.why}."
    if result.verdict == "none":
        return f"Nothing can be concluded from this run: {result.reason}."
    if found is not None and result.verdict == "fail":
        return f"What was found may not be believed: {result.reason}."
    if found is not None and found.ending == "found" and found.value is not None:
        people = f"{whole(found.value)} people at once" if found.unit == "users" else f"{found.value:.3g} requests/s"
        low, high = (number(one or 0.0) for one in (found.low, found.high))
        if found.unit == "users":
            low, high = whole(found.low or 0.0), whole(found.high or 0.0)
        return (
            f"This serves {people} ({found.confidence:.0%} interval {low} to {high}) with "
            f"{objectives(result)}; what is missed first is {NAMES.get(found.binds, found.binds)}."
            + (f" Caution: {found.caution}." if found.caution else "")
        )
    if found is not None:
        return f"No highest load can be named: {found.why}."
    if result.reason.startswith("the objectives held"):
        return f"{result.reason[0].upper()}{result.reason[1:]}."
    # The reason of a run of several levels begins with where.
    where = "" if result.levels else " at this load:"
    return f"The objectives {'held' if result.verdict == 'pass' else 'did not hold'}{where} {result.reason}."


def whole(value: float) -> str:
    """People are not cut in pieces: the number that is surely below."""
    return f"{int(value):,}"


def outcomes(level: Level) -> str:
    """How many requests ended how."""
    return (
        ", ".join(f"{count:,} {OUTCOMES[name]}" for name, count in sorted(level.outcomes.items(), key=_most)) or "none"
    )


def interval(one: Distribution) -> str:
    """The 95% interval of p95, or why there is none in two words; `untold` has the sentence."""
    if one.p95_low is not None and one.p95_high is not None:
        return f"{seconds(one.p95_low)} to {seconds(one.p95_high)}"
    return "run too short" if one.p95_why.startswith("too short") else "too few"


def untold(levels: Sequence[Level]) -> list[str]:
    """Why p95 has no interval, a line for each reason at each load; the numbers are those of the worst metric."""
    said = []
    for level in levels:
        reasons: dict[str, list[str]] = {}
        known = [name for name in NAMES if name in level.metrics and level.metrics[name].p95_why]
        for name in sorted(known, key=lambda name: level.metrics[name].worth):
            reasons.setdefault(interval(level.metrics[name]), []).append(name)
        for names in reasons.values():
            told = " and ".join(NAMES[name] for name in NAMES if name in names)
            said.append(f"{level.label}, {told}: p95 has no interval: {level.metrics[names[0]].p95_why}")
    return said


def troubles(result: Result) -> list[str]:
    """What went wrong in the whole run, a line each."""
    said = [f"{one.count:,} {OUTCOMES[one.outcome]}" + (f": {one.said}" if one.said else "") for one in result.troubles]
    if any(one.outcome == "limit" for one in result.troubles):
        said.append(
            "A limit of the key or of the engine's queue refused requests (429), which is no latency; one key has half "
            "of an engine's places at most."
        )
    return said


def _most(item: tuple[str, int]) -> tuple[bool, int]:
    return item[0] != "ok", -item[1]


def stream(one: Stream) -> str:
    """How the answers came, in words."""
    return (
        f"A person sees {number(one.person_p50)} tokens/s once the answer runs, the slowest tenth less than "
        f"{number(one.person_p10)}. {one.stalled:,} answers stood still at least once (a gap of five times their "
        f"usual, or of a second). {one.together:.1%} of the pieces came together with the one before: that gap nobody "
        "can know."
    )
