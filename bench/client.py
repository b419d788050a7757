"""The load client (tests/support/engine), run as a process of its own, and what it measured."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from tests.support import tools

CREDENTIAL: Final = "BENCH_CREDENTIAL"  # a variable of the client's environment: keys are in no command line
PATIENCE: Final = 60  # seconds beyond the time of a run


@dataclass(frozen=True)
class Target:
    """Where a client sends its requests, and as whom."""

    url: str
    key: str = ""
    basic: str = ""
    """name:password"""
    ca: str = ""
    connect: str = ""
    """`host:port` to connect to, where the name in the URL does not lead there."""
    under: tuple[str, ...] = ()
    """A command that runs the client, as `ip netns exec …`."""


@dataclass(frozen=True)
class Quantiles:
    """Of some times, in milliseconds; 0 where there were none."""

    n: int = 0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    max: float = 0.0


@dataclass(frozen=True)
class Measured:
    """One run of the client."""

    requests: int
    ok: int
    statuses: dict[str, int]
    errors: dict[str, int]
    requests_per_second: float
    sent_per_second: float
    tokens: int
    tokens_per_second: float
    wrong_counts: int
    """Answers that told another number of tokens than they had."""
    ttft: Quantiles
    request: Quantiles
    lag: Quantiles
    """From when the engine sent a chunk to when the client had it."""
    cpu_seconds: float

    @property
    def clean(self) -> bool:
        """Every request was answered with 200 and to its end."""
        return self.ok == self.requests


class Client(AbstractContextManager["Client"]):
    """A client that runs until its time is over; `result` waits for that. Left early, it is ended."""

    def __init__(
        self, target: Target, *, streams: int, seconds: float, warm: float = 0.5, stagger: float = 0.0,
        body: dict[str, Any] | None = None, model: str = "default", tokens: int = 0, rate: float = 0.0,
        usage: bool = True, method: str = "POST", detail: Path | None = None,
    ) -> None:  # fmt: skip
        words: Sequence[object] = [
            *target.under, tools.engine(), "load", "-url", target.url, "-streams", streams, "-seconds", seconds,
            "-warm", warm, "-stagger", stagger, "-model", model, "-tokens", tokens, "-rate", rate, "-method", method,
            f"-usage={str(usage).lower()}",
            *(["-ca", target.ca] if target.ca else []),
            *(["-connect", target.connect] if target.connect else []),
            *(["-key-in", CREDENTIAL] if target.key else ["-basic-in", CREDENTIAL] if target.basic else []),
            *(["-body", json.dumps(body)] if body else []),
            *(["-detail", detail] if detail else []),
        ]  # fmt: skip
        self._limit = warm + stagger + seconds + PATIENCE
        self._process = subprocess.Popen(
            [str(word) for word in words],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, CREDENTIAL: target.key or target.basic},
        )  # fmt: skip

    def result(self) -> Measured:
        """Raises RuntimeError with the client's own words when it failed."""
        out, err = self._process.communicate(timeout=self._limit)
        if self._process.returncode:
            raise RuntimeError(f"the load client failed: {err.strip()}")
        return read(json.loads(out))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def load(target: Target, **how: Any) -> Measured:
    """One run, waited for; see Client."""
    with Client(target, **how) as client:
        return client.result()


def read(told: dict[str, Any]) -> Measured:
    """What the client printed."""
    made: dict[str, Any] = {
        field.name: told[field.name] for field in fields(Measured) if field.name not in {"ttft", "request", "lag"}
    }
    made |= {name: Quantiles(**told[f"{name}_ms"]) for name in ("ttft", "request", "lag")}
    return Measured(**made)
