"""Asks the same directly and through the gateway, in pairs: what the gateway adds.

`python -m loadtests.compare.pairs asked.json tax.json` reads what to ask from the one file, the key from
OPENAI_API_KEY, and writes what it found to the other; progress goes to standard error. It may run in the gateway's own
network namespace: both ways then begin at one place.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import gevent
import numpy as np
from pydantic import ValidationError, field_validator

from loadtests.analysis import metrics
from loadtests.client.probe import LoopProbe
from loadtests.client.stream import Client, Request
from loadtests.compare import tax
from loadtests.compare.tax import Pair
from loadtests.records import Outcome, Record
from loadtests.results.schema import Handshake, Part, Streams, Tax

PATH: Final = "/v1/chat/completions"
ASK: Final = "Write the numbers from one to five hundred as words, and nothing else."
TOKENS: Final = 32
"""Asked of each answer: enough for gaps, few enough for many pairs."""
STREAMS: Final = (1, 4)
PAIRS: Final = 60
SECONDS: Final = 60.0
CONNECTIONS: Final = 12
PATIENCE: Final = 120.0


class NoAnswer(Exception):
    """One of the two ways does not answer; the message says which, and what came instead."""


class Way(Part):
    """One of the two ways to the engine."""

    url: str
    model: str
    """As this way calls it."""
    at: str = ""
    """Where to connect, host:port, where the URL's mean another place from here."""
    ca: str = ""
    """A file with the authority to trust; empty: the system's."""

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        address = urlsplit(url)
        if address.scheme not in {"http", "https"} or not address.hostname:
            raise ValueError(f"{url!r} is no address: http://host[:port] or https://host[:port]")
        return url.rstrip("/")

    def client(self, key: str = "") -> Client:
        """A client of its own."""
        ca = Path(self.ca) if self.ca else None
        return Client(self.url, key=key, ca=ca, at=self.at, total_s=PATIENCE, idle_s=PATIENCE)


class Asked(Part):
    """A measurement."""

    direct: Way
    through: Way
    streams: tuple[int, ...] = STREAMS
    pairs: int = PAIRS
    """At each number of streams, all together."""
    seconds: float = SECONDS
    """No new pair begins later than this, at each number of streams."""
    tokens: int = TOKENS
    seed: int = 1
    router: str = "not present"
    process: int = 0
    """The gateway's, as this machine numbers it; 0: its processor time is not known."""


def measure(asked: Asked, key: str, told: Callable[[str], None] = lambda _: None) -> Tax:
    """Asks, and compares; `key` is for the gateway. Raises NoAnswer before anything is measured."""
    told(f"gateway tax: {asked.direct.url} directly, and through {asked.through.url}...")
    draws = np.random.default_rng(asked.seed)
    with asked.direct.client() as direct, asked.through.client(key) as through, LoopProbe() as probe:
        answers("directly", asked.direct, direct, asked)
        took = answers("through the gateway", asked.through, through, asked)
        levels = []
        for streams in asked.streams:
            for client in (direct, through):
                client.preconnect(streams)
            before = processor(asked.process)
            made = probes(asked, direct, through, streams, min(took, 1.0), draws)
            after = processor(asked.process)
            cpu = None if before is None or after is None else after - before
            levels.append(one := tax.level(streams, made, cpu))
            told(f"gateway tax: {_sentence(one)}")
        lag = probe.lags.quantile(0.99) / metrics.SECOND
    return Tax(
        direct=asked.direct.url, through=asked.through.url, model=asked.through.model, router=asked.router,
        seed=asked.seed, tokens=asked.tokens, levels=levels, handshake=handshake(asked, key),
        caution=tax.caution(levels, lag),
    )  # fmt: skip


def answers(which: str, way: Way, client: Client, asked: Asked) -> float:
    """How long an answer takes once the model is loaded (seconds). Raises NoAnswer."""
    for _ in range(2):
        record = client.ask(request(way, asked, 0, 0)).record
        if record.outcome is not Outcome.OK:
            said = record.error or record.status
            raise NoAnswer(f"{which}, {way.url} gave no answer of {way.model}: {record.outcome} ({said})")
    return metrics.wire_e2e(record)


