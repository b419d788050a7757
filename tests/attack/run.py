"""One run: attacks, good requests, the control, and what it all amounts to."""

from __future__ import annotations

import base64
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from tests.attack import good, oracle, wire
from tests.attack.evasion import evaded
from tests.attack.generate import attack
from tests.attack.oracle import Finding
from tests.attack.traffic import Attack, Credential, Fill, one
from tests.attack.upstream import Seen
from tests.attack.wire import Answer
from tests.attack.world import SESSION, World, attacked, fill, key_of, naive

SENDERS: Final = 24
SLOW_SENDERS: Final = 64
WARM: Final = 10
"""Rounds of good requests before memory is weighed: a gateway that has only just started has loaded half its code."""
REFUSED: Final = {401, 403}
# What the run must reach.
GROWTH: Final = 1.2
PAST_AUTH: Final = 0.6
CONTROL: Final = 20
GOOD: Final = 150
SETTLED: Final = 10.0  # seconds for what is still on its way


@dataclass(frozen=True)
class Sent:
    """One attack as one credential, and what came back."""

    attack: Attack
    credential: Credential
    answer: Answer | None

    @property
    def past_auth(self) -> bool:
        """Whether anything but 401 and 403 was answered."""
        return self.answer is not None and bool(set(self.answer.statuses) - REFUSED)

    @property
    def id(self) -> str:
        """How it is named in reports."""
        return f"{self.attack.number}{self.credential}"


