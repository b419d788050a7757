"""Made-up records of requests, for what reads them."""

from __future__ import annotations

from array import array
from typing import Any, Final

import numpy as np

from loadtests.records import Outcome, Record

MS: Final = 1_000_000


def record(
    intended: float = 0.0,
    *,
    ttft: float = 200.0,
    itl: float = 10.0,
    tokens: int = 20,
    late: float = 0.0,
    outcome: Outcome = Outcome.OK,
    **changes: Any,
) -> Record:
    """A request that was meant to start `intended` ms after the beginning; all times in ms."""
    start = round(intended * MS)
    pieces = array("q", (start + round((ttft + k * itl) * MS) for k in range(tokens)))
    done = pieces[-1] if tokens else start + round(ttft * MS)
    return Record(
        **{
            "scenario": "chat", "model": "small", "session": 0, "turn": 0, "worker": 0, "intended_ns": start,
            "sent_ns": start + round(late * MS), "headers_ns": start + MS, "first_ns": pieces[0] if tokens else None,
            "visible_ns": pieces[0] if tokens else None, "last_ns": pieces[-1] if tokens else None, "done_ns": done,
            "pieces_ns": pieces, "pieces_chars": array("q", [6] * tokens), "asked_tokens": tokens, "input_tokens": 12,
            "cached_tokens": 0, "output_tokens": tokens, "outcome": outcome, "status": 200, **changes,
        }
    )  # fmt: skip


def failed(intended: float = 0.0, outcome: Outcome = Outcome.ERROR, after: float = 5.0, **changes: Any) -> Record:
    """A request that got nothing."""
    return record(
        intended, ttft=after, tokens=0, outcome=outcome, output_tokens=None, asked_tokens=20, status=500, **changes
    )


def run(n: int = 400, seed: int = 1, rate: float = 20.0, **changes: Any) -> list[Record]:
    """Poisson arrivals at so many a second, answers of 390 ms or so, nothing wrong with them."""
    rng = np.random.default_rng(seed)
    moments = np.cumsum(rng.exponential(1000 / rate, size=n))
    waits = rng.gamma(20, 10, size=n)
    return [
        record(float(at), **{"ttft": float(wait), "session": k % 37, "turn": k // 37, **changes})
        for k, (at, wait) in enumerate(zip(moments, waits, strict=True))
    ]
