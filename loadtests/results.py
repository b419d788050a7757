"""What a run has found, in a form of its own with a version: JSON, and CSV with a row for each request.

The same records give the same bytes. Files are written whole or not at all. Nothing in here knows a key.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from loadtests.analysis import gates, intervals, metrics, search, slo, stats
from loadtests.analysis.metrics import Objectives
from loadtests.compare.tax import Tax
from loadtests.records import Outcome, Record

VERSION: Final = 2
SCHEMA: Final = Path(__file__).with_name("results.schema.json")
METRICS: Final = ("ttft", "ttfo", "tpot", "e2e", "wire_ttft")
HEAT_ROWS: Final = 16
COLUMNS: Final = (
    "scenario", "model", "session", "turn", "worker", "intended_s", "late_ms", "connect_ms", "tls_ms", "ttft_ms",
    "ttfo_ms", "tpot_ms", "e2e_ms", "pieces", "coalesced", "asked_tokens", "input_tokens", "cached_tokens",
    "output_tokens", "outcome", "status", "error",
)  # fmt: skip


class CannotWrite(OSError):
    """A result could not be written; the message says where, why, and what to do."""


class CannotRead(ValueError):
    """A file is no result of ours; the message says where and why."""


def _number(value: float) -> float:
    """Six significant digits: more would be noise, and differ between machines."""
    return float(f"{value:.6g}")


Said = tuple[Literal["pass", "fail", "none"], str]
"""A verdict, and why."""
Figure = Annotated[float, Field(allow_inf_nan=False)]


class Part(BaseModel):
    """Closed and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Distribution(Part):
    """A metric over requests, in seconds; percentiles are values that were measured."""

    n: int
    worth: Figure
    """How many independent values these are worth."""
    mean: Figure
    p50: Figure
    p90: Figure
    p95: Figure
    p99: Figure
    most: Figure
    p95_low: Figure | None
    """The 95% interval of p95; None: there is none."""
    p95_high: Figure | None
    p95_why: str = ""
    """Why there is none: too few values, or too short a run; empty where there is one."""


class Level(Part):
    """What was seen at one load."""

    label: str
    load: Figure | None
    """Users or requests a second, as the search counts; None for a whole run."""
    held: tuple[Figure, Figure]
    """From its first request to its last end: seconds since the beginning of the run, as in requests.csv."""
    window: tuple[Figure, Figure]
    """The measured part of it."""
    requests: int
    outcomes: dict[str, int]
    in_flight: Figure
    """On average."""
    requests_per_second: Figure
    tokens_per_second: Figure
    good_share: Figure | None
    """Requests that kept every objective, among all that count."""
    goodput: Figure
    """Such requests a second."""
    metrics: dict[str, Distribution]


class Moment(Part):
    """A slice of the run's time, by the intended start."""

    start: Figure
    """Seconds since the beginning."""
    requests: int
    missed: int
    in_flight: Figure
    tokens_per_second: Figure
    ttft_p50: Figure | None
    ttft_p95: Figure | None
    ttft_p99: Figure | None
    tpot_p95: Figure | None


class Heat(Part):
    """Requests by time and time to first token."""

    time: list[Figure]
    """Edges, seconds since the beginning."""
    ttft: list[Figure]
    """Edges, seconds, on a logarithmic scale."""
    counts: list[list[int]]
    """A row for each slice of time."""


class Series(Part):
    """A measurement of the machine over time, as Prometheus has it."""

    name: str
    unit: str
    points: list[tuple[Figure, Figure]]
    """(seconds since the beginning, value)"""


class Check(Part):
    """A gate, as `gates.Gate` said it."""

    name: str
    side: Literal["client", "run", "server"]
    word: Literal["PASS", "FAIL", "n/a"]
    value: str
    limit: str
    why: str


class Tried(Part):
    """A probe of the search."""

    load: Figure
    seed: int
    requests: int
    missed_share: Figure
    verdict: Literal["pass", "fail", "open"]
    final: bool


class Answer(Part):
    """What the search found."""

    unit: Literal["users", "requests/s"]
    ending: Literal["found", "none", "all", "unclear", "invalid"]
    value: Figure | None
    low: Figure | None
    high: Figure | None
    confidence: Figure
    binds: str
    why: str
    caution: str
    """Why the interval may be too narrow; empty when not."""
    probes: list[Tried]


class Trouble(Part):
    """A way in which requests did not get their answer."""

    outcome: str
    said: str
    """What the server or the network said."""
    count: int