@dataclass
class Volley:
    """What attacks did to one gateway."""

    sent: list[Sent]
    findings: list[tuple[str, str, Finding]] = field(default_factory=list)
    """Kind of attack, its name, what is wrong."""
    arrived: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Kind of attack -> those that a server behind the gateway saw, rightly or not."""
    held_open: int = 0
    """Slow connections that the gateway had not ended when our patience was over."""

    def count(self, verdict: oracle.Verdict, kind: str | None = None) -> int:
        """Requests (not findings) with such a verdict."""
        return len({name for of, name, found in self.findings if found.verdict == verdict and kind in (None, of)})


Tell = Callable[[str], object]


def fire(world: World, attacks: Sequence[Attack], tell: Tell = str) -> Volley:
    """Sends every attack as every credential and judges what was seen; `tell` hears how it goes."""
    jobs = [(it, who) for it in attacks for who in Credential]

    def shoot(job: tuple[Attack, Credential]) -> Sent:
        it, who = job
        move = it.move
        try:
            marks = fill(it.number, move.surface, who)
            return Sent(it, who, wire.send(move.traffic, marks, world.h1[move.listener], world.h2))
        except OSError:
            return Sent(it, who, None)

    results: list[Sent] = []
    with ThreadPoolExecutor(SLOW_SENDERS) as slow, ThreadPoolExecutor(SENDERS) as quick:
        futures = [slow.submit(shoot, job) for job in jobs if job[0].move.slow]
        for result in quick.map(shoot, [job for job in jobs if not job[0].move.slow]):
            results.append(result)
            if len(results) % 500 == 0:
                tell(f"  {len(results)} of {len(jobs)} sent")
        results += [future.result() for future in futures]
    settle(world)
    return judged(world, Volley(results))


def settle(world: World) -> None:
    """Waits until nothing new arrives behind the gateway."""
    deadline = time.monotonic() + SETTLED
    last = -1
    while time.monotonic() < deadline:
        now = sum(len(upstream.seen) for upstream in world.upstreams)
        if now == last:
            return
        last = now
        time.sleep(0.5)


def judged(world: World, volley: Volley) -> Volley:
    """The volley with everything that is wrong with what was seen and answered."""
    by_number = {sent.attack.number: sent.attack for sent in volley.sent}
    for upstream in world.upstreams:
        for seen in list(upstream.seen):
            who = oracle.identity(seen)
            if who is None and is_good(seen):
                continue
            origin = by_number.get(who[0]) if who else None
            if who and origin:
                volley.arrived[origin.kind].add(f"{who[0]}{who[1]}")
            listener = origin.move.listener if origin else "https"
            for finding in oracle.judge(seen, world.rules, listener):
                kind = origin.kind if origin else "unknown"
                name = f"{who[0]}{who[1]}" if who else seen.head[:80].decode("latin-1")
                volley.findings.append((kind, name, finding))
    for sent in volley.sent:
        if sent.answer and sent.attack.move.listener == "https":
            for finding in oracle.leaks(sent.answer.data, world.rules):
                volley.findings.append((sent.attack.kind, sent.id, finding))
    volley.held_open = sum(not sent.answer.ended for sent in volley.sent if sent.answer and sent.attack.move.slow)
    return volley


def is_good(seen: Seen) -> bool:
    """Whether it is one of the good requests, which nobody judges."""
    return any(value.startswith("G") for value in seen.values("Attack-Id"))


def replay(world: World) -> list[str]:
    """Sends every good request; names those that did not pass, and why."""
    values = {
        "host": world.site.host,
        "HOST": world.site.host.upper(),
        "origin": world.site.origin,
        "key": key_of("default"),
        "basic": _basic("default", key_of("default")),
        "session": SESSION,
    }
    requests = [(f"G{number:05d}", request) for number, request in enumerate(good.load())]

    def ask(pair: tuple[str, good.Good]) -> wire.Answer:
        mark, request = pair
        raw = request.raw(values, mark.encode())
        return wire.send(one(raw, wait=10), Fill(b"g" * 6, b"G" * 6, ()), world.h1["https"], world.h2)

    with ThreadPoolExecutor(SENDERS) as senders:
        answers = list(senders.map(ask, requests))
    blocked = []
    for (mark, request), answer in zip(requests, answers, strict=True):
        passed = bool(answer.statuses) and answer.statuses[0] < 400
        arrived = any(mark in seen.values("Attack-Id") for up in (world.engine, world.chat) for seen in up.seen)
        if not passed or (request.method == "POST" and not arrived):
            blocked.append(f"{request.id}: {request.method} {request.target} got {answer.statuses or 'no answer'}")
    return blocked


def _basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one run found."""

    seed: int
    volley: Volley
    control: Volley
    false_blocks: list[str]
    good: int
    evaded: dict[str, int]
    """Door -> requests that were answered beyond its limit."""
    memory_before: int
    memory_after: int

    @property
    def line(self) -> dict[str, object]:
        """The last line of the output."""
        sent = len(self.volley.sent)
        return {
            "requests": sent,
            "past_auth": round(sum(it.past_auth for it in self.volley.sent) / sent, 3),
            "bypasses": self.volley.count("bypass"),
            "spoofed": self.volley.count("spoofed"),
            "false_blocks": len(self.false_blocks),
            "good_requests": self.good,
            "held_open": self.volley.held_open,
            "limits_evaded": sum(self.evaded.values()),
            "control_bypasses": self.control.count("bypass"),
            "memory_ratio": round(self.memory_after / self.memory_before, 2),
            "seed": self.seed,
        }

    def missed(self, *, full: bool = True) -> list[str]:
        """Targets that were not reached, as sentences. Not `full`: a short run, without those that need numbers."""
        line = self.line
        wanted = {
            f"{line['bypasses']} requests reached what they must not": line["bypasses"] == 0,
            f"{line['spoofed']} requests were believed or carried a key behind the gateway": line["spoofed"] == 0,
            f"{line['false_blocks']} good requests were refused": line["false_blocks"] == 0,
            f"{line['held_open']} slow connections were not ended by the gateway": line["held_open"] == 0,
            f"{line['limits_evaded']} requests were answered beyond a limit": line["limits_evaded"] == 0,
            f"only {line['control_bypasses']} bypasses of the naive gateway: the verdict sees too little": (
                self.control.count("bypass") > CONTROL
            ),
            f"only {line['past_auth']} got past the keys": float(str(line["past_auth"])) >= PAST_AUTH,
        }
        if full:
            wanted |= {
                f"only {self.good} good requests": self.good >= GOOD,
                f"only {line['requests']} requests": len(self.volley.sent) >= 1000,
                f"memory grew to {line['memory_ratio']} of what it was": float(str(line["memory_ratio"])) <= GROWTH,
            }
        return [text for text, reached in wanted.items() if not reached]


