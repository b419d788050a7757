"""`make bench-gateway`: what the gateway costs on the way to an engine. Progress first, one JSON line last.

The one fake engine directly and through our gateway by turns, medians over rounds; LiteLLM in the same place for scale.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench import namespaces, places, verdict
from bench.client import Client, Measured, Target, load
from bench.places import CHAT, Gateway, Machine, Process
from tests.support.engine import Engine, engine

STREAMS: Final = (1, 16, 64, 256)
AT: Final = 16  # the number of streams that the targets are about
PACE: Final = {"ttft_ms": 100, "itl_ms": 20, "tokens": 25}
PACE_TIME: Final = (100 + 24 * 20) / 1000  # seconds for one answer at that pace
FLOW: Final = {"tokens": 500}  # unthrottled
SHORT: Final = {"ttft_ms": 50, "itl_ms": 5, "tokens": 10}
OTHERS: Final = {"ttft_ms": 200, "itl_ms": 20, "tokens": 50}
WHOLE: Final = {"model": "default", "messages": [{"role": "user", "content": "Hello."}], "stream": False}
WRONG: Final = 64  # connections of wrong passwords
ABUSE: Final = 700.0  # requests a second that the abuser sends
ALLOWED: Final = 60  # a minute, what the abuser may send (platform.yaml)
PATIENCE: Final = 10.0  # seconds
QUIET: Final = 0.1  # of the machine, what others may use before it is worth a word


@dataclass(frozen=True)
class Size:
    """How long everything takes."""

    rounds: int
    seconds: float


FULL: Final = Size(rounds=5, seconds=3)
QUICK: Final = Size(rounds=1, seconds=2)


@dataclass
class Bench:
    """What is measured, and what has been found."""

    size: Size
    engine: Engine
    gateway: Gateway
    litellm: Target
    litellm_process: Process
    values: dict[str, float] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def direct(self) -> Target:
        """The engine, with nothing before it."""
        return Target(url=f"http://{self.engine.address}{CHAT}")

    def by_turns(self, **how: Any) -> tuple[list[Measured], list[Measured]]:
        """Directly and through the gateway, `rounds` times each."""
        direct, through = [], []
        for _ in range(self.size.rounds):
            direct.append(_whole(load(self.direct, model=places.MODEL, **how), "the engine"))
            through.append(_whole(load(self.gateway.target(), **how), "the gateway"))
        return direct, through


def main() -> int:
    """Runs all of it; 1 when a target was missed."""
    before = Machine.now()
    size = QUICK if os.environ.get("QUICK") == "1" else FULL
    with tempfile.TemporaryDirectory(prefix="private-llm-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        nets = [stack.enter_context(namespaces.namespace(n)) for n in range(2)] if namespaces.possible() else []
        one = stack.enter_context(engine((places.MODEL, "other:1b", "all-minilm"), "-keep", "0"))
        (folder / "gateway").mkdir()
        ours = stack.enter_context(places.gateway(folder / "gateway", one.address, [net.here for net in nets]))
        say("bench: starting LiteLLM...")
        theirs, process = stack.enter_context(places.litellm(folder, one.address))
        bench = Bench(size, one, ours, theirs, process)
        bench.found["memory_mib"] = {"start": ours.process.memory}
        for part in (client, pace, flow, whole_answers, exact):
            part(bench)
        bench.found["memory_mib"] |= {"end": ours.process.memory, "most": ours.process.most_memory}
        if nets:
            logins(bench, nets[0], nets[1])
            abuse(bench, nets[0])
        else:
            say("bench: the flood and the abuser need root and `ip`, for addresses of their own: left out")
    others = round(Machine.now().others(before), 3)
    result = verdict.judge(bench.values)
    for goal, row in result["targets"].items():
        value = "-" if row["value"] is None else f"{row['value']:g}"
        say(f"  {'ok  ' if row['pass'] else 'MISS'} {goal}: {value} ({row['side']} {row['bound']:g} {row['unit']})")
    print(json.dumps({**result, "rounds": size.rounds, "cores": os.cpu_count(), "others": others, **bench.found}))
    return 0 if result["pass"] else 1


def client(bench: Bench) -> None:
    """What the client can take, before anything is said about others."""
    bench.engine.play(**FLOW)
    with places.null_server(FLOW["tokens"]) as null:
        rates = [(_rate(null, bench), _rate(bench.direct, bench)) for _ in range(bench.size.rounds)]
    able, direct = (statistics.median(column) for column in zip(*rates, strict=True))
    bench.values["client_over_direct"] = round(able / direct, 2)
    bench.found["client"] = {"null_tokens_per_second": round(able), "direct_tokens_per_second": round(direct)}
    say(f"client: {able:,.0f} tokens/s from a null server, {direct:,.0f} directly from the engine")


def _rate(target: Target, bench: Bench) -> float:
    return load(target, streams=AT, seconds=bench.size.seconds / 2, model=places.MODEL).tokens_per_second


def pace(bench: Bench) -> None:
    """Time to the first token at an engine's pace, and how late the other ones come."""
    bench.engine.play(**PACE)
    rows: dict[str, Any] = {}
    for streams in STREAMS:
        how = {"streams": streams, "seconds": bench.size.seconds, "stagger": PACE_TIME}
        with _spent(bench.gateway.process) as spent:
            direct, through = bench.by_turns(**how)
        row = {
            "added_ttft_p50": _median(through, lambda m: m.ttft.p50) - _median(direct, lambda m: m.ttft.p50),
            "added_ttft_p95": _median(through, lambda m: m.ttft.p95) - _median(direct, lambda m: m.ttft.p95),
            "added_lag_p50": _median(through, lambda m: m.lag.p50) - _median(direct, lambda m: m.lag.p50),
            "added_lag_p95": _median(through, lambda m: m.lag.p95) - _median(direct, lambda m: m.lag.p95),
            "direct_ttft_p50": _median(direct, lambda m: m.ttft.p50),
            "direct_ttft_p95": _median(direct, lambda m: m.ttft.p95),
            "cpu_us_per_token": 1e6 * spent.seconds / sum(one.tokens for one in through),
            "memory_mib": bench.gateway.process.memory,
        }
        rows[str(streams)] = {name: round(value, 3) for name, value in row.items()}
        say(f"pace, {streams} streams: adds {row['added_ttft_p50']:.2f} ms (p95 {row['added_ttft_p95']:.2f}) to the "
            f"first token, {row['added_lag_p50']:.2f} ms (p95 {row['added_lag_p95']:.2f}) to each")  # fmt: skip
    with _spent(bench.litellm_process) as spent:
        theirs = load(bench.litellm, streams=AT, seconds=bench.size.seconds, stagger=PACE_TIME)
    rows["litellm"] = {
        "cpu_us_per_token": round(1e6 * spent.seconds / theirs.tokens, 1),
        "added_ttft_p50": round(theirs.ttft.p50 - rows[str(AT)]["direct_ttft_p50"], 3),
        "added_ttft_p95": round(theirs.ttft.p95 - rows[str(AT)]["direct_ttft_p95"], 3),
    }
    say(f"pace, {AT} streams: LiteLLM adds {rows['litellm']['added_ttft_p50']:.1f} ms to the first token")
    bench.values |= {name: rows[str(AT)][name] for name in ("added_ttft_p50", "added_ttft_p95")}
    bench.found["pace"] = rows