class Environment(Part):
    """Where and with what: as far as known, for whoever wants to repeat the run."""

    target: str
    hardware: dict[str, str]
    versions: dict[str, str]
    configuration: dict[str, str]
    seeds: dict[str, int]


class Result(Part):
    """One run."""

    schema_version: Literal[2]
    title: str
    started: str
    """RFC 3339, UTC."""
    seconds: Figure
    complete: bool
    stopped: str
    """Why it is not complete; empty when it is."""
    verdict: Literal["pass", "fail", "none"]
    reason: str
    objectives: dict[str, Figure]
    allowed: Figure
    """The share that may miss an objective."""
    environment: Environment
    gates: list[Check]
    whole: Level
    levels: list[Level]
    timeline: list[Moment]
    heat: Heat | None
    series: list[Series]
    troubles: list[Trouble] = []
    """Of the whole run, the most frequent first."""
    answer: Answer | None
    compatible: dict[str, dict[str, Figure | None]]
    """The means as other tools would have printed them."""
    tax: Tax | None = None
    """What the gateway adds, where it was measured."""


# --- from records ----------------------------------------------------------------------------------------------------


def distribution(
    values: Sequence[float], sessions: Sequence[int], queue: Sequence[float] | None = None
) -> Distribution | None:
    """A metric over requests in the order of time; None without any. `queue`: their times to first token."""
    if not values:
        return None
    interval, why = None, ""
    try:
        interval = intervals.of_percentile(values, 0.95, sessions, queue)
    except stats.TooFew as error:
        why = str(error)
    worth = intervals.worth(values, 0.95, sessions, queue)
    p50, p90, p95, p99 = (_number(stats.percentile(values, share)) for share in (0.5, 0.9, 0.95, 0.99))
    return Distribution(
        n=len(values), worth=_number(worth), mean=_number(float(np.mean(values))), p50=p50, p90=p90, p95=p95, p99=p99,
        most=_number(max(values)), p95_low=None if interval is None else _number(interval.low),
        p95_high=None if interval is None else _number(interval.high), p95_why=why,
    )  # fmt: skip


def level(
    label: str,
    load: float | None,
    records: Sequence[Record],
    objectives: Objectives,
    window: tuple[int, int] | None = None,
) -> Level:
    """What was seen at one load, of the requests that were to start in the window.

    Its times are of the clock of the records; `build`, which has them all, counts them from the beginning.
    """
    ordered = sorted(records, key=_order)
    low, high = window or span(ordered)
    inside = [one for one in ordered if low <= one.intended_ns < high]
    done = [one for one in inside if one.outcome is Outcome.OK]
    measured = {}
    for name in METRICS:
        pairs = [(value, one) for one in done if (value := getattr(metrics, name)(one)) is not None]
        waits = [wait for _, one in pairs if (wait := metrics.ttft(one)) is not None]
        if found := distribution(
            [value for value, _ in pairs], [one.session for _, one in pairs],
            waits if len(waits) == len(pairs) else None,
        ):  # fmt: skip
            measured[name] = found
    seconds = (high - low) / metrics.SECOND
    counted, _ = slo.misses(inside, objectives)
    kept = sum(metrics.good(one, objectives) for one in inside)
    return Level(
        label=label, load=None if load is None else _number(load),
        held=_span(span(ordered)), window=_span((low, high)), requests=len(inside),
        outcomes={outcome.value: count for outcome in Outcome if (count := sum(o.outcome is outcome for o in inside))},
        in_flight=_number(stats.in_flight([o.sent_ns for o in ordered], [o.done_ns for o in ordered], (low, high))),
        requests_per_second=_number(len(inside) / seconds),
        tokens_per_second=_number(metrics.throughput(ordered, low, high)),
        good_share=_number(kept / counted) if counted else None, goodput=_number(kept / seconds), metrics=measured,
    )  # fmt: skip


def _span(moments: tuple[int, int]) -> tuple[float, float]:
    return moments[0] / metrics.SECOND, moments[1] / metrics.SECOND


def _since(one: Level, low: int) -> Level:
    """The level with its times counted from this moment (ns), to the microsecond, as requests.csv has them."""
    start = low / metrics.SECOND
    held, window = (
        (max(round(at - start, 6), 0.0), max(round(end - start, 6), 0.0)) for at, end in (one.held, one.window)
    )
    return one.model_copy(update={"held": held, "window": window})


