"""The form of a result, with a version: what `result.json` holds.

`python -m loadtests.results.schema` writes its JSON Schema to `loadtests/results.schema.json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

VERSION: Final = 2
SCHEMA: Final = Path(__file__).parents[1] / "results.schema.json"
POWER: Final = "GPU power"
"""The series of what all cards of the host draw, watts."""
EDGE: Final = 2e-6
"""Both files round to the microsecond, each in its own way."""
Figure = Annotated[float, Field(allow_inf_nan=False)]
Metric = Literal["ttft", "itl", "itl_p95", "e2e"]
"""What the gateway's tax is told of."""


def rounded(value: float) -> float:
    """Six significant digits: more would be noise, and differ between machines."""
    return float(f"{value:.6g}")


class Part(BaseModel):
    """Closed and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


# --- loads, and the run over time ------------------------------------------------------------------------------------


class Distribution(Part):
    """A metric over requests, in seconds; percentiles are values that were measured."""

    n: int
    worth: Figure
    """How many independent values these are worth."""
    mean: Figure
    p50: Figure
    p90: Figure
    p95: Figure
    p99: Figure
    most: Figure
    p95_low: Figure | None
    """The 95% interval of p95; None: there is none."""
    p95_high: Figure | None
    p95_why: str = ""
    """Why there is none: too few values, or too short a run; empty where there is one."""


class Spread(Part):
    """Many values, in seconds; they are not independent, and no interval is told."""

    n: int
    p50: Figure
    p95: Figure
    p99: Figure
    most: Figure


class Stream(Part):
    """How the answers came, beside their times."""

    piece_gap: Spread
    """Inter-token latency per piece: each gap between two pieces of an answer, of all answers together."""
    token_gap: Spread
    """Per token: a piece of k tokens after a gap g counts as k tokens that took g / k each."""
    stalled: int
    """Answers that stood still at least once: a gap of five times their own median (and 50 ms), or of a second."""
    together: Figure
    """The share of pieces that came in one read with the one before: their gap is not known, and counts as 0."""
    person_p50: Figure
    """Tokens a second that a person sees once the answer runs: half see more."""
    person_p10: Figure
    """A tenth see less than this."""
    queue: Spread
    """The client's own part: from the intended start to sending, without connecting and TLS."""
    connect: Spread | None
    """Of requests that opened a connection; None: none did."""
    tls: Spread | None


def inside(part: tuple[float, float], moment: float) -> bool:
    """Whether a moment of requests.csv lies in `held` or `window` of a level; all are seconds since the beginning."""
    return part[0] - EDGE <= moment <= part[1] + EDGE


class Level(Part):
    """What was seen at one load."""

    label: str
    load: Figure | None
    """Users or requests a second, as the search counts; None for a whole run."""
    held: tuple[Figure, Figure]
    """From its first request to its last end: seconds since the beginning of the run, as in requests.csv."""
    window: tuple[Figure, Figure]
    """The measured part of it."""
    requests: int
    outcomes: dict[str, int]
    in_flight: Figure
    """On average."""
    requests_per_second: Figure
    tokens_per_second: Figure
    good_share: Figure | None
    """Requests that kept every objective, among all that count."""
    goodput: Figure
    """Such requests a second."""
    metrics: dict[str, Distribution]
    stream: Stream | None = None
    """None: nothing was streamed."""


class Moment(Part):
    """A slice of the run's time, by the intended start."""

    start: Figure
    """Seconds since the beginning."""
    requests: int
    missed: int
    in_flight: Figure
    tokens_per_second: Figure
    ttft_p50: Figure | None
    ttft_p95: Figure | None
    ttft_p99: Figure | None
    tpot_p95: Figure | None


class Heat(Part):
    """Requests by time and time to first token."""

    time: list[Figure]
    """Edges, seconds since the beginning."""
    ttft: list[Figure]
    """Edges, seconds, on a logarithmic scale."""
    counts: list[list[int]]
    """A row for each slice of time."""