def flow(bench: Bench) -> None:
    """Tokens a second with an engine that never waits, and what a token costs in processor time."""
    bench.engine.play(**FLOW)
    rows: dict[str, Any] = {}
    for streams in STREAMS:
        with _spent(bench.gateway.process) as spent:
            direct, through = bench.by_turns(streams=streams, seconds=bench.size.seconds / 2, warm=0)
        rate = {"direct": _median(direct, _tokens), "gateway": _median(through, _tokens)}
        per_core = sum(one.tokens for one in through) / spent.seconds
        rows[str(streams)] = {
            "direct": round(rate["direct"]), "gateway": round(rate["gateway"]),
            "ratio": round(rate["gateway"] / rate["direct"], 3), "gateway_tokens_per_core_second": round(per_core),
            "memory_mib": bench.gateway.process.memory,
        }  # fmt: skip
        say(f"flow, {streams} streams: {rate['direct']:,.0f} tokens/s directly, {rate['gateway']:,.0f} through the "
            f"gateway ({per_core:,.0f} a core)")  # fmt: skip
    with _spent(bench.litellm_process) as spent:
        theirs = load(bench.litellm, streams=AT, seconds=bench.size.seconds / 2, warm=0)
    per_core = theirs.tokens / spent.seconds
    rows["litellm"] = {
        "tokens_per_second": round(theirs.tokens_per_second), "tokens_per_core_second": round(per_core),
        "memory_mib": bench.litellm_process.memory,
    }  # fmt: skip
    say(f"flow, {AT} streams: {theirs.tokens_per_second:,.0f} tokens/s through LiteLLM ({per_core:,.0f} a core)")
    bench.values["throughput_ratio"] = rows[str(AT)]["ratio"]
    bench.values["tokens_per_core_over_litellm"] = round(
        rows[str(AT)]["gateway_tokens_per_core_second"] / max(per_core, 1), 1
    )
    bench.found["flow"] = rows


