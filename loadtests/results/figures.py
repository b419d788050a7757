"""What records say of a load, and of a run over time: the same records give the same figures. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from loadtests.analysis import intervals, metrics, slo, stats
from loadtests.analysis.metrics import Objectives
from loadtests.records import Outcome, Record, in_order
from loadtests.results.schema import Distribution, Heat, Level, Moment, Spread, Stream, Trouble, rounded

METRICS: Final = ("ttft", "ttfo", "tpot", "e2e", "wire_ttft")
HEAT_ROWS: Final = 16


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
    p50, p90, p95, p99 = (rounded(stats.percentile(values, share)) for share in (0.5, 0.9, 0.95, 0.99))
    return Distribution(
        n=len(values), worth=rounded(worth), mean=rounded(float(np.mean(values))), p50=p50, p90=p90, p95=p95, p99=p99,
        most=rounded(max(values)), p95_low=None if interval is None else rounded(interval.low),
        p95_high=None if interval is None else rounded(interval.high), p95_why=why,
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
    ordered = in_order(records)
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
        label=label, load=None if load is None else rounded(load),
        held=_span(span(ordered)), window=_span((low, high)), requests=len(inside),
        outcomes={outcome.value: count for outcome in Outcome if (count := sum(o.outcome is outcome for o in inside))},
        in_flight=rounded(stats.in_flight([o.sent_ns for o in ordered], [o.done_ns for o in ordered], (low, high))),
        requests_per_second=rounded(len(inside) / seconds),
        tokens_per_second=rounded(metrics.throughput(ordered, low, high)),
        good_share=rounded(kept / counted) if counted else None, goodput=rounded(kept / seconds), metrics=measured,
        stream=stream(done),
    )  # fmt: skip


def stream(answers: Sequence[Record]) -> Stream | None:
    """How these answers came; None where none came in pieces."""
    running = [one for one in answers if len(one.pieces_ns) > 1]
    if not running:
        return None
    gaps = np.concatenate([metrics.gaps(one) for one in running])
    each, tokens = (np.concatenate(parts) for parts in zip(*map(metrics.token_gaps, running), strict=True))
    speeds = [speed for one in running if (speed := metrics.speed(one)) is not None]
    waits = [metrics.late(one) - ((one.connect_ns or 0) + (one.tls_ns or 0)) / metrics.SECOND for one in answers]
    return Stream(
        piece_gap=_spread(gaps), token_gap=_spread(each, tokens),
        stalled=sum(metrics.stalls(one) > 0 for one in running),
        together=rounded(sum(one.coalesced for one in running) / sum(len(one.pieces_ns) for one in running)),
        person_p50=rounded(stats.percentile(speeds, 0.5)) if speeds else 0.0,
        person_p10=rounded(stats.percentile(speeds, 0.1)) if speeds else 0.0,
        queue=_spread(np.maximum(waits, 0)),
        connect=_times([one.connect_ns for one in answers]), tls=_times([one.tls_ns for one in answers]),
    )  # fmt: skip


def _times(taken: Sequence[int | None]) -> Spread | None:
    known = [one / metrics.SECOND for one in taken if one is not None]
    return _spread(np.array(known)) if known else None


def _spread(values: metrics.Floats, weights: metrics.Floats | None = None) -> Spread:
    """`weights`: how often each value counts."""
    often = np.ones(values.size) if weights is None else weights
    p50, p95, p99 = (rounded(metrics.weighted_percentile(values, often, share) or 0.0) for share in (0.5, 0.95, 0.99))
    return Spread(n=round(float(often.sum())), p50=p50, p95=p95, p99=p99, most=rounded(float(values.max())))


def _span(moments: tuple[int, int]) -> tuple[float, float]:
    return moments[0] / metrics.SECOND, moments[1] / metrics.SECOND


def since(one: Level, low: int) -> Level:
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
                start=rounded((start - low) / metrics.SECOND), requests=len(inside),
                missed=sum(True in slo.missed(one, objectives).values() for one in inside),
                in_flight=rounded(stats.in_flight([o.sent_ns for o in records], [o.done_ns for o in records],
                                                  (start, end))),
                tokens_per_second=rounded(metrics.throughput(records, start, end)),
                ttft_p50=_share(first, 0.5), ttft_p95=_share(first, 0.95), ttft_p99=_share(first, 0.99),
                tpot_p95=_share(each, 0.95),
            )
        )  # fmt: skip
    return moments


def _share(values: Sequence[float], share: float) -> float | None:
    return rounded(stats.percentile(values, share)) if values else None


def heat(records: Sequence[Record], slices: int = 48) -> Heat | None:
    """Requests by time and time to first token; None without any."""
    seen = [(one.intended_ns, value) for one in records if (value := metrics.ttft(one)) is not None and value > 0]
    if not seen:
        return None
    low, _ = span(records)
    times = (np.array([at for at, _ in seen]) - low) / metrics.SECOND
    values = np.array([value for _, value in seen])
    bottom, top = math.floor(math.log10(values.min()) * 4) / 4, math.ceil(math.log10(values.max()) * 4 + 1e-9) / 4
    rows = np.logspace(bottom, max(top, bottom + 0.25), HEAT_ROWS + 1)
    columns = np.linspace(0, max(float(times.max()), 1.0) * (1 + 1e-9), max(2, min(slices, len(seen) // 8)) + 1)
    counts, _, _ = np.histogram2d(times, np.clip(values, rows[0], rows[-1]), bins=(columns, rows))
    return Heat(
        time=[rounded(one) for one in columns], ttft=[rounded(one) for one in rows],
        counts=[[int(count) for count in row] for row in counts],
    )  # fmt: skip