class Series(Part):
    """A measurement of the machine over time, as Prometheus has it."""

    name: str
    unit: str
    points: list[tuple[Figure, Figure]]
    """(seconds since the beginning, value)"""


# --- what is concluded -----------------------------------------------------------------------------------------------


class Check(Part):
    """A gate, as `gates.Gate` said it."""

    name: str
    side: Literal["client", "run", "server"]
    word: Literal["PASS", "FAIL", "n/a"]
    value: str
    limit: str
    why: str


class Tried(Part):
    """A probe of the search."""

    load: Figure
    seed: int
    requests: int
    missed_share: Figure
    verdict: Literal["pass", "fail", "open"]
    final: bool


class Answer(Part):
    """What the search found."""

    unit: Literal["users", "requests/s"]
    ending: Literal["found", "none", "all", "unclear", "invalid"]
    value: Figure | None
    low: Figure | None
    high: Figure | None
    confidence: Figure
    binds: str
    why: str
    caution: str
    """Why the interval may be too narrow; empty when not."""
    probes: list[Tried]


class Trouble(Part):
    """A way in which requests did not get their answer."""

    outcome: str
    said: str
    """What the server or the network said."""
    count: int


# --- what the gateway adds (`make load TAX=1`) -----------------------------------------------------------------------


class Added(Part):
    """What is added to one metric: the median difference of the pairs and its 95% interval."""

    metric: Metric
    pairs: int
    worth: Figure
    """How many independent pairs these are worth."""
    direct: Figure
    """The median of the direct requests."""
    through: Figure
    added: Figure
    low: Figure
    high: Figure


class Streams(Part):
    """One number of streams at a time."""

    streams: int
    pairs: int
    failed: int
    """Pairs of which one did not come whole: left out."""
    uneven: int
    """Pairs whose answers differ in length: left out of `e2e`."""
    added: list[Added]
    cpu: Figure | None
    """Processor time of the gateway for a request; None: not known."""


class Handshake(Part):
    """A new connection: medians."""

    connections: int
    direct: Figure
    """TCP to the engine."""
    through: Figure
    """TCP to the gateway."""
    tls: Figure | None
    """TLS with the gateway, after TCP; None without TLS."""


class Tax(Part):
    """What the gateway adds, at each number of streams."""

    direct: str
    """Where the direct requests went."""
    through: str
    model: str
    router: str
    """What stands between gateway and engine."""
    seed: int
    tokens: int
    """Asked of each answer."""
    levels: list[Streams]
    handshake: Handshake | None
    caution: str
    """Why the figures may be wrong; empty when nothing is known against them."""


# --- the whole -------------------------------------------------------------------------------------------------------


class Environment(Part):
    """Where and with what: as far as known, for whoever wants to repeat the run."""

    target: str
    hardware: dict[str, str]
    versions: dict[str, str]
    configuration: dict[str, str]
    seeds: dict[str, int]


def machine(hardware: Mapping[str, str]) -> dict[str, str]:
    """What a machine is made of, without the version of its cards' driver."""
    return {name: re.sub(r", [\d.]+(?=;|$)", "", value) for name, value in hardware.items()}


class Result(Part):
    """One run."""

    schema_version: Literal[2]
    title: str
    started: str
    """RFC 3339, UTC."""
    seconds: Figure
    complete: bool
    stopped: str
    """Why it is not complete; empty when it is."""
    verdict: Literal["pass", "fail", "none"]
    reason: str
    objectives: dict[str, Figure]
    allowed: Figure
    """The share that may miss an objective."""
    environment: Environment
    gates: list[Check]
    whole: Level
    levels: list[Level]
    timeline: list[Moment]
    heat: Heat | None
    series: list[Series]
    troubles: list[Trouble] = []
    """Of the whole run, the most frequent first."""
    answer: Answer | None
    compatible: dict[str, dict[str, Figure | None]]
    """The means as other tools would have printed them."""
    tax: Tax | None = None
    """What the gateway adds, where it was measured."""


def text() -> str:
    """The JSON Schema of this version."""
    return json.dumps(Result.model_json_schema(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(text(), encoding="utf-8")