def run(seed: int, count: int, *, rest: float, tell: Tell = str) -> Result:
    """The whole run with `count` requests; `rest` is how long the gateway rests before its memory is weighed again."""
    numbers = range(-(-count // len(Credential)))
    with tempfile.TemporaryDirectory() as name, attacked(_folder(name, "ours")) as ours:
        for _ in range(WARM):
            replay(ours)
        before = ours.memory()
        tell(f"our gateway: {len(numbers)} attacks as 3 credentials, seed {seed}, memory {before >> 20} MiB")
        volley = fire(ours, [attack(seed, number, ours.site) for number in numbers], tell)
        blocked = replay(ours)
        quiet = time.monotonic() + rest
        with naive(_folder(name, "naive")) as other:
            tell("the control: the same attacks on a naive gateway, while ours rests")
            moves = [attack(seed, number, other.site) for number in numbers]
            control = fire(other, [_on_https(it) for it in moves if not it.move.slow], tell)
        beyond = evaded(_folder(name, "tight"), seed)
        time.sleep(max(0, quiet - time.monotonic()))  # the rest is what is measured
        after = ours.memory()
    return Result(
        seed=seed, volley=volley, control=control, false_blocks=blocked, good=len(good.load()), evaded=beyond,
        memory_before=before, memory_after=after,
    )  # fmt: skip


def _on_https(it: Attack) -> Attack:
    return replace(it, move=replace(it.move, listener="https"))


def _folder(name: str, part: str) -> Path:
    folder = Path(name) / part
    folder.mkdir()
    return folder


def table(result: Result) -> str:
    """What happened, by kind of attack."""
    kinds = dict.fromkeys(sent.attack.kind for sent in sorted(result.volley.sent, key=lambda s: s.attack.kind))
    lines = [f"{'kind':16}{'sent':>7}{'past auth':>11}{'seen':>7}{'bypasses':>10}{'spoofed':>9}{'control':>9}"]
    for kind in [*kinds, "unknown"]:
        of = [sent for sent in result.volley.sent if sent.attack.kind == kind]
        bad, spoofed = result.volley.count("bypass", kind), result.volley.count("spoofed", kind)
        control = result.control.count("bypass", kind)
        if of or bad or spoofed or control:
            past = sum(sent.past_auth for sent in of)
            lines.append(
                f"{kind:16}{len(of):7}{past:11}{len(result.volley.arrived[kind]):7}{bad:10}{spoofed:9}{control:9}"
            )
    return "\n".join(lines)


def report(result: Result, most: int = 20) -> str:
    """The findings, a few of each kind, and how to send one again."""
    lines: list[str] = []
    shown: defaultdict[tuple[str, str], int] = defaultdict(int)
    by_number = {sent.attack.number: sent.attack for sent in result.volley.sent}
    for kind, name, finding in result.volley.findings:
        shown[kind, finding.verdict] += 1
        if shown[kind, finding.verdict] <= 3 and len(lines) < most * 2:
            number = int(name[:-1]) if name[:-1].isdigit() else None
            what = by_number[number].move.what if number is not None else name
            lines.append(f"{finding.verdict}: {kind}: {what[:150]!r} as {name[-1:]}\n    {finding.why}")
            if number is not None:
                lines[-1] += f"\n    again: make attack SEED={result.seed} ONLY={number}"
    lines += [f"limit: {door} answered {number} too many" for door, number in result.evaded.items() if number]
    lines += [f"refused a good request: {text}" for text in result.false_blocks]
    return "\n".join(lines)


def again(seed: int, number: int) -> Iterator[str]:
    """Sends one attack once more: every byte, what came back and what was seen."""
    with tempfile.TemporaryDirectory() as name, attacked(_folder(name, "ours")) as ours:
        it = attack(seed, number, ours.site)
        yield f"{it.kind}: {it.move.what}\n{str(it.move.traffic)[:4000]}"
        volley = fire(ours, [it])
        for sent in sorted(volley.sent, key=lambda sent: sent.credential):
            told = sent.answer.data[:600].decode("latin-1") if sent.answer else "no connection"
            yield f"\n--- as {sent.credential.name}: {sent.answer.statuses if sent.answer else ()}\n{told}"
        for seen in (seen for upstream in ours.upstreams for seen in upstream.seen if oracle.identity(seen)):
            head = seen.head[:2000].decode("latin-1")
            yield f"\n--- {seen.upstream} saw\n{head}\n\n{seen.body[:500]!r} {seen.faults}"
        yield from (f"\n{finding.verdict}: {name_}: {finding.why}" for _, name_, finding in volley.findings)
