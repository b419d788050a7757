"""The one fake engine, running on this machine (tests/support/engine/README.md says what it can do)."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Final

import requests

from tests.support import tools

END: Final = 10.0  # seconds


@dataclass(frozen=True)
class Seen:
    """One request as it came off the wire. Moments are nanoseconds of `time.monotonic_ns`, 0 for never."""

    id: int
    connection: int
    peer: str
    protocol: str
    at: int
    head: str
    """Every byte up to and with the blank line, as Latin-1."""
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    """In their order and spelling, doubles included."""
    handled: bool
    """False: the engine refused to read it."""
    body_length: int
    body_sha256: str
    body: str
    model: str
    status: int
    tokens: int
    first_at: int
    ended_at: int
    gone_at: int
    """When the client went away before the end of the answer."""
    told: tuple[int, ...] = ()
    """When each write with text was sent."""
    after: str = ""
    """The first bytes behind an upgrade."""

    def values(self, name: str) -> list[str]:
        """All values of a header, whatever its case."""
        return [value for one, value in self.headers if one.lower() == name.lower()]

    @property
    def json(self) -> Any:
        """The body. Raises ValueError when it is not JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Engine:
    """A running fake engine."""

    address: str
    """host:port"""
    control: str
    pid: int

    def seen(self, since: int = 0) -> list[Seen]:
        """The requests that came, the oldest first; `since`: only those with a higher id."""
        answer = self._control("GET", f"/requests?since={since}")
        return [
            Seen(
                **one | {"headers": tuple((n, v) for n, v in one["headers"] or ()), "told": tuple(one.get("told", ()))}
            )
            for one in answer
        ]

    @property
    def last(self) -> Seen:
        """The newest request. Raises IndexError when there was none."""
        return self.seen()[-1]

    def play(self, model: str = "", **scenario: Any) -> None:
        """From now on answers requests for a model like this; without one, for all that have no scenario of their own.

        What is not named is as it was at the start.
        """
        self._control("PUT", f"/scenario?model={model}", scenario)

    def next(self, *scenarios: dict[str, Any]) -> None:
        """Answers the next requests like this, one each, whichever model they are for."""
        self._control("POST", "/next", list(scenarios))

    def freeze(self, after_ms: float, for_ms: float) -> None:
        """Stops all answers for a while; what was due meanwhile comes at its end."""
        self._control("POST", "/freeze", {"after_ms": after_ms, "for_ms": for_ms})

    def forget(self) -> None:
        """Empties the record; the scenarios stay."""
        self._control("DELETE", "/requests")

    def reset(self) -> None:
        """As after the start."""
        self._control("POST", "/reset")

    @property
    def state(self) -> dict[str, int]:
        """`in_flight`, `most_in_flight` since the reset, `requests` ever, and `now` on its clock."""
        answer: dict[str, int] = self._control("GET", "/state")
        return answer

    def _control(self, method: str, path: str, body: Any = None) -> Any:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(method, f"http://{self.control}{path}", json=body, timeout=30)
        if not answer.ok:
            raise ValueError(f"{method} {path}: {answer.text.strip()}")
        return answer.json()


@contextmanager
def engine(
    models: Sequence[str] = ("qwen3:0.6b", "all-minilm"), *flags: str, under: Sequence[str] = (), **scenario: Any
) -> Iterator[Engine]:
    """Starts the fake engine on a free port. `under`: a command that runs it, as `ip netns exec …`."""
    command = [
        *under, str(tools.engine()), "serve", "-until-eof", "-models", ",".join(models),
        "-scenario", json.dumps(scenario), *flags,
    ]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            first = process.stdout.readline()
            assert first, f"the fake engine did not start: {' '.join(command)}"
            told = json.loads(first)
            yield Engine(**{field.name: told[field.name] for field in fields(Engine)})
        finally:
            process.stdin.close()
            process.terminate()
            process.wait(timeout=END)


@contextmanager
def web_application() -> Iterator[Engine]:
    """The same recorder as a web application: 200 at any address, sockets that echo, as in front of Open WebUI."""
    with engine((), "-answer-all") as one:
        yield one


def told_at(text: str) -> list[int]:
    """The moments that stand in generated text: when each chunk was sent."""
    return [int(word.rpartition("@")[2]) for word in text.split(" ") if "@" in word]


def eventually_seen(one: Engine, count: int, seconds: float = 5) -> list[Seen]:
    """All requests once there are so many. Raises AssertionError with what there was when the time is over."""
    deadline = time.monotonic() + seconds
    while len(seen := one.seen()) < count:
        assert time.monotonic() < deadline, f"{len(seen)} of {count} requests within {seconds} s: {seen}"
        time.sleep(0.01)
    return seen
