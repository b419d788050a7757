"""What is known of one request when it is over: the one thing that clients write and everything else reads."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum


def _times() -> array[int]:
    return array("q")


class Outcome(StrEnum):
    """How a request ended."""

    OK = "ok"
    LIMIT = "limit"
    """Refused with 429: a limit was hit. Never a latency."""
    TRUNCATED = "truncated"
    """The stream stopped without its end mark."""
    ERROR = "error"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    """We stopped it ourselves, as at the end of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One request. Moments are `time.monotonic_ns()` of this machine, None for never."""

    scenario: str
    model: str
    session: int
    turn: int
    worker: int
    intended_ns: int
    """When the schedule wanted it to start: what latency is counted from."""
    sent_ns: int
    connect_ns: int | None = None
    """How long the TCP connection took; None on a warm one."""
    tls_ns: int | None = None
    """How long the TLS handshake took; None on a warm connection and without TLS."""
    headers_ns: int | None = None
    first_ns: int | None = None
    """The first piece with text, in any channel (reasoning too)."""
    visible_ns: int | None = None
    """The first piece of the visible answer."""
    last_ns: int | None = None
    """The last piece with text."""
    done_ns: int
    """The end of the answer, however it ended."""
    pieces_ns: array[int] = field(default_factory=_times)
    """Type code 'q': the arrival of each piece with text."""
    pieces_chars: array[int] = field(default_factory=_times)
    """Type code 'q': how long each piece was."""
    coalesced: int = 0
    """Pieces that share their arrival with the one before."""
    asked_tokens: int | None = None
    input_tokens: int | None = None
    """By the server's usage."""
    cached_tokens: int | None = None
    """Of those of the prompt, as the server says; None: it does not."""
    output_tokens: int | None = None
    """By the server's usage."""
    outcome: Outcome
    status: int | None = None
    error: str = ""


def in_order(records: Iterable[Record]) -> list[Record]:
    """By their intended starts; of two at the same moment always in the same order, whoever reported first."""
    return sorted(records, key=lambda one: (one.intended_ns, one.session, one.turn, one.worker))
