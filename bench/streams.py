"""`make bench-client`: our streaming client, guidellm and aiperf on the same engine, on the same cores, in one run.

Beside them a reader that only reads: what an event costs any of them at least, on this machine in this hour.

The engine tells the truth: when a request came, and when each token went out. Each tool asks as a crowd of so many that
keep asking. What an event costs is the difference between a long and a short run, so that starting up costs nobody
anything. A tool that fails or does not report a figure gets n/a. JSON comes last.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import gevent
import numpy as np

from loadtests.analysis.metrics import gaps, wire_ttft
from loadtests.client.stream import Client, Request
from loadtests.records import Outcome, Record
from ops import paths, venv
from tests.support import bare as read_only
from tests.support.certificates import issued
from tests.support.engine import Engine, engine

MODEL: Final = "qwen3:0.6b"
SCENARIO: Final = {"ttft_ms": 200, "heavy_tail": True, "seed": 5}
LEAST_EVENTS: Final = 10_000
"""So many more has the longer run: what a program's start takes differs from start to start."""
PATIENCE: Final = 150  # seconds for a run of a tool
WRONG: Final = 5.0  # per cent: from there on a gap is not measured
ROUNDS: Final = 3
"""All tools by turns in each; what is shown are medians. One run of one tool tells more of the machine than of it."""
APART: Final = 0.003  # seconds between the first requests of ours
LOCKS: Final = ("guidellm", "aiperf")


@dataclass(frozen=True, slots=True)
class Pace:
    """How the engine answers: the mean gap between two tokens in milliseconds, and the tokens of an answer."""

    itl_ms: int
    tokens: int


SHARED: Final = Pace(40, 50)
"""A card that many share, and short answers: between two events all that a client needs has left the caches."""
QUICK: Final = Pace(10, 200)
"""A card with few people on it, and answers of a usual length."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What is measured with every tool."""

    streams: int
    pace: Pace = SHARED
    tls: bool = False

    def __str__(self) -> str:
        return f"{self.streams} x {self.pace.itl_ms} ms{' TLS' if self.tls else ''}"


CELLS: Final = (Cell(20), Cell(100), Cell(300), Cell(100, tls=True), Cell(100, QUICK), Cell(300, QUICK))


@dataclass(frozen=True, slots=True)
class Told:
    """What a tool printed, in milliseconds, as (p50, p99); None where it does not report it."""

    ttft: tuple[float, float] | None = None
    itl: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A tool in a cell: errors against the truth, None for n/a."""

    tool: str
    cell: Cell
    ttft_p50_ms: float | None = None
    ttft_p99_ms: float | None = None
    itl_p50_percent: float | None = None
    itl_p99_percent: float | None = None
    cpu_us_per_event: float | None = None
    events_per_core_second: float | None = None
    events_per_second: float | None = None
    times_ours: float | None = None
    """Its processor time for an event, over ours in the same round."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tool finds the engine, and a folder for what it writes."""

    url: str
    ca: Path
    folder: Path


@contextmanager
def place(folder: Path, cell: Cell) -> Iterator[tuple[Engine, Place]]:
    """A fresh engine: its gaps start again with its first request."""
    flags: tuple[str, ...] = ()
    if cell.tls:
        flags = ("-tls-certificate", str(folder / "certificate"), "-tls-key", str(folder / "key"))
    with engine((MODEL,), *flags, **SCENARIO, **asdict(cell.pace)) as one:
        port = one.address.rpartition(":")[2]
        url = f"https://localhost:{port}" if cell.tls else f"http://{one.address}"
        yield one, Place(url, folder / "certificate", folder)


def prepare(folder: Path) -> None:
    """A certificate, prompts, and a tokenizer of three words, since aiperf does not start without one."""
    certificate, key = issued(["localhost"])
    (folder / "certificate").write_text(certificate)
    (folder / "key").write_text(key)
    prompts = (json.dumps({"text": f"one two {n}", "prompt": f"one two {n}"}) for n in range(2000))
    (folder / "prompts.jsonl").write_text("\n".join(prompts) + "\n")
    (folder / "tokenizer").mkdir()
    words = {"type": "WordLevel", "vocab": {"[UNK]": 0, "one": 1, "two": 2}, "unk_token": "[UNK]"}
    made = {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"}, "model": words}
    (folder / "tokenizer" / "tokenizer.json").write_text(json.dumps(made))
    named = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]", "eos_token": "[UNK]"}
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(named))


