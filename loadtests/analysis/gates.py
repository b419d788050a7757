"""May these figures be believed? Each gate says PASS or FAIL, what it saw, what is allowed, and why it matters.

A gate that could not look says so and is no pass. When a gate of the client fails, the client was the bottleneck and
the run has no verdict at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import numpy as np

from loadtests.analysis import cache as caches
from loadtests.analysis import metrics, slo, stats
from loadtests.analysis.metrics import Objectives
from loadtests.records import Outcome, Record, in_order

LITTLE: Final = 0.02
BLURRED: Final = 0.25
"""Where chance alone may put Little's law off by so much, that it holds says nothing."""
LATE: Final = 0.005  # seconds, or 1% of the TTFT objective
LAG: Final = 0.002  # seconds, or 0.5% of the TTFT objective
CPU: Final = 0.60  # of a core, per worker
TOKENS: Final = 0.005
SILENT: Final = 16
"""Tokens of an answer without text: its end, and the marks around reasoning and channels."""
LENGTH: Final = 0.10
CACHE: Final = 0.02
TEMPLATE: Final = 64
"""Tokens that a model's own template may put before every prompt: the same for all, and meant by nobody."""
CLOCK: Final = 0.5  # seconds
FAILED: Final = frozenset({Outcome.ERROR, Outcome.TIMEOUT, Outcome.TRUNCATED})


class Side(StrEnum):
    """What a failed gate says."""

    CLIENT = "client"
    """The client was the bottleneck: no verdict."""
    RUN = "run"
    """The run was too short, or not what it was meant to be."""
    SERVER = "server"
    """The server's counters and ours disagree, or it failed requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One check."""

    name: str
    side: Side
    passed: bool | None
    """None: it could not look."""
    value: str
    limit: str
    why: str

    @property
    def word(self) -> str:
        """PASS, FAIL or n/a."""
        return "n/a" if self.passed is None else "PASS" if self.passed else "FAIL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """What the client measured of itself; None: not measured."""

    lag: float | None = None
    """Event loop lag, 99th percentile of the worst worker (seconds)."""
    cpu: float | None = None
    """Share of a core that the busiest worker used."""
    dropped: int | None = None
    """Reports of workers that never arrived."""
    clock: float | None = None
    """By how much the wall clock and the monotonic clock parted during the run (seconds)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What is known from the server's side; None: not known."""

    output_tokens: int | None = None
    """By its own counter, over the requests given."""
    shared_prefix: int = 0
    """Tokens at the beginning of every prompt that the workload made the same for all, on purpose."""
    warm: bool | None = None
    """The model was resident before the first measured request."""


def check(
    records: Sequence[Record],
    objectives: Objectives,
    *,
    allowed: float = 0.05,
    client: Client | None = None,
    server: Server | None = None,
    window: tuple[int, int] | None = None,
) -> tuple[Gate, ...]:
    """All gates, in the order of the report.

    Args:
        records: every request of the run.
        objectives: what answers must keep.
        allowed: the share that may miss.
        client: what the client measured of itself.
        server: what is known from the server's side.
        window: the measured part in nanoseconds. When not given all requests count, and Little's law looks from when
            the first answers could have ended to the last start.
    """
    client, server = client or Client(), server or Server()
    ordered = in_order(records)
    inside = [one for one in ordered if window is None or window[0] <= one.intended_ns < window[1]]
    return (
        completed(inside, ordered),
        # From the beginning: the warm-up must be seen to be told from a drift.
        steady([one for one in ordered if window is None or one.intended_ns < window[1]]),
        little(ordered, window or _filled(ordered)),
        late(inside, objectives),
        lag(client, objectives),
        cpu(client),
        dropped(client),
        clock(client),
        tokens(inside, server),
        length(inside),
        cache(inside, ordered, server),
        warm(server),
        errors(inside, objectives, allowed),
    )


