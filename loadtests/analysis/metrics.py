"""What one record, or many, say: each metric by one exact definition, and as other tools would have counted it.

Durations are seconds, rates are a second. What a record does not tell is None or left out, never zero. Refused requests
(429) have no latency; failures count against the objectives, not into the percentiles.

The client sees pieces, the server counts tokens. Where a piece holds several tokens, the server's count is spread over
the pieces by their length: exact in sum, and exact for each piece where one piece is one token. (Counts that differ
a little from the pieces, as by an end token, are spread evenly.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtests.records import Outcome, Record

Floats = NDArray[np.float64]
SECOND: Final = 1e9
ONE_EACH: Final = 1.5
"""Up to so many tokens a piece, pieces are taken for single tokens."""
STALL: Final = 1.0
"""A gap longer than this is a stall, whatever the others are (seconds)."""


def _after(moment: int | None, start: int) -> float | None:
    return None if moment is None else (moment - start) / SECOND


def ttft(record: Record) -> float | None:
    """Time to the first token in any channel, from when the request was meant to start. The headline."""
    return _after(record.first_ns, record.intended_ns)


def wire_ttft(record: Record) -> float | None:
    """The same from when it was sent: without the client's own queue, connecting and TLS."""
    return _after(record.first_ns, record.sent_ns)


def ttfo(record: Record) -> float | None:
    """Time to the first visible output (a reasoning model thinks before it), from the intended start."""
    return _after(record.visible_ns, record.intended_ns)


def e2e(record: Record) -> float:
    """From the intended start to the end of the answer."""
    return (record.done_ns - record.intended_ns) / SECOND


def wire_e2e(record: Record) -> float:
    """From sending to the end of the answer."""
    return (record.done_ns - record.sent_ns) / SECOND


def late(record: Record) -> float:
    """The client's own part: from the intended start to sending, connecting included."""
    return (record.sent_ns - record.intended_ns) / SECOND


def tokens(record: Record) -> int:
    """Output tokens: the server's count, else one for each piece."""
    return len(record.pieces_ns) if record.output_tokens is None else record.output_tokens


def piece_tokens(record: Record) -> Floats:
    """How many tokens each piece holds; their sum is the server's count."""
    chars: Floats = np.asarray(record.pieces_chars, dtype=np.float64)
    if chars.size and (each := tokens(record) / chars.size) < ONE_EACH:
        return np.full(chars.size, each)
    spread: Floats = chars * (tokens(record) / max(float(chars.sum()), 1.0))
    return spread


def gaps(record: Record) -> Floats:
    """Inter-token latency per piece: the time between each piece and the one before it."""
    between: Floats = np.diff(np.asarray(record.pieces_ns, dtype=np.float64) - (record.first_ns or 0)) / SECOND
    return between


def token_gaps(record: Record) -> tuple[Floats, Floats]:
    """Inter-token latency per token: (seconds, how many tokens had it).

    A piece of k tokens after a gap g stands for k tokens that took g / k each.
    """
    held = piece_tokens(record)[1:]
    return gaps(record) / np.maximum(held, 1e-9), held


def tpot(record: Record) -> float | None:
    """Time per output token after the first piece; None where there is none."""
    if len(record.pieces_ns) < 2:
        return None
    rest = tokens(record) - float(piece_tokens(record)[0])
    return (record.pieces_ns[-1] - record.pieces_ns[0]) / SECOND / rest if rest > 0 else None


def speed(record: Record) -> float | None:
    """Tokens a second that this person sees, once the answer runs."""
    per_token = tpot(record)
    return 1 / per_token if per_token else None


def stalls(record: Record) -> int:
    """Gaps of over five times the answer's median (and 50 ms), or of over a second."""
    between = gaps(record)
    if not between.size:
        return 0
    return int(np.count_nonzero(between > min(max(5 * float(np.median(between)), 0.05), STALL)))


def tokens_within(records: Iterable[Record], start_ns: int, end_ns: int) -> float:
    """Tokens that arrived in [start, end): requests over the edges count with what lies inside.

    Sums of whole requests would count tokens of before and after.
    """
    total = 0.0
    for record in records:
        if record.pieces_ns and record.pieces_ns[0] < end_ns and record.pieces_ns[-1] >= start_ns:
            at = np.asarray(record.pieces_ns, dtype=np.int64)
            total += float(piece_tokens(record)[(at >= start_ns) & (at < end_ns)].sum())
    return total


