"""The verdict on one load: pass, fail, or none. Nothing is a pass by accident. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from loadtests.analysis import gates, slo
from loadtests.analysis.metrics import Objectives
from loadtests.records import Record
from loadtests.results.figures import span

Said = tuple[Literal["pass", "fail", "none"], str]
"""A verdict, and why."""


def judge(
    records: Sequence[Record],
    objectives: Objectives,
    checks: Sequence[gates.Gate],
    *,
    allowed: float = 0.05,
    window: tuple[int, int] | None = None,
) -> Said:
    """The verdict on one load, and why. Without gates, or without requests that count, there is none."""
    if why := gates.no_verdict(checks):
        return "none", why
    if not checks:
        return "none", "no gate was looked at"
    low, high = window or span(records)
    inside = [one for one in records if low <= one.intended_ns < high]
    counted, missed = slo.misses(inside, objectives)
    if not counted:
        return "none", "no request can be counted"
    if over := {name: count for name, count in missed.items() if count > allowed * counted}:
        name, count = max(over.items(), key=lambda item: item[1])
        return "fail", f"{name} was missed by {count / counted:.1%} of {counted} requests; {allowed:.0%} may"
    if bad := [gate.name for gate in checks if gate.passed is False]:
        return "fail", "the objectives held, but not the gates: " + ", ".join(bad)
    return "pass", f"at most {max(missed.values(), default=0) / counted:.1%} of {counted} requests missed an objective"