def _filled(ordered: Sequence[Record]) -> tuple[int, int]:
    """From when as many may leave as arrive, to the last start."""
    if not ordered:
        return 0, 1
    first, last = ordered[0].intended_ns, ordered[-1].intended_ns + 1
    fill = round(stats.percentile([one.done_ns - one.intended_ns for one in ordered], 0.95))
    return first + min(fill, (last - first) // 2), last


def no_verdict(gates: Sequence[Gate]) -> str:
    """Why nothing may be concluded; empty when something may."""
    if bad := [gate for gate in gates if gate.side is Side.CLIENT and gate.passed is False]:
        return "the client was the bottleneck: " + "; ".join(f"{gate.name} {gate.value}" for gate in bad)
    if bad := [gate for gate in gates if gate.side is Side.RUN and gate.passed is False]:
        return "the run shows no settled load: " + "; ".join(f"{gate.name}: {gate.value}" for gate in bad)
    return ""


def merge(parts: Sequence[tuple[str, Sequence[Gate]]], share: float = 1.0) -> tuple[Gate, ...]:
    """The gates of a run that has several parts, as levels or repetitions: each must pass.

    Args:
        parts: the name of each part, and its gates, all in the same order.
        share: of the parts in which a gate of the run must pass. Queues near their knee drift by chance, so of
            repetitions not every single one can be asked to stand still.
    """
    merged = []
    for same in zip(*(checked for _, checked in parts), strict=True):
        seen = [(name, gate) for (name, _), gate in zip(parts, same, strict=True)]
        bad = [(name, gate) for name, gate in seen if gate.passed is False]
        unknown = [gate for _, gate in seen if gate.passed is None]
        name, last = (bad or seen)[-1]
        passed: bool | None = not bad or (last.side is Side.RUN and len(seen) - len(bad) >= share * len(seen))
        value = f"all {len(seen)}; {name}: {last.value}" if len(seen) > 1 else last.value
        if bad and len(seen) > 1:
            value = f"not in {len(bad)} of {len(seen)}; {name}: {last.value}"
        if passed and unknown:
            passed, value = None, unknown[-1].value
        merged.append(replace(last, passed=passed, value=value))
    return tuple(merged)


def completed(records: Sequence[Record], every: Sequence[Record]) -> Gate:
    """Something was measured at all."""
    done, all_done = (sum(one.outcome is Outcome.OK for one in some) for some in (records, every))
    value = f"{done} of {len(records)}"
    if not done and all_done:
        value += f" in the measured part; {all_done} before or behind it"
    return Gate(
        name="completed", side=Side.RUN, passed=done > 0, value=value, limit="at least 1",
        why="without an answer there is nothing to measure",
    )  # fmt: skip


def steady(records: Sequence[Record]) -> Gate:
    """The time to first token neither settles nor drifts any more."""
    times = [value for one in records if one.outcome is Outcome.OK and (value := metrics.ttft(one)) is not None]
    if not times:
        times = [metrics.e2e(one) for one in records if one.outcome is Outcome.OK]
    found = stats.steady(times)
    return Gate(
        name="steady state", side=Side.RUN, passed=found.start is not None,
        value="none: " + found.why if found.start is None else found.why, limit="MSER and Mann-Kendall at 1%",
        why="a queue that still grows has no percentile that means anything",
    )  # fmt: skip


def little(records: Sequence[Record], window: tuple[int, int]) -> Gate:
    """Requests under way = arrival rate x time in the system."""
    limit, why = f"{LITTLE:.0%}", "otherwise requests were lost from the record, or the window cuts the load"
    starts, ends = [one.intended_ns for one in records], [one.done_ns for one in records]
    try:
        off, chance = stats.little(starts, ends, window), stats.edges(starts, ends, window)
    except stats.TooFew as error:
        return Gate(name="Little's law", side=Side.RUN, passed=False, value=str(error), limit=limit, why=why)
    if off <= chance and chance > BLURRED:
        value = f"too few answers: off by {off:.1%}, and chance alone may do {chance:.0%}"
        return Gate(name="Little's law", side=Side.RUN, passed=None, value=value, limit=limit, why=why)
    if chance > LITTLE:
        limit = f"{chance:.1%}, as much as the few answers over the edges of the window may be off by chance"
    return Gate(
        name="Little's law", side=Side.RUN, passed=off <= max(LITTLE, chance), value=f"off by {off:.1%}", limit=limit,
        why=why,
    )  # fmt: skip


def late(records: Sequence[Record], objectives: Objectives) -> Gate:
    """Requests left when the schedule wanted them to."""
    limit = max(LATE, 0.01 * (objectives.ttft or 0))
    # The handshake belongs to the server's side of the wait, not to the client being slow.
    waits = [
        (one.sent_ns - one.intended_ns - (one.connect_ns or 0) - (one.tls_ns or 0)) / metrics.SECOND for one in records
    ]
    value = stats.percentile(waits, 0.99) if waits else None
    return Gate(
        name="late sends", side=Side.CLIENT, passed=None if value is None else value <= limit,
        value="no request" if value is None else f"p99 {1000 * value:.1f} ms", limit=f"p99 at most {1000 * limit:g} ms",
        why="a client that sends late offers less load than it says",
    )  # fmt: skip


def _measured(name: str, value: float | None, limit: float, form: str, scale: float, why: str) -> Gate:
    return Gate(
        name=name, side=Side.CLIENT, passed=None if value is None else value <= limit,
        value="not measured" if value is None else form.format(scale * value),
        limit="at most " + form.format(scale * limit), why=why,
    )  # fmt: skip


def lag(client: Client, objectives: Objectives) -> Gate:
    """The client's own loop came round in time, beside what is asked of the server."""
    why = "what waits in the client's loop looks like a slow server"
    limit = max(LAG, 0.005 * (objectives.ttft or 0))
    return _measured("loop lag p99", client.lag, limit, "{:.2f} ms", 1000, why)


def cpu(client: Client) -> Gate:
    """The client had processor time to spare."""
    return _measured("client CPU", client.cpu, CPU, "{:.0f}% of a core", 100, "a busy client stamps arrivals late")


def dropped(client: Client) -> Gate:
    """All workers' reports arrived."""
    return _measured("reports lost", client.dropped, 0, "{:.0f}", 1, "sums over workers would be too small")


def clock(client: Client) -> Gate:
    """The machine was not suspended and its clock was not set."""
    why = "figures of the server and ours could not be laid side by side"
    return _measured("clock jump", client.clock, CLOCK, "{:.2f} s", 1, why)


def tokens(records: Sequence[Record], server: Server) -> Gate:
    """The tokens that arrived are those that the server says it sent.

    A piece may hold several tokens, so only the bounds are known: a token for each piece, and one for each character.
    Characters that take several tokens (emoji, some scripts) are too few over a whole run, unless it is of such text.
    """
    name, limit = "tokens reconciled", f"within {TOKENS:.1%}"
    why = "tokens a second would be of tokens that nobody saw"
    done = [one for one in records if one.outcome is Outcome.OK and (one.output_tokens is not None or one.pieces_ns)]
    told = [one for one in done if one.output_tokens is not None]
    if not done or not told:
        value = "no answer has a usage" if done else "no answer with text"
        return Gate(name=name, side=Side.SERVER, passed=None, value=value, limit=limit, why=why)
    usage = sum(one.output_tokens or 0 for one in told)
    wrong = []
    if len(told) < len(done):
        wrong.append(f"{len(done) - len(told)} of {len(done)} answers have no usage")
    pieces = sum(len(one.pieces_ns) for one in told)
    if pieces > usage * (1 + TOKENS):
        wrong.append(f"{pieces} pieces with text arrived, usage says {usage} tokens")
    characters = sum(sum(one.pieces_chars) for one in told)
    if usage > characters + SILENT * len(told):
        wrong.append(
            f"{characters} characters arrived, usage says {usage} tokens: reasoning that is hidden, or a wrong count"
        )
    if server.output_tokens is not None:
        # The counter knows what answers cost that failed or were given up, too: so they are in both sums. Those have no
        # usage, and are counted by their pieces.
        every = round(sum(metrics.tokens(one) for one in records))
        if abs(every - server.output_tokens) > TOKENS * max(server.output_tokens, 1):
            wrong.append(f"what arrived adds up to {every}, the server's counter to {server.output_tokens}")
    value = "; ".join(wrong) or (
        f"{usage} tokens" + (" and the server's counter agrees" if server.output_tokens is not None else "")
    )
    return Gate(name=name, side=Side.SERVER, passed=not wrong, value=value, limit=limit, why=why)


def length(records: Sequence[Record]) -> Gate:
    """Answers were as long as the workload asked for."""
    pairs = [
        (metrics.tokens(one), one.asked_tokens) for one in records if one.outcome is Outcome.OK and one.asked_tokens
    ]
    limit, why = f"within {LENGTH:.0%}", "shorter answers are an easier load than the one named"
    name = "answer length"
    if not pairs:
        return Gate(name=name, side=Side.SERVER, passed=None, value="no length was asked for", limit=limit, why=why)
    got = sum(one for one, _ in pairs) / sum(asked for _, asked in pairs)
    short = float(np.mean([one < (1 - LENGTH) * asked for one, asked in pairs]))
    return Gate(
        name=name, side=Side.SERVER, passed=abs(got - 1) <= LENGTH,
        value=f"{got:.0%} of what was asked; {short:.0%} of the answers are short", limit=limit, why=why,
    )  # fmt: skip


def cache(records: Sequence[Record], every: Sequence[Record], server: Server) -> Gate:
    """The prompt cache helped no more than the workload meant it to, and with what all share no less."""
    name, why = "cache honesty", "cached prompts flatter the time to first token"
    seen = caches.seen(records, every, server.shared_prefix)
    if seen is None:
        return Gate(
            name=name, side=Side.SERVER, passed=None, value="the server does not say", limit="as much as was meant",
            why=why,
        )  # fmt: skip
    low, high = seen.least - CACHE, min(seen.most + max(CACHE, TEMPLATE / seen.tokens), 1.0)
    return Gate(
        name=name, side=Side.SERVER, passed=low <= seen.share <= high,
        value=f"{seen.share:.1%} of the prompt tokens came from the cache",
        limit=f"{low:.0%} to {high:.0%}" if low > 0 else f"at most {high:.0%}", why=why,
    )  # fmt: skip


def warm(server: Server) -> Gate:
    """The model was in memory before the first measured request."""
    words = {None: "not known", True: "resident before the start", False: "loaded during the run"}
    return Gate(
        name="model warm", side=Side.RUN, passed=server.warm, value=words[server.warm], limit="resident",
        why="loading a model is a time of its own",
    )  # fmt: skip


def errors(records: Sequence[Record], objectives: Objectives, allowed: float) -> Gate:
    """Few enough failed, of all: those too that no objective is about, which are no miss of any."""
    counted, _ = slo.misses(records, objectives)
    others = [one for one in records if one.outcome is not Outcome.CANCELLED and not metrics.judged(one, objectives)]
    failed = sum(one.outcome in FAILED for one in records)
    refused = sum(one.outcome is Outcome.LIMIT for one in records)
    unheard = sum(one.outcome is not Outcome.OK for one in others)
    of = counted + len(others)
    share = (failed + refused) / of if of else 1.0
    return Gate(
        name="errors", side=Side.SERVER, passed=share <= allowed,
        value=f"{failed} failed, {refused} hit a limit, of {of}; "
        + (f"no objective is about {unheard} of them" if unheard else "all counted as misses"),
        limit=f"at most {allowed:.0%}", why="a server that fails fast must not look fast",
    )  # fmt: skip