def whole_answers(bench: Bench) -> None:
    """Requests a second: short answers that are not streamed."""
    bench.engine.play(tokens=1)
    rows: dict[str, Any] = {}
    for streams in STREAMS:
        rates: dict[str, list[float]] = {"direct": [], "gateway": []}
        for _ in range(bench.size.rounds):
            how: dict[str, Any] = {"streams": streams, "seconds": bench.size.seconds / 4}
            direct = load(bench.direct, body={**WHOLE, "model": places.MODEL}, **how)
            through = load(bench.gateway.target(), body=WHOLE, **how)
            rates["direct"].append(_whole(direct, "the engine").requests_per_second)
            rates["gateway"].append(_whole(through, "the gateway").requests_per_second)
        rows[str(streams)] = {place: round(statistics.median(each)) for place, each in rates.items()}
        say(f"short answers, {streams} streams: {rows[str(streams)]['direct']:,} a second directly, "
            f"{rows[str(streams)]['gateway']:,} through the gateway")  # fmt: skip
    bench.found["requests_per_second"] = rows


def exact(bench: Bench) -> None:
    """The gateway's own figures against the client's: tokens of each answer, and the time to its first one."""
    wrong, apart = 0, []
    for usage in (True, False):
        bench.engine.play(**SHORT)
        before = _counted(bench)
        mark = len(bench.gateway.running.log)
        detail = bench.gateway.running.folder / "detail"
        load(bench.gateway.target(), streams=1, seconds=bench.size.seconds, warm=0, usage=usage, detail=detail)
        mine = [json.loads(line) for line in detail.read_text().splitlines()]
        seen = _logged(bench, mark, len(mine))
        wrong += sum(one["tokens"] != log["output_tokens"] for one, log in zip(mine, seen, strict=True))
        wrong += sum(one["usage"] != (one["tokens"] if usage else -1) for one in mine)
        wrong += _counted(bench) - before != sum(one["tokens"] for one in mine)
        # The first one on a connection pays for TLS before the gateway can know of it.
        apart += [
            abs((one["first"] - one["start"]) / 1e6 - log["ttft_ms"])
            for one, log in list(zip(mine, seen, strict=True))[1:]
        ]
    apart.sort()
    p95 = apart[int(0.95 * len(apart))]
    bench.values |= {"wrong_token_counts": wrong, "ttft_seen_apart": round(p95, 3)}
    bench.found["exact"] = {"answers": len(apart), "apart_p50_ms": round(statistics.median(apart), 3)}
    say(f"figures: {len(apart)} answers, {wrong} wrong counts; first tokens {p95:.2f} ms apart at p95")


def _counted(bench: Bench) -> int:
    return int(bench.gateway.metric("gen_ai_client_token_usage_sum", 'token_type="output"'))


def _logged(bench: Bench, mark: int, count: int) -> list[dict[str, Any]]:
    """The access log's lines about answers, once there are so many (a line comes after its answer)."""

    def lines() -> list[str]:
        return [line for line in bench.gateway.running.log[mark:].splitlines() if '"ttft_ms"' in line]

    _eventually(lambda: len(lines()) >= count, f"the access log does not tell of {count} answers")
    return [json.loads(line) for line in lines()]


def _eventually(there: Callable[[], bool], otherwise: str) -> None:
    """Raises RuntimeError when something is not there within seconds."""
    deadline = time.monotonic() + PATIENCE
    while not there():
        if time.monotonic() > deadline:
            raise RuntimeError(otherwise)
        time.sleep(0.05)


