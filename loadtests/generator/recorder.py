"""How the records of many workers come together whole: numbered reports on one side, and who counts them on the other.

A worker ships what has ended about twice a second. Every report has a number, and the last one says that it is the
last: what is missing is known, and a run that lost something says so. Pure; what carries the reports is given.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Protocol

import msgpack

from loadtests.analysis import gates
from loadtests.records import Outcome, Record

MESSAGE: Final = "load-records"
"""What locust calls the message that carries a report."""
BLOCK: Final = 32
"""Records in a report at most: packing more at once would hold up the loop that they were measured on."""
SECOND: Final = 1_000_000_000
NAMES: Final = tuple(one.name for one in fields(Record))
TIMES: Final = frozenset({"pieces_ns", "pieces_chars"})
MOMENTS: Final = ("intended_ns", "sent_ns", "headers_ns", "first_ns", "visible_ns", "last_ns", "done_ns")

Report = dict[str, Any]


class Lag(Protocol):
    """What a probe of the loop has counted."""

    def quantile(self, share: float) -> int:
        """Nanoseconds."""


def pack(records: Sequence[Record]) -> bytes:
    """Records as bytes: MessagePack, their times as they lie in memory (8 bytes each, little-endian)."""
    rows = [
        [value.tobytes() if isinstance(value := getattr(one, name), array) else value for name in NAMES]
        for one in records
    ]
    packed: bytes = msgpack.packb(rows)
    return packed


def unpack(data: bytes) -> list[Record]:
    """The records again, to the bit."""
    found = []
    for row in msgpack.unpackb(data):
        values = dict(zip(NAMES, row, strict=True))
        for name in TIMES:
            values[name] = array("q", values[name])
        found.append(Record(**values | {"outcome": Outcome(values["outcome"])}))
    return found


def shifted(record: Record, by_ns: int) -> Record:
    """The record of a clock that is so far ahead, by ours. Durations stay."""
    moments: dict[str, Any] = {name: None if (at := getattr(record, name)) is None else at - by_ns for name in MOMENTS}
    return replace(record, **moments, pieces_ns=array("q", (at - by_ns for at in record.pieces_ns)))


class Recorder:
    """A worker's side: takes each record as it ends, ships them in numbered reports, and measures the worker itself.

    Args:
        run: of which load the reports are; reports of another are not counted.
        worker: its number, 0 and up.
        send: takes a report to the collector, in order.
        lags: what the probe of the worker's loop counts.
        oldest: the intended start of the oldest request that still runs, None when unknown.
        in_flight: how many requests are under way.
    """

    def __init__(
        self,
        run: str,
        worker: int,
        send: Callable[[Report], None],
        lags: Lag | None = None,
        oldest: Callable[[], int | None] = lambda: None,
        in_flight: Callable[[], int] = lambda: 0,
    ) -> None:
        self._run, self._worker, self._send, self._lags, self._oldest = run, worker, send, lags, oldest
        self._in_flight = in_flight
        self._waiting: list[Record] = []
        self._number = 0
        self._trouble = ""
        self.restart()

    def restart(self) -> None:
        """From this moment on the worker's own time counts; what was before was preparation."""
        self._began = time.monotonic_ns()
        self._cpu = time.process_time_ns()
        self._ahead = time.time_ns() - self._began

    def keep(self, record: Record) -> None:
        """Takes a record. Never blocks: whoever ends a request may be about to be killed."""
        self._waiting.append(record)

    def failed(self, why: str) -> None:
        """The load cannot go on. The first reason is the one that is told."""
        self._trouble = self._trouble or why

    def ship(self, pause: Callable[[], None] = lambda: None) -> None:
        """Sends what there is, in reports of a bearable size, with a pause behind each."""
        while True:
            part, self._waiting = self._waiting[:BLOCK], self._waiting[BLOCK:]
            oldest = self._oldest()  # before anything else can end
            self._report(part, oldest=0 if self._waiting or oldest is None else oldest, last=False)
            if not self._waiting:
                return
            pause()

    def finish(self) -> None:
        """Sends the rest, and that it was all."""
        if self._waiting:
            self.ship()
        self._report([], oldest=0, last=True)

    def _report(self, part: Sequence[Record], *, oldest: int, last: bool) -> None:
        now = time.monotonic_ns()
        self._send({
            "run": self._run, "worker": self._worker, "number": self._number, "last": last, "trouble": self._trouble,
            "records": pack(part), "oldest_ns": oldest, "in_flight": self._in_flight(),
            "lag_ns": None if self._lags is None else self._lags.quantile(0.99),
            "cpu": (time.process_time_ns() - self._cpu) / max(now - self._began, 1),
            "clock_ns": time.time_ns() - now - self._ahead,
        })  # fmt: skip
        self._number += 1