def spent() -> float:
    """Processor seconds of all children that ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ours(where: Place, streams: int, count: int) -> Told:
    """Our client, in a process of its own as the others."""
    return Told(**json.loads(_again("ours", where, streams, count).splitlines()[-1]))


def bare(where: Place, streams: int, count: int) -> Told:
    """The reader that only reads."""
    _again("bare", where, streams, count)
    return Told()


def guidellm(where: Place, streams: int, count: int) -> Told:
    """By its closed profile. Its gaps are means of whole answers; it reports them as inter-token latency."""
    out = where.folder / "guidellm.json"
    _run([
        *_program("guidellm", "guidellm"), "run", "--disable-console",
        "--backend", f"kind=openai_http,target={where.url},model={MODEL},validate_backend=false",
        "--profile", f"kind=concurrent,streams={streams}", "--constraint", f"kind=max_requests,count={count}",
        "--data", f"kind=json_file,path={where.folder / 'prompts.jsonl'}", "--output", f"kind=json,path={out}",
    ], where)  # fmt: skip
    told = json.loads(out.read_text())["benchmarks"][0]["metrics"]

    def of(name: str) -> tuple[float, float]:
        values = told[name]["successful"]["percentiles"]
        return values["p50"], values["p99"]

    return Told(of("time_to_first_token_ms"), of("inter_token_latency_ms"))


def aiperf(where: Place, streams: int, count: int) -> Told:
    """Its gaps between chunks: what it calls inter-token latency is a mean of each answer."""
    out = where.folder / "aiperf"
    _run([
        *_program("aiperf", "aiperf"), "profile", "--model", MODEL, "--url", where.url, "--endpoint-type", "chat",
        "--streaming", "--concurrency", str(streams), "--request-count", str(count), "--use-server-token-count",
        "--tokenizer", str(where.folder / "tokenizer"), "--input-file", str(where.folder / "prompts.jsonl"),
        "--custom-dataset-type", "single_turn", "--artifact-dir", str(out), "--ui-type", "none", "--no-gpu-telemetry",
        "--no-server-metrics",
    ], where)  # fmt: skip
    told = json.loads((out / "profile_export_aiperf.json").read_text())
    ttft, gap = told["time_to_first_token"], told.get("inter_chunk_latency")
    return Told((ttft["p50"], ttft["p99"]), (gap["p50"], gap["p99"]) if gap else None)


def _again(role: str, where: Place, streams: int, count: int) -> str:
    """This file as a process of its own."""
    words = [sys.executable, "-m", "bench.streams", role, where.url, str(where.ca), str(streams), str(count)]
    return _run(words, where)


def _program(lock: str, name: str) -> list[str]:
    return [str(venv.environment(lock) / "bin" / name)]


def _run(words: list[str], where: Place) -> str:
    environment = os.environ | {"SSL_CERT_FILE": str(where.ca), "NO_COLOR": "1", "PYTHONPATH": str(paths.ROOT)}
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment, cwd=where.folder
    )
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise ValueError(f"exit status {done.returncode}: {last[-1] if last else ''}")
    return done.stdout


TOOLS: Final[dict[str, Callable[[Place, int, int], Told]]] = {
    "bare": bare, "ours": ours, "guidellm": guidellm, "aiperf": aiperf,
}  # fmt: skip


def once(folder: Path, tool: str) -> None:
    """Runs a tool for nothing: the first time it compiles what it imports. What goes wrong, its row will say."""
    with suppress(ValueError, KeyError, OSError, subprocess.TimeoutExpired), place(folder, Cell(1)) as (_, where):
        TOOLS[tool](where, 1, 1)


def rounds_of(cell: Cell) -> tuple[int, int]:
    """How often everybody asks in the short run, and in the longer one."""
    return 1, 1 + max(2, -(-LEAST_EVENTS // (cell.streams * cell.pace.tokens)))


def row(folder: Path, tool: str, cell: Cell) -> Row:
    """Runs a tool shortly and longer; errors are those of the longer run."""
    costs, events = [], []
    try:
        for rounds in rounds_of(cell):
            with place(folder, cell) as (one, where):
                before = spent()
                told = TOOLS[tool](where, cell.streams, rounds * cell.streams)
                costs.append(spent() - before)
                seen = [s for s in one.seen() if s.tokens == cell.pace.tokens]
                events.append(sum(s.tokens for s in seen))
    except (ValueError, KeyError, OSError, subprocess.TimeoutExpired) as error:
        return Row(tool, cell, why=str(error)[-300:])
    waits = [(s.first_at - s.at) / 1e6 for s in seen]
    between = np.concatenate([np.diff(np.array(s.told, dtype=np.int64)) for s in seen]) / 1e6
    true_gaps = float(np.quantile(between, 0.5)), float(np.quantile(between, 0.99))
    true_ttft = float(np.quantile(waits, 0.5)), float(np.quantile(waits, 0.99))
    seconds = (max(s.ended_at for s in seen) - min(s.at for s in seen)) / 1e9
    cost = (costs[1] - costs[0]) / (events[1] - events[0])
    first = [abs(a - b) for a, b in zip(told.ttft, true_ttft, strict=True)] if told.ttft else (None, None)
    gap = [abs(a / b - 1) * 100 for a, b in zip(told.itl, true_gaps, strict=True)] if told.itl else (None, None)
    return Row(
        tool, cell, ttft_p50_ms=first[0], ttft_p99_ms=first[1], itl_p50_percent=gap[0], itl_p99_percent=gap[1],
        cpu_us_per_event=cost * 1e6, events_per_core_second=1 / cost if cost > 0 else None,
        events_per_second=events[1] / seconds,
    )  # fmt: skip


def measured(folder: Path, cell: Cell, rounds: int) -> list[Row]:
    """A row for each tool: medians over rounds, in each of which all have their turn."""
    tools = [tool for tool in TOOLS if not (cell.tls and tool == "bare")]  # which has no TLS
    runs = [{tool: row(folder, tool, cell) for tool in tools} for _ in range(rounds)]
    for run in runs:
        least = run["ours"].cpu_us_per_event
        for tool, one in run.items():
            if least and one.cpu_us_per_event is not None:
                run[tool] = replace(one, times_ours=one.cpu_us_per_event / least)
    return [middle([run[tool] for run in runs]) for tool in tools]


def middle(rows: list[Row]) -> Row:
    """The median of each figure; n/a where a round had none."""
    kept: dict[str, Any] = {}
    for figure in (one.name for one in fields(Row) if one.default is None):
        values = [getattr(one, figure) for one in rows]
        kept[figure] = None if None in values else float(np.median(values))
    return replace(rows[0], why=next((one.why for one in rows if one.why), ""), **kept)


def asking(number: int) -> Request:
    """A streamed chat."""
    said = {
        "model": MODEL, "messages": [{"role": "user", "content": f"one two {number}"}], "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    return Request(path="/v1/chat/completions", body=json.dumps(said).encode(), model=MODEL, session=number)


def crowd(url: str, ca: Path, streams: int, count: int) -> list[Record]:
    """The records of so many requests, so many at a time."""
    requests = iter([asking(number) for number in range(count)])
    records = []
    with Client(url, ca=ca) as client:
        client.preconnect(streams)

        def one() -> None:
            for request in requests:
                records.append(client.ask(request).record)

        asked = []
        for _ in range(streams):  # all at one moment would measure the engine's queue, which its record leaves out
            asked.append(gevent.spawn(one))
            gevent.sleep(APART)
        gevent.joinall(asked, raise_error=True)
    if wrong := [record for record in records if record.outcome is not Outcome.OK]:
        raise ValueError(f"{len(wrong)} requests failed, as: {wrong[0].error}")
    return records


def own(url: str, ca: Path, streams: int, count: int) -> None:
    """What `ours` runs: prints what it measured."""
    records = crowd(url, ca, streams, count)
    first = np.array([wire_ttft(record) for record in records]) * 1e3
    between = np.concatenate([gaps(record) for record in records]) * 1e3
    print(json.dumps({"ttft": list(np.quantile(first, (0.5, 0.99))), "itl": list(np.quantile(between, (0.5, 0.99)))}))


def only_read(url: str, _: Path, streams: int, count: int) -> None:
    """What `bare` runs."""
    read_only.crowd(url, [asking(number) for number in range(count)], streams)


def shown(value: float | None, form: str = ".2f") -> str:
    """A figure, or n/a."""
    return "n/a" if value is None else format(value, form)


def most(rows: list[Row], tool: str) -> float | None:
    """The highest rate of events at which this tool's 99th percentile gap was still right."""
    right = [
        r.events_per_second for r in rows
        if r.tool == tool and r.itl_p99_percent is not None and r.itl_p99_percent <= WRONG and r.events_per_second
    ]  # fmt: skip
    return max(right, default=None)