def logins(bench: Bench, bad: namespaces.Namespace, good: namespaces.Namespace) -> None:
    """Good passwords while somebody else tries wrong ones on many connections. Each is hashed once: its first time."""
    https = bench.gateway.running.https
    url = f"{bench.gateway.running.url}/v1/models"

    def target(basic: str, net: namespaces.Namespace) -> Target:
        return Target(url=url, basic=basic, ca=bench.gateway.running.ca, connect=f"{net.here}:{https}", under=net.under)

    times = {}
    with Client(
        target("ann:not-her-password", bad), streams=WRONG, seconds=max(4, bench.size.seconds), warm=0, method="GET"
    ) as flood:
        _eventually(lambda: bench.gateway.metric("gateway_address_refused_total", "zone=") > WRONG, "no flood")
        for name, password in bench.gateway.passwords.items():
            one = load(target(f"{name}:{password}", good), streams=1, seconds=0.001, warm=0, method="GET")
            times[name] = one.request.max if one.clean else float("inf")
        tried = flood.result()
    bench.values["good_login"] = round(max(times.values()), 1)
    bench.found["logins"] = {"ms": times, "wrong_per_second": round(tried.sent_per_second), "answers": tried.statuses}
    say(f"logins: {max(times.values()):.0f} ms at most, beside {tried.sent_per_second:,.0f} wrong passwords a second "
        f"({tried.statuses})")  # fmt: skip


def abuse(bench: Bench, net: namespaces.Namespace) -> None:
    """One who sends far more than is allowed, and what the others notice."""
    bench.engine.play(**OTHERS)
    https = bench.gateway.running.https
    abuser = Target(
        url=bench.gateway.running.url + CHAT, key=bench.gateway.keys["abuser"], ca=bench.gateway.running.ca,
        connect=f"{net.here}:{https}", under=net.under,
    )  # fmt: skip
    alone, beside, abusers = [], [], []
    start = time.monotonic()
    seconds = 2 * bench.size.seconds
    for _ in range(bench.size.rounds):
        how: dict[str, Any] = {"streams": AT, "seconds": seconds, "stagger": 1.0}
        alone.append(load(bench.gateway.target(), **how))
        with Client(abuser, streams=32, seconds=seconds + 4, warm=0, rate=ABUSE, body=WHOLE) as client:
            beside.append(load(bench.gateway.target(), **how))
            abusers.append(client.result())
    moved = {
        name: (_median(alone, p95), _median(beside, p95))
        for name, p95 in {"ttft": lambda m: m.ttft.p95, "chunk": lambda m: m.lag.p95}.items()
    }
    sent = statistics.median(one.sent_per_second for one in abusers)
    # A bucket is full at the start: that minute's worth comes on top of what is earned back.
    answered = max(0, sum(one.ok for one in abusers) - ALLOWED) / (time.monotonic() - start) * 60
    bench.values |= {
        "abuser_sent": round(sent), "abuser_answered": round(answered, 1),
        "others_refused": sum(one.requests - one.ok for one in beside),
        "others_moved": round(max(verdict.beyond(*each) for each in moved.values()), 2),
    }  # fmt: skip
    bench.found["abuse"] = {
        "p95_ms": {name: [round(value, 2) for value in each] for name, each in moved.items()},
        "answers": [one.statuses for one in abusers],
    }
    say(f"abuse: {sent:,.0f} requests/s, {answered:.0f} answered a minute; the others' p95 "
        + ", ".join(f"{name} {before:.1f} -> {after:.1f} ms" for name, (before, after) in moved.items()))  # fmt: skip


@dataclass
class Spent:
    """Processor time, in seconds."""

    seconds: float = 0.0


@contextmanager
def _spent(process: Process) -> Iterator[Spent]:
    spent, before = Spent(), process.cpu
    yield spent
    spent.seconds = max(process.cpu - before, 0.01)


def _median(runs: list[Measured], figure: Callable[[Measured], float]) -> float:
    return statistics.median(figure(one) for one in runs)


def _tokens(one: Measured) -> float:
    return one.tokens_per_second


def _whole(one: Measured, place: str) -> Measured:
    """Raises RuntimeError when a request failed: figures about failures are worth nothing."""
    if not one.clean or one.wrong_counts:
        raise RuntimeError(f"{place} failed: {one.statuses}, {one.errors}, {one.wrong_counts} wrong counts")
    return one


def say(text: str) -> None:
    """Progress, at once."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
