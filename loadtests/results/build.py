"""A result, made of a run's records and of what was concluded. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from loadtests.analysis import gates, metrics, search, slo
from loadtests.analysis.metrics import Objectives
from loadtests.records import Record, in_order
from loadtests.results.figures import heat, level, since, span, timeline, troubles
from loadtests.results.schema import VERSION, Answer, Check, Environment, Level, Result, Series, Tried, rounded
from loadtests.results.verdict import Said, judge


def result(
    records: Sequence[Record],
    objectives: Objectives,
    environment: Environment,
    *,
    title: str,
    started: str,
    allowed: float = 0.05,
    checks: Sequence[gates.Gate] = (),
    levels: Sequence[Level] = (),
    series: Sequence[Series] = (),
    found: Answer | None = None,
    stopped: str = "",
    window: tuple[int, int] | None = None,
    label: str = "whole run",
    said: Said | None = None,
) -> Result:
    """A result from the records of a run.

    Args:
        records: every request of the run.
        objectives: what answers must keep.
        environment: where and with what.
        title: what the run was, for people.
        started: when, RFC 3339.
        allowed: the share that may miss.
        checks: the gates; without them nothing is a pass.
        levels: what was seen at each load, when there were several.
        series: measurements of the machine.
        found: what the search found.
        stopped: why the run ended early.
        window: the measured part in nanoseconds; the whole run when not given.
        label: what the measured part is.
        said: the verdict of a run of several parts; that on the measured part when not given. A run that was stopped
            has none, whatever is given.
    """
    ordered = in_order(records)
    low, high = span(ordered)
    if stopped:
        said = "none", f"the run was stopped: {stopped}"
    verdict, reason = said or judge(ordered, objectives, checks, allowed=allowed, window=window)
    return Result(
        schema_version=VERSION, title=title, started=started, seconds=rounded((high - low) / metrics.SECOND),
        complete=not stopped, stopped=stopped, verdict=verdict, reason=reason, objectives=slo.limits(objectives),
        allowed=allowed, environment=environment,
        gates=[check(one) for one in checks],
        whole=since(level(label, None, ordered, objectives, window), low), levels=[since(one, low) for one in levels],
        timeline=timeline(ordered, objectives), heat=heat(ordered), series=list(series), answer=found,
        troubles=troubles(ordered),
        compatible={
            one.tool: {
                name: None if (value := getattr(one, name)) is None else rounded(value)
                for name in ("ttft", "itl", "tpot", "e2e", "throughput")
            }
            for one in metrics.compatible(ordered)
        },
    )  # fmt: skip


def check(gate: gates.Gate) -> Check:
    """A gate as it is kept."""
    return Check(
        name=gate.name, side=gate.side.value, word=gate.word, value=gate.value, limit=gate.limit,  # type: ignore[arg-type]
        why=gate.why,
    )  # fmt: skip


def answer(found: search.Found, plan: search.Plan) -> Answer:
    """What the search found."""
    load = found.load
    probes = [(one, False) for one in found.probes] + [(one, True) for one in found.finals]
    return Answer(
        unit="users" if plan.whole else "requests/s", ending=found.ending.value,
        value=None if load is None else rounded(load.value), low=None if load is None else rounded(load.low),
        high=None if load is None else rounded(load.high), confidence=plan.confidence, binds=found.binds, why=found.why,
        caution=found.caution,
        probes=[
            Tried(load=rounded(one.load), seed=one.seed, requests=one.n, missed_share=rounded(one.share),
                  verdict=one.verdict.value, final=final)
            for one, final in probes
        ],
    )  # fmt: skip