def main() -> None:
    """All tools in all cells; QUICK: the first one, one round."""
    quick = bool(os.environ.get("QUICK"))
    for lock in LOCKS:
        venv.apart(lock)
    rows = []
    print("errors against the engine's own record (ms, %), processor time per event")
    print(f"{'streams x gap':>25}  TTFT p50      p99   ITL p50      p99  us/event  times ours  events/s", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for tool in TOOLS:
            once(folder, tool)
        for cell in CELLS[:1] if quick else CELLS:
            found = measured(folder, cell, 1 if quick else ROUNDS)
            for one in found:
                print(
                    f"{one.tool:10}{cell!s:>15}{shown(one.ttft_p50_ms):>10}"
                    f"{shown(one.ttft_p99_ms):>9}{shown(one.itl_p50_percent):>10}{shown(one.itl_p99_percent):>9}"
                    f"{shown(one.cpu_us_per_event, '.0f'):>10}{shown(one.times_ours, '.1f'):>12}"
                    f"{shown(one.events_per_second, '.0f'):>10}" + (f"  {one.why}" if one.why else ""),
                    flush=True,
                )
            rows += found
    rates = {tool: most(rows, tool) for tool in TOOLS}
    print(json.dumps({"rows": [asdict(r) for r in rows], "events_per_second_within_5_percent": rates}))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        role, place_of, ca_of, *numbers = sys.argv[1:]
        run_as = own if role == "ours" else only_read
        run_as(place_of, Path(ca_of), *map(int, numbers))
    else:
        main()
