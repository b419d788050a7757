"""What the streaming client measured, beside what the fake engine knows: it writes its own moments into the text."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import gevent
import numpy as np

from loadtests.analysis.metrics import Floats, gaps
from loadtests.client.probe import LoopProbe
from loadtests.client.stream import Client, Reply, Request
from tests.support.engine import Engine, told_at

QUIET_S = 0.002
QUIET_SHARE = 0.003


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Errors in seconds; arrays have one value for each request, or for each piece."""

    replies: tuple[Reply, ...]
    ttft: Floats
    """Measured minus true: the time from the engine's reading of the request to its sending of the first token."""
    receive: Floats
    """Stamp minus sending, of each piece."""
    measured_gaps: Floats
    true_gaps: Floats
    events: int
    seconds: float
    cpu: float
    """Seconds of this process."""
    loop_lag: float
    """99th percentile."""
    stalled: float
    """The share of the time that the loop stood still."""

    @property
    def quiet(self) -> bool:
        """The machine let the client's loop run when it wanted: only then is timing its own doing."""
        return self.loop_lag <= QUIET_S and self.stalled <= QUIET_SHARE

    def gap_error(self, share: float) -> float:
        """Relative error of this percentile of the pooled inter-token latencies."""
        true = float(np.quantile(self.true_gaps, share))
        return abs(float(np.quantile(self.measured_gaps, share)) / true - 1)


def asking(number: int, model: str = "qwen3:0.6b") -> Request:
    """A streamed chat that can be found again in the engine's record."""
    body = {
        "model": model, "messages": [{"role": "user", "content": "one two"}], "stream": True, "user": str(number),
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    return Request(path="/v1/chat/completions", body=json.dumps(body).encode(), model=model, session=number)


def measure(one: Engine, client: Client, streams: int, apart_s: float = 0.003) -> Truth:
    """Runs so many streams at once over warm connections, by the scenario that is set. All must come whole."""
    client.preconnect(streams)
    one.forget()
    requests = [asking(number) for number in range(streams)]
    with LoopProbe() as probe:
        start, cpu = time.monotonic(), time.process_time()
        asked = []
        for request in requests:
            asked.append(gevent.spawn(client.ask, request))
            gevent.sleep(apart_s)
        gevent.joinall(asked, raise_error=True)
        cpu, seconds = time.process_time() - cpu, time.monotonic() - start
    lag, stalled = probe.lags.quantile(0.99) / 1e9, probe.stalled_ns / 1e9 / seconds
    return compare(one, [a.get() for a in asked], cpu=cpu, seconds=seconds, loop_lag=lag, stalled=stalled)


def compare(
    one: Engine, replies: Sequence[Reply], *, cpu: float, seconds: float, loop_lag: float, stalled: float
) -> Truth:
    """Lays the engine's own moments beside the stamps. Raises AssertionError when a token is missing."""
    came = {seen.json["user"]: seen for seen in one.seen()}
    ttft, receive, measured, true = [], [], [], []
    for reply in replies:
        record, told = reply.record, told_at(reply.answer.text)
        assert record.outcome == "ok", (record.outcome, record.error)
        assert len(told) == len(record.pieces_ns) == record.output_tokens, "every token, once"
        stamps = np.asarray(record.pieces_ns, dtype=np.int64)
        ttft.append((stamps[0] - record.sent_ns) - (told[0] - came[str(record.session)].at))
        receive.append(stamps - np.asarray(told, dtype=np.int64))
        measured.append(gaps(record))
        true.append(np.diff(np.asarray(told, dtype=np.int64)) / 1e9)
    return Truth(
        replies=tuple(replies), ttft=np.asarray(ttft) / 1e9, receive=np.concatenate(receive) / 1e9,
        measured_gaps=np.concatenate(measured), true_gaps=np.concatenate(true),
        events=sum(len(r.record.pieces_ns) for r in replies), seconds=seconds, cpu=cpu, loop_lag=loop_lag,
        stalled=stalled,
    )  # fmt: skip
