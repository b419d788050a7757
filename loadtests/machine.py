"""The server's side of a run: the gateway's own count of tokens, what Prometheus keeps, whether a model is in memory.

`make load` says in LOAD_SERVER how to ask, as commands; what cannot be asked is not known, which is no error.
LOAD_FACTS names a file that says what hardware, versions and configuration are.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import requests

from loadtests.analysis.metrics import SECOND
from loadtests.records import Record
from loadtests.results.figures import span
from loadtests.results.schema import POWER, Series, rounded
from loadtests.target import Target

SERVER: Final = "LOAD_SERVER"
FACTS: Final = "LOAD_FACTS"
PARTS: Final = ("hardware", "versions", "configuration")
POINTS: Final = 120
LIMIT: Final = 10.0  # seconds for one question
SETTLED: Final = 5.0  # seconds for the gateway to book answers that a client has given up
PAUSE: Final = 0.5
COUNTER: Final = re.compile(r"^gateway_llm_tokens_total\{([^}]*)\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Query:
    """A figure of the report, by whichever exporter there is."""

    name: str
    unit: str
    promql: str
    """Alternatives in one expression: NVIDIA's DCGM exporter, and nvidia_gpu_exporter."""


QUERIES: Final = (
    Query("GPU memory", "GiB", "sum(DCGM_FI_DEV_FB_USED) / 1024 or sum(nvidia_smi_memory_used_bytes) / 2^30"),
    Query(POWER, "W", "sum(DCGM_FI_DEV_POWER_USAGE) or sum(nvidia_smi_power_draw_watts)"),
    Query("GPU load", "%", "avg(DCGM_FI_DEV_GPU_UTIL) or 100 * avg(nvidia_smi_utilization_gpu_ratio)"),
    Query("processor load", "%", '100 - 100 * avg(rate(node_cpu_seconds_total{mode="idle"}[1m]))'),
    Query("requests at the engines", "", "sum(gateway_engine_in_flight)"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """How to ask; what is empty cannot be asked."""

    consumer: str = ""
    """Whose tokens are counted."""
    metrics: tuple[str, ...] = ()
    """Prints the gateway's metrics."""
    prometheus: str | tuple[str, ...] = ()
    """Where Prometheus is, or how `promtool query range` is called there; times and query are added at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What the gateway has counted for the consumer since it was started."""

    input: int
    output: int

    def since(self, before: Tokens) -> Tokens | None:
        """What came in between; None where the gateway was started again, which counts from 0."""
        if self.input < before.input or self.output < before.output:
            return None
        return Tokens(input=self.input - before.input, output=self.output - before.output)


def server(environment: Mapping[str, str]) -> Server:
    """What LOAD_SERVER says; nothing known without it.

    Raises:
        ValueError: it is not of its form.
    """
    text = environment.get(SERVER, "")
    if not text:
        return Server()
    try:
        said = json.loads(text)
        where = said.get("prometheus") or ()
        return Server(
            consumer=str(said.get("consumer") or ""),
            metrics=tuple(map(str, said.get("metrics") or ())),
            prometheus=where if isinstance(where, str) else tuple(map(str, where)),
        )
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{SERVER} is not what `make load` writes: {error}") from error


def facts(environment: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Hardware, versions and configuration as LOAD_FACTS has them; empty without it.

    Raises:
        ValueError: the file cannot be read or is not of its form.
    """
    path, said = environment.get(FACTS, ""), {}
    if path:
        try:
            said = json.loads(Path(path).read_text(encoding="utf-8"))
            return {part: {str(n): str(v) for n, v in (said.get(part) or {}).items()} for part in PARTS}
        except (OSError, ValueError, AttributeError) as error:
            raise ValueError(f"{FACTS}={path}: not a file that `make load` writes: {error}") from error
    return {part: {} for part in PARTS}


def counted(source: Server, *, settled: bool = False) -> Tokens | None:
    """The tokens of all of the consumer's requests, by the gateway; None where it cannot be asked.

    `settled`: looks again until two looks agree, as what the client has given up is booked a little later.

    Raises:
        ValueError: the gateway does not answer; the message says what was tried.
    """
    if not source.metrics:
        return None
    found, until = _counted(source), time.monotonic() + SETTLED
    while settled:
        time.sleep(PAUSE)
        last, found = found, _counted(source)
        settled = found != last and time.monotonic() < until
    return found


def _counted(source: Server) -> Tokens:
    text, sums = _printed(source.metrics, "the gateway's metrics"), {"input": 0.0, "output": 0.0}
    if "gateway_consumers" not in text:
        raise ValueError(f"the gateway's metrics could not be read: {text.strip()[:200] or 'it printed nothing'}")
    for labels, value in COUNTER.findall(text):
        said = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if said.get("consumer") == source.consumer and said.get("direction") in sums:
            sums[said["direction"]] += float(value)
    return Tokens(input=round(sums["input"]), output=round(sums["output"]))


def during(source: Server, records: Sequence[Record]) -> list[Series]:
    """The figures while these requests ran, counted from the first intended start as everything in a result is.

    Raises:
        ValueError: Prometheus cannot be reached or refuses; the message says where and why.
    """
    if not records:
        return []
    apart = time.time() - time.monotonic()
    low, high = span(records)
    return ask(source, low / SECOND + apart, high / SECOND + apart)


def ask(source: Server, start: float, end: float, queries: Sequence[Query] = QUERIES) -> list[Series]:
    """The figures between two moments (seconds since 1970), without those that Prometheus does not have.

    Raises:
        ValueError: Prometheus cannot be reached or refuses; the message says where and why.
    """
    if not source.prometheus:
        return []
    step = max(1.0, (end - start) / POINTS)
    found = []
    for query in queries:
        between = {"start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:.3f}"}
        if isinstance(source.prometheus, str):
            rows = _by_address(source.prometheus, query, between)
        else:
            words = [f"--{name}={value}" for name, value in (between | {"step": f"{step:.3f}s"}).items()]
            rows = _json(_printed((*source.prometheus, query.promql, *words), query.name))
        if points := read(rows, start):
            found.append(Series(name=query.name, unit=query.unit, points=points))
    return found


def _by_address(url: str, query: Query, between: Mapping[str, str]) -> Any:
    try:
        answer = requests.get(
            f"{url.rstrip('/')}/api/v1/query_range", params={"query": query.promql, **between}, timeout=LIMIT
        )
        answer.raise_for_status()
        content = answer.json()
    except (requests.RequestException, ValueError) as error:
        raise ValueError(f"Prometheus at {url} did not say anything about {query.name}: {error}") from error
    try:
        return content["data"]["result"]
    except (KeyError, TypeError) as error:
        raise _no_answer(content) from error


def _printed(command: Sequence[str], what: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"{what} could not be read: {error}") from error
    if done.returncode:
        raise ValueError(f"{what} could not be read: {done.stderr.strip()[:200] or f'exit status {done.returncode}'}")
    return done.stdout


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _no_answer(content: Any) -> ValueError:
    return ValueError(f"this is no answer of Prometheus: {str(content)[:200]}")


def read(rows: Any, start: float) -> list[tuple[float, float]]:
    """(seconds since the start, value) of the first series; values that are no number are left out.

    Raises:
        ValueError: these are no series of Prometheus.
    """
    if not isinstance(rows, list):
        raise _no_answer(rows)
    try:
        values = rows[0]["values"] if rows else []
        pairs = [(float(at) - start, float(value)) for at, value in values]
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise _no_answer(rows) from error
    return [(round(at, 3), rounded(value)) for at, value in pairs if abs(value) < float("inf")]


def resident(target: Target, model: str) -> bool | None:
    """Whether a model, by any of its names, is in an engine's memory now; None where this key may not ask.

    It asks Ollama's own lists through the gateway, which no other engine has.
    """
    loaded, names = _listed(target, "ps"), _listed(target, "tags")
    if loaded is None or names is None:
        return None
    digests = {entry.get("digest") for entry in names if entry.get("name") in {model, f"{model}:latest"}}
    if not digests:
        return None
    return any(entry.get("digest") in digests for entry in loaded)


def _listed(target: Target, name: str) -> list[dict[str, Any]] | None:
    with requests.Session() as session:
        session.trust_env = False  # neither a proxy nor a ~/.netrc stands between
        session.verify = str(target.ca) if target.ca else True
        session.headers["Authorization"] = f"Bearer {target.key}"
        try:
            answer = session.get(f"{target.url}/ollama/api/{name}", timeout=LIMIT)
            found = answer.json()["models"] if answer.ok else None
        except (requests.RequestException, ValueError, KeyError, TypeError):
            return None
    return found if isinstance(found, list) else None