def troubles(records: Sequence[Record], most: int = 5) -> list[Trouble]:
    """How requests failed and what was said then, numbers in it set aside; the most frequent first."""
    seen = Counter(
        (one.outcome.value, re.sub(r"\d+", "N", _plain(one.error)))
        for one in records
        if one.outcome not in {Outcome.OK, Outcome.CANCELLED}
    )
    return [
        Trouble(outcome=outcome, said=said, count=count)
        for (outcome, said), count in sorted(seen.items(), key=lambda item: (-item[1], item[0]))[:most]
    ]


def _plain(text: str) -> str:
    """A server's words in one line, harmless on a terminal."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())[:120]


def _order(one: Record) -> tuple[int, int, int, int]:
    return one.intended_ns, one.session, one.turn, one.worker


def span(records: Sequence[Record]) -> tuple[int, int]:
    """From the first intended start to the last end, in nanoseconds; one second where there is none."""
    if not records:
        return 0, 1_000_000_000
    low = min(one.intended_ns for one in records)
    return low, max(low + 1, *(one.done_ns for one in records))


def timeline(records: Sequence[Record], objectives: Objectives, slices: int = 60) -> list[Moment]:
    """The run in slices of time of equal length, at least a second each."""
    if not records:
        return []
    low, high = span(records)
    last = max(one.intended_ns for one in records) + 1
    step = max(math.ceil((last - low) / slices), 1_000_000_000)
    moments = []
    for start in range(low, last, step):
        end = min(start + step, max(high, start + 1))
        inside = [one for one in records if start <= one.intended_ns < start + step]
        done = [one for one in inside if one.outcome is Outcome.OK]
        first = [value for one in done if (value := metrics.ttft(one)) is not None]
        each = [value for one in done if (value := metrics.tpot(one)) is not None]
        moments.append(
            Moment(
                start=_number((start - low) / metrics.SECOND), requests=len(inside),
                missed=sum(True in slo.missed(one, objectives).values() for one in inside),
                in_flight=_number(stats.in_flight([o.sent_ns for o in records], [o.done_ns for o in records],
                                                  (start, end))),
                tokens_per_second=_number(metrics.throughput(records, start, end)),
                ttft_p50=_share(first, 0.5), ttft_p95=_share(first, 0.95), ttft_p99=_share(first, 0.99),
                tpot_p95=_share(each, 0.95),
            )
        )  # fmt: skip
    return moments


def _share(values: Sequence[float], share: float) -> float | None:
    return _number(stats.percentile(values, share)) if values else None


def heat(records: Sequence[Record], slices: int = 48) -> Heat | None:
    """Requests by time and time to first token; None without any."""
    seen = [(one.intended_ns, value) for one in records if (value := metrics.ttft(one)) is not None and value > 0]
    if not seen:
        return None
    low = min(at for at, _ in seen)
    times = (np.array([at for at, _ in seen]) - low) / metrics.SECOND
    values = np.array([value for _, value in seen])
    bottom, top = math.floor(math.log10(values.min()) * 4) / 4, math.ceil(math.log10(values.max()) * 4 + 1e-9) / 4
    rows = np.logspace(bottom, max(top, bottom + 0.25), HEAT_ROWS + 1)
    columns = np.linspace(0, max(float(times.max()), 1.0) * (1 + 1e-9), max(2, min(slices, len(seen) // 8)) + 1)
    counts, _, _ = np.histogram2d(times, np.clip(values, rows[0], rows[-1]), bins=(columns, rows))
    return Heat(
        time=[_number(one) for one in columns], ttft=[_number(one) for one in rows],
        counts=[[int(count) for count in row] for row in counts],
    )  # fmt: skip


def answer(found: search.Found, plan: search.Plan) -> Answer:
    """What the search found."""
    load = found.load
    probes = [(one, False) for one in found.probes] + [(one, True) for one in found.finals]
    return Answer(
        unit="users" if plan.whole else "requests/s", ending=found.ending.value,
        value=None if load is None else _number(load.value), low=None if load is None else _number(load.low),
        high=None if load is None else _number(load.high), confidence=plan.confidence, binds=found.binds, why=found.why,
        caution=found.caution,
        probes=[
            Tried(load=_number(one.load), seed=one.seed, requests=one.n, missed_share=_number(one.share),
                  verdict=one.verdict.value, final=final)
            for one, final in probes
        ],
    )  # fmt: skip


def build(
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
    ordered = sorted(records, key=_order)
    low, high = span(ordered)
    if stopped:
        said = "none", f"the run was stopped: {stopped}"
    verdict, reason = said or judge(ordered, objectives, checks, allowed=allowed, window=window)
    return Result(
        schema_version=VERSION, title=title, started=started, seconds=_number((high - low) / metrics.SECOND),
        complete=not stopped, stopped=stopped, verdict=verdict, reason=reason, objectives=slo.limits(objectives),
        allowed=allowed, environment=environment,
        gates=[
            Check(name=g.name, side=g.side.value, word=g.word, value=g.value, limit=g.limit, why=g.why)  # type: ignore[arg-type]
            for g in checks
        ],
        whole=_since(level(label, None, ordered, objectives, window), low), levels=[_since(one, low) for one in levels],
        timeline=timeline(ordered, objectives), heat=heat(ordered), series=list(series), answer=found,
        troubles=troubles(ordered),
        compatible={
            one.tool: {
                name: None if (value := getattr(one, name)) is None else _number(value)
                for name in ("ttft", "itl", "tpot", "e2e", "throughput")
            }
            for one in metrics.compatible(ordered)
        },
    )  # fmt: skip


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


# --- files -----------------------------------------------------------------------------------------------------------


def schema() -> str:
    """The JSON Schema of this version; `python -m loadtests.results` writes it."""
    return json.dumps(Result.model_json_schema(), indent=2, sort_keys=True) + "\n"


def to_json(result: Result) -> str:
    """The same result gives the same bytes."""
    return json.dumps(result.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False) + "\n"


def read(path: Path) -> Result:
    """A result from its file.

    Raises:
        CannotRead: it is not there, no JSON, of another version, or not of this form.
    """
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CannotRead(f"{path} cannot be read as a result: {error}") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != VERSION:
        raise CannotRead(f"{path} has schema_version {version!r}; this program reads {VERSION}: run the test again")
    try:
        return Result.model_validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise CannotRead(f"{path} is no result of this version: {place}: {first['msg']}") from error


def to_csv(records: Sequence[Record]) -> str:
    """A row for each request, in the order of the intended starts; an empty cell for what is not known."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    ordered = sorted(records, key=_order)
    low = ordered[0].intended_ns if ordered else 0
    for one in ordered:
        writer.writerow(
            [
                one.scenario, one.model, one.session, one.turn, one.worker, f"{(one.intended_ns - low) / 1e9:.6f}",
                _ms(metrics.late(one)), _ms(_seconds(one.connect_ns)), _ms(_seconds(one.tls_ns)),
                _ms(metrics.ttft(one)), _ms(metrics.ttfo(one)), _ms(metrics.tpot(one)), _ms(metrics.e2e(one)),
                len(one.pieces_ns), one.coalesced, _cell(one.asked_tokens), _cell(one.input_tokens),
                _cell(one.cached_tokens), _cell(one.output_tokens), one.outcome.value, _cell(one.status),
                _harmless(one.error),
            ]
        )  # fmt: skip
    return out.getvalue()