@dataclass(slots=True)
class _Worker:
    """What is known of a worker."""

    numbers: set[int] = field(default_factory=set)
    sent: int | None = None
    """How many reports it says it sent; None: it has not said its last."""
    oldest_ns: int | None = None
    lag_ns: int | None = None
    cpu: float = 0.0
    clock_ns: int = 0
    in_flight: int = 0


class Collector:
    """The other side: every record once, and what never arrived.

    Args:
        run: the name of the load.
        workers: the numbers of those that will send.
        ahead_ns: by how much the clocks of some are ahead of ours.
    """

    def __init__(self, run: str, workers: Iterable[int] = (), ahead_ns: Mapping[int, int] | None = None) -> None:
        self._run = run
        self._ahead_ns = ahead_ns or {}
        self._workers = {number: _Worker() for number in workers}
        self.records: list[Record] = []
        """In the order in which they arrived."""
        self.trouble = ""
        """Why a worker cannot go on; empty while all can."""

    def take(self, report: Mapping[str, Any]) -> None:
        """Counts a report; one that came before, or is of another load, is left alone."""
        if report["run"] != self._run:
            return
        worker = self._workers.setdefault(report["worker"], _Worker())
        if report["number"] in worker.numbers:
            return
        worker.numbers.add(report["number"])
        if report["last"]:
            worker.sent = report["number"] + 1
        records, ahead = unpack(report["records"]), self._ahead_ns.get(report["worker"], 0)
        self.records += [shifted(one, ahead) for one in records] if ahead else records
        self.trouble = self.trouble or report["trouble"]
        worker.oldest_ns = report["oldest_ns"] - ahead if report["oldest_ns"] else worker.oldest_ns
        worker.lag_ns, worker.cpu, worker.clock_ns = report["lag_ns"], report["cpu"], report["clock_ns"]
        worker.in_flight = report["in_flight"]

    @property
    def complete(self) -> bool:
        """Every worker has said that it sent all."""
        return bool(self._workers) and all(one.sent is not None for one in self._workers.values())

    @property
    def settled_ns(self) -> int:
        """What was meant to start before this moment has ended and is here (0: not known; of an open loop)."""
        return min((one.oldest_ns or 0 for one in self._workers.values()), default=0)

    @property
    def in_flight(self) -> int:
        """Requests that were under way at the latest report of each worker."""
        return sum(one.in_flight for one in self._workers.values())

    @property
    def dropped(self) -> int:
        """Reports that are known to be missing; a worker that never said its last lost at least that one."""
        return sum(
            (one.sent if one.sent is not None else max(one.numbers, default=-1) + 2) - len(one.numbers)
            for one in self._workers.values()
        )

    def client(self) -> gates.Client:
        """What the workers measured of themselves: the worst of them."""
        every = self._workers.values()
        lags = [one.lag_ns for one in every if one.lag_ns is not None]
        return gates.Client(
            lag=max(lags) / SECOND if lags else None, cpu=max((one.cpu for one in every), default=None),
            dropped=self.dropped, clock=max((abs(one.clock_ns) for one in every), default=0) / SECOND,
        )  # fmt: skip