def throughput(records: Iterable[Record], start_ns: int, end_ns: int) -> float:
    """Tokens a second over all people, by arrivals within the window. Raises ValueError for an empty window."""
    if end_ns <= start_ns:
        raise ValueError("the window ends before it starts")
    return tokens_within(records, start_ns, end_ns) * SECOND / (end_ns - start_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objectives:
    """What an answer must keep to be good, in seconds; None: whatever it is."""

    ttft: float | None = None
    ttfo: float | None = None
    tpot: float | None = None
    e2e: float | None = None


def textless(record: Record) -> bool:
    """It asked for no text (embeddings, an upload): only an objective for the whole time is about it."""
    return record.asked_tokens == 0


def judged(record: Record, objectives: Objectives) -> bool:
    """Some objective is about it."""
    return objectives.e2e is not None or not textless(record)


def good(record: Record, objectives: Objectives) -> bool:
    """The answer came whole and kept every objective that is about it; False where none is.

    One piece has no time per token: that objective is kept.
    """
    if record.outcome is not Outcome.OK:
        return False
    if textless(record):
        return objectives.e2e is not None and e2e(record) <= objectives.e2e
    wanted = (
        (objectives.ttft, ttft(record)), (objectives.ttfo, ttfo(record)), (objectives.e2e, e2e(record)),
    )  # fmt: skip
    if any(limit is not None and (value is None or value > limit) for limit, value in wanted):
        return False
    per_token = tpot(record)
    return objectives.tpot is None or per_token is None or per_token <= objectives.tpot


def percentile(values: Sequence[float] | Floats, share: float) -> float | None:
    """The exact percentile, linear between neighbours, as numpy's; `share` from 0 to 1. None without values."""
    return float(np.quantile(np.asarray(values, dtype=np.float64), share)) if len(values) else None


def weighted_percentile(values: Floats, weights: Floats, share: float) -> float | None:
    """The smallest value at which this share of the weight is reached. None without weight."""
    if not values.size or not weights.sum() > 0:
        return None
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][min(np.searchsorted(reached, share * reached[-1]), values.size - 1)])


@dataclass(frozen=True, slots=True)
class Column:
    """One tool's way to count, from our stamps: mean seconds of the finished answers, tokens a second of the run."""

    tool: str
    ttft: float | None
    itl: float | None
    tpot: float | None
    e2e: float | None
    throughput: float | None


def compatible(records: Iterable[Record]) -> tuple[Column, ...]:
    """The means that vLLM's benchmark, aiperf and guidellm would have printed for these requests.

    All count from sending and know finished answers only. vLLM stops its first token at the first chunk that has
    choices, even an empty one, which is earlier than ours where an engine sends one before it has a token.
    """
    done = [r for r in records if r.outcome is Outcome.OK and r.first_ns is not None and r.last_ns is not None]
    if not done:
        return tuple(Column(tool, None, None, None, None, None) for tool in ("vllm", "aiperf", "guidellm"))
    start = min(r.sent_ns for r in done)
    first = np.array([(r.first_ns or 0) - r.sent_ns for r in done]) / SECOND
    last = np.array([(r.last_ns or 0) - r.sent_ns for r in done]) / SECOND
    end = np.array([wire_e2e(r) for r in done])
    count = np.array([tokens(r) for r in done], dtype=np.float64)
    of_first = np.array([float(piece_tokens(r)[0]) for r in done])
    many = count > 1
    more = count > of_first
    pooled = np.concatenate([gaps(r) for r in done])
    wall = (max(r.done_ns for r in done) - start) / SECOND
    to_last = (max(r.last_ns or 0 for r in done) - start) / SECOND
    per_rest = (last - first)[many] / (count[many] - 1)
    weighted = float((last - first)[many].sum() / (count[many] - 1).sum()) if many.any() else None

    def mean(values: Floats) -> float | None:
        return float(values.mean()) if values.size else None

    return (
        Column("vllm", mean(first), mean(pooled), mean(per_rest), mean(last), float(count.sum()) / wall),
        Column(
            "aiperf", mean(first), mean((last - first)[more] / (count - of_first)[more]),
            mean((last - first)[more] / (count - of_first)[more]), mean(last), float(count.sum()) / to_last,
        ),
        Column(
            # Its gap is a mean per request, weighted with the tokens.
            "guidellm", mean(first), weighted, mean(last[count > 0] / count[count > 0]), mean(end),
            float(count.sum()) / wall,
        ),
    )  # fmt: skip
