"""A made-up machine under made-up people, in virtual time: what a load run on it would have written."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from loadtests.analysis import gates, slo
from loadtests.records import Record
from loadtests.results import build, figures
from loadtests.results.schema import Environment, Level, Result, Series
from loadtests.runs.hold import settled
from tests.support.records import record

PEOPLE: Final = slo.preset("people")
BETWEEN: Final = 100.0  # seconds between two loads


@dataclass
class Box:
    """An engine whose step takes `fixed` and `each` for every answer, and which stops for each prompt; seconds."""

    fixed: float = 0.012
    each: float = 0.004
    prompt: float = 0.08
    slots: int = 4
    tokens: int = 60
    think: float = 2.0
    stall: float = 0.0
    """The share of steps behind which everything stops for a second."""
    started: float = 0.0
    """When the next load begins."""
    records: list[Record] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)

    def hold(self, users: int, seconds: float = 200.0) -> Box:
        """One more load: so many people, each asking again after thinking."""
        chance, now = random.Random(users), 0.0
        coming = [(chance.uniform(0, seconds / 10), seat) for seat in range(users)]
        heapq.heapify(coming)
        waiting: deque[tuple[float, int]] = deque()
        working: list[list[float]] = []  # asked, seat, first token, tokens
        told: list[Record] = []
        asked = [0] * users
        while now < seconds:
            while coming and coming[0][0] <= now:
                waiting.append(heapq.heappop(coming))
            if waiting and len(working) < self.slots:
                at, seat = waiting.popleft()
                now += self.prompt * chance.uniform(0.8, 1.2)
                working.append([at, seat, 0.0, 0.0])
                continue
            if not working:
                now = coming[0][0]
                continue
            now += self.fixed + self.each * len(working) + self._stopped(chance)
            for one in working:
                one[2:] = one[2] or now, one[3] + 1
            for asked_at, who, first, tokens in [one for one in working if one[3] >= self.tokens]:
                told.append(self._record(users, int(who), asked, asked_at, first, now, int(tokens)))
                heapq.heappush(coming, (now + chance.expovariate(1 / self.think), int(who)))
            working = [one for one in working if one[3] < self.tokens]
        whole = round(1e9 * self.started), round(1e9 * (self.started + seconds))
        self.levels.append(figures.level(_label(users), users, told, PEOPLE, settled(told, whole)))
        self.records += told
        self.started += seconds + BETWEEN
        return self

    def _stopped(self, chance: random.Random) -> float:
        return float(chance.random() < self.stall) if self.stall else 0.0

    def _record(
        self, users: int, seat: int, asked: list[int], at: float, first: float, done: float, tokens: int
    ) -> Record:
        number, asked[seat] = asked[seat], asked[seat] + 1
        made: Record = record(
            1000 * (self.started + at), ttft=1000 * (first - at), itl=1000 * (done - first) / (tokens - 1),
            tokens=tokens, session=seat + users * (number // 4), turn=number % 4, model="default", input_tokens=400,
        )  # fmt: skip
        return made

    def result(self, lag: float = 0.001, series: Sequence[Series] = (), gpus: str = "none", **changes: Any) -> Result:
        """What the run says; `changes`: of its environment's configuration."""
        checks = gates.check(self.records, PEOPLE, client=gates.Client(lag=lag, cpu=0.1, dropped=0, clock=0.0))
        loads = ", ".join(f"{level.load:g}" for level in self.levels)
        told = {"UNIT": "users", "SHAPE": "sweep", "LOADS": loads, "engine.parallel": str(self.slots), **changes}
        return build.result(
            self.records, PEOPLE,
            Environment(target="https://localhost:8443", hardware={"GPUs": gpus}, versions={}, configuration=told,
                        seeds={}),
            title="chat: 1, 2, 4 users", started="2026-01-02T03:04:05Z", checks=checks, levels=self.levels,
            series=series,
        )  # fmt: skip


def _label(users: int) -> str:
    return "1 user" if users == 1 else f"{users} users"