def _seconds(duration: int | None) -> float | None:
    return None if duration is None else duration / metrics.SECOND


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:.3f}"


def _cell(value: int | None) -> str:
    return "" if value is None else str(value)


def _harmless(text: str) -> str:
    """A server's words: a spreadsheet must not take them for a formula."""
    return "'" + text if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text


def write(folder: Path, files: Mapping[str, str]) -> list[Path]:
    """Writes texts as files of a folder, each whole or not at all; what was there before stays until then.

    Raises:
        CannotWrite: the disk is full or the folder cannot be written; nothing half-written is left.
    """
    written = []
    fresh = folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            fresh = folder / f".{name}.{os.getpid()}.new"
            try:
                with fresh.open("w", encoding="utf-8", newline="") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                fresh.replace(folder / name)
            finally:
                fresh.unlink(missing_ok=True)
            written.append(folder / name)
    except OSError as error:
        done = ", ".join(path.name for path in written) or "none"
        raise CannotWrite(
            f"{folder}: {name_of(fresh)} could not be written ({error.strerror or error}); written before it: {done}. "
            "Make room or choose another folder with OUT=…, and run again"
        ) from error
    return written


def name_of(path: Path) -> str:
    """The name that a file is to have."""
    return path.name.strip(".").rsplit(".", 2)[0] if path.name.endswith(".new") else path.name


if __name__ == "__main__":
    SCHEMA.write_text(schema(), encoding="utf-8")
