"""Service-level objectives: the usual ones by name, and who missed which.

Whoever got no answer missed every objective: errors, timeouts, truncated streams, and refusals too. (A server that
turns half of its users away must not look fast.) What the client itself stopped missed an objective once its time was
up, and says nothing about it before.

What asked for no text (embeddings, an upload) is judged by its whole time alone, whether it came or failed; where
nothing is wanted of that, it counts neither as kept nor as missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Final

from loadtests.analysis import metrics
from loadtests.analysis.metrics import Objectives
from loadtests.records import Outcome, Record

# MLPerf's server scenarios (inference_policies ac93e89), and ours for people who wait before a screen.
PRESETS: Final[Mapping[str, Objectives]] = {
    "people": Objectives(ttft=2.0, tpot=0.1),
    "interactive": Objectives(ttft=0.5, tpot=0.03),
    "conversational-70b": Objectives(ttft=2.0, tpot=0.2),
    "interactive-70b": Objectives(ttft=0.45, tpot=0.04),
    "conversational-405b": Objectives(ttft=6.0, tpot=0.175),
    "reasoning": Objectives(ttft=2.0, tpot=0.08),
    "embeddings": Objectives(e2e=1.0),
}


def limits(objectives: Objectives) -> dict[str, float]:
    """The objectives that were set: name to seconds."""
    named = {one.name: getattr(objectives, one.name) for one in fields(objectives)}
    return {name: float(limit) for name, limit in named.items() if limit is not None}


def preset(name: str) -> Objectives:
    """The objectives of this name. Raises ValueError that names those that there are."""
    try:
        return PRESETS[name]
    except KeyError:
        raise ValueError(f"objectives {name!r}: not known; allowed: {', '.join(PRESETS)}") from None


VECTORS: Final = "embeddings"
"""The usual objectives where there are no answers in tokens."""


def usual(scenario: str) -> str:
    """The name of the objectives for people of this scenario, when they say none: vectors have no tokens."""
    return VECTORS if scenario in {"embed", "native-embed"} else "people"


def parse(text: str) -> Objectives:
    """A preset by its name, or objectives as `ttft=2,tpot=0.1` in seconds.

    Raises ValueError with what is allowed.
    """
    if "=" not in text:
        return preset(text)
    names = [one.name for one in fields(Objectives)]
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (one.strip() for one in part.partition("="))
        if name not in names or name in found:
            raise ValueError(
                f"{part.strip()!r}: allowed, once each, are {', '.join(f'{one}=seconds' for one in names)}"
            )
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = 0.0
        if not 0 < found[name] < float("inf"):
            raise ValueError(f"{part.strip()!r}: {name} takes seconds above 0, for example {name}=0.5")
    return Objectives(**found)


def missed(record: Record, objectives: Objectives) -> dict[str, bool | None]:
    """For each objective about this request: was it missed? None: we stopped it before that was known."""
    verdicts: dict[str, bool | None] = {}
    measured = {
        "ttft": metrics.ttft(record), "ttfo": metrics.ttfo(record), "tpot": metrics.tpot(record),
        "e2e": metrics.e2e(record),
    }  # fmt: skip
    for name, limit in limits(objectives).items():
        value = measured[name]
        if name != "e2e" and metrics.textless(record):
            continue
        if record.outcome is Outcome.CANCELLED:
            waited = metrics.e2e(record) if value is None or name == "e2e" else value
            known = value is not None and name not in {"e2e", "tpot"}
            over = waited > limit and not (name == "tpot" and value is None)
            verdicts[name] = True if over else (False if known else None)
        elif record.outcome is Outcome.OK:
            # An answer of one piece has no time per token; one without text has no first token.
            verdicts[name] = name != "tpot" if value is None else value > limit
        else:
            verdicts[name] = True
    return verdicts


def misses(records: Iterable[Record], objectives: Objectives) -> tuple[int, dict[str, int]]:
    """(how many requests count, misses by objective).

    What no objective is about does not count, nor what we stopped before it was known whether it missed any.
    """
    counted, total = 0, dict.fromkeys(limits(objectives), 0)
    for record in records:
        verdicts = missed(record, objectives)
        unknown = None in verdicts.values() and True not in verdicts.values()
        if unknown or not metrics.judged(record, objectives):
            continue
        counted += 1
        for name, verdict in verdicts.items():
            total[name] += verdict is True
    return counted, total