def request(way: Way, asked: Asked, number: int, tag: int) -> Request:
    """The same for both of a pair but for a word at the very front: no cached prompt helps whichever comes second."""
    body = {
        "model": way.model, "messages": [{"role": "user", "content": f"({tag:08x}) {ASK}"}],
        "max_tokens": asked.tokens, "temperature": 0, "seed": number, "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    return Request(
        path=PATH, body=json.dumps(body).encode(), model=way.model, asked_tokens=asked.tokens,
        turn=number,
    )  # fmt: skip


def probes(
    asked: Asked, direct: Client, through: Client, streams: int, stagger: float, draws: np.random.Generator
) -> list[Pair]:
    """The pairs of so many streams, each of which asks one way and then the other, in random order."""
    ends = time.monotonic() + asked.seconds
    share = [asked.pairs // streams + (number < asked.pairs % streams) for number in range(streams)]

    ways = [("direct", asked.direct, direct), ("through", asked.through, through)]

    def stream(number: int, own: np.random.Generator) -> list[Pair]:
        gevent.sleep(own.uniform(0, stagger) if streams > 1 else 0)
        made: list[Pair] = []
        while len(made) < share[number] and time.monotonic() < ends:
            tags = own.integers(0, 1 << 32, 2)
            got: dict[str, Record] = {}
            for turn in own.permutation(2):
                name, way, client = ways[turn]
                got[name] = client.ask(request(way, asked, len(made), int(tags[turn]))).record
            made.append(Pair(**got, stream=number))
        return made

    running = [gevent.spawn(stream, number, own) for number, own in enumerate(draws.spawn(streams))]
    gevent.joinall(running, raise_error=True)
    return [pair for one in running for pair in one.get()]


def handshake(asked: Asked, key: str) -> Handshake | None:
    """New connections, one after the other: what the first request of a client pays once."""
    records: list[list[Record]] = [[], []]
    for _ in range(CONNECTIONS):
        for kept, way, own in zip(records, (asked.direct, asked.through), ("", key), strict=True):
            with way.client(own) as fresh:
                kept.append(fresh.ask(Request(path="/v1/models", method="GET")).record)
    return tax.handshake(*records)


def processor(process: int) -> float | None:
    """Seconds of processor time of a process so far, by the scheduler's own count; None where nobody can tell."""
    try:
        tasks = [(task / "schedstat").read_text() for task in Path(f"/proc/{process}/task").iterdir()]
        return sum(int(one.split()[0]) for one in tasks) / metrics.SECOND
    except OSError:
        return None


def _sentence(one: Streams) -> str:
    first = next((added for added in one.added if added.metric == "ttft"), None)
    if first is None:
        return f"{one.streams} at once: too few pairs came whole ({one.pairs} of {one.pairs + one.failed})"
    return (
        f"{one.streams} at once, {first.pairs} pairs: {1000 * first.added:.2f} ms "
        f"({1000 * first.low:.2f} to {1000 * first.high:.2f}) to the first token"
    )


def parse(text: str) -> Asked:
    """A measurement from JSON. Raises ValueError with what is wrong."""
    try:
        return Asked.model_validate_json(text)
    except ValidationError as wrong:
        first = wrong.errors(include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        raise ValueError(f"what to ask is not told as it should be: {place}: {first['msg']}") from None


def main(arguments: Sequence[str]) -> int:
    """0: measured; 1: one of the ways does not answer; 2: what to ask makes no sense."""
    asked, out = map(Path, arguments)
    try:
        found = measure(
            parse(asked.read_text()),
            os.environ.get("OPENAI_API_KEY", ""),
            lambda line: print(line, file=sys.stderr, flush=True),
        )
        out.write_text(found.model_dump_json(indent=1))
    except ValueError as wrong:
        print(f"error: {wrong}", file=sys.stderr)
        return 2
    except (NoAnswer, OSError) as wrong:
        print(f"error: the gateway's tax was not measured: {wrong}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
