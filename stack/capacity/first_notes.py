"""The hardware figures of the first notes (docs/adr/seeds.md), each beside what the planner says of the same. Pure.

`data/first_notes.csv` has every figure with its document, and a sentence where the two are more than a quarter apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from stack.capacity import cost, fits, roofline, speed
from stack.capacity.box import Box, serving
from stack.capacity.cost import Beside, Habits
from stack.capacity.devices import Device, find
from stack.capacity.facts import Known, Row, model, rows
from stack.capacity.fit import Host, Settings, place
from stack.capacity.memory import GIB
from stack.capacity.people import people
from stack.capacity.shape import Shape
from stack.capacity.steps import widest
from stack.capacity.usage import PeopleError, Slo, Usage

APART: Final = 0.25  # beyond, a sentence says why
CONTEXT: Final = 8192  # tokens of each slot, everywhere on this page
DEPTH: Final = 512  # tokens behind an answer whose speed alone is told
GB: Final = 1e9
# Two channels of DDR4-3200 and of DDR5-5600: what is printed on them, bytes a second. About 0.7 of it arrives.
SYSTEM_MEMORY: Final = (51.2e9, 89.6e9)
ARRIVES: Final = 0.7
ACCOUNTS: Final = 30
EVENT: Final = 300  # bytes of one token as a server-sent event, with TLS around it
VECTORS: Final = (384, 1024)  # numbers of one vector: all-minilm, bge-m3
PRICE: Final = 0.30  # EUR a kWh, the notes' own

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of the notes and ours."""

    document: str
    says: str
    theirs: Interval
    ours: Interval
    unit: str
    basis: str
    """What ours is of."""
    why: str
    """Why they are apart; empty where they are not."""

    @property
    def apart(self) -> float:
        """How far ours lies outside of theirs, as a share of theirs; 0 when they overlap."""
        if self.ours[0] > self.theirs[1]:
            return self.ours[0] / self.theirs[1] - 1
        if self.ours[1] < self.theirs[0]:
            return self.ours[1] / self.theirs[0] - 1
        return 0.0

    @property
    def differs(self) -> bool:
        """Whether a sentence has to say why."""
        return abs(self.apart) > APART


def settings(slots: int) -> Settings:
    """The settings of this page."""
    return Settings(context=CONTEXT, slots=slots, flash_attention=True)


def known(name: str) -> Known:
    """A model of the table. Raises PeopleError for another one."""
    found = model(name)
    if found is None:
        raise PeopleError(f"{name} is in no table")
    return found


@cache
def figures() -> tuple[Figure, ...]:
    """All of them, in the order of the documents."""
    return tuple(_figure(row) for row in rows("first_notes"))


def _figure(row: Row) -> Figure:
    ours, basis = QUANTITIES[row["quantity"]](_Asked(row))
    return Figure(
        document=row["document"],
        says=row["says"],
        theirs=(float(row["low"]), float(row["high"] or math.inf)),
        ours=ours,
        unit=row["unit"],
        basis=basis,
        why=row["why"],
    )


class _Asked:
    """What one row asks for."""

    def __init__(self, row: Row) -> None:
        self.models = row["model"].split()
        self.devices = row["device"].split()
        self.cards = int(row["cards"] or 1)
        self.slots = int(row["slots"] or 1)

    @property
    def shape(self) -> Shape:
        return known(self.models[0]).shape

    @property
    def device(self) -> Device:
        return find(self.devices[0])

    def boxes(self) -> list[Box]:
        return [
            Box(known=known(name), device=self.device, cards=self.cards, settings=settings(self.slots))
            for name in self.models
        ]

    @property
    def card(self) -> str:
        name = self.device.id.removeprefix("nvidia-")
        return f"{self.cards} x {name}" if self.cards > 1 else name


Said = tuple[Interval, str]


def _vram(asked: _Asked) -> Said:
    host = Host(name="one card", memory=(1 << 50,))
    need = place(host, known(asked.models[0]), settings(asked.slots)).need.total / GIB
    return (need, need), f"{asked.models[0]}, {asked.slots} slot of {CONTEXT} tokens"


def _file(asked: _Asked) -> Said:
    size = sum(known(name).shape.size for name in asked.models) / GB
    return (size, size), ", ".join(asked.models)


def _alone(asked: _Asked) -> Said:
    said = speed.decode(roofline.work(asked.shape), roofline.card(asked.device, asked.cards), DEPTH)
    return (said.low, said.high), f"{asked.models[0]}, {asked.card}"


def _token(asked: _Asked) -> Said:
    (low, high), basis = _alone(asked)
    return (1000 / high, 1000 / low), basis


def _cpu(asked: _Asked) -> Said:
    reads = roofline.work(asked.shape).reads(DEPTH)
    low, high = (ARRIVES * printed / reads for printed in SYSTEM_MEMORY)
    return (low, high), f"{asked.models[0]}, two channels of DDR4-3200 to DDR5-5600"


def _cpu_token(asked: _Asked) -> Said:
    (low, high), basis = _cpu(asked)
    return (1000 / high, 1000 / low), basis


def _cpu_memory(asked: _Asked) -> Said:
    one = known(asked.models[0])
    need = place(Host(name="processors", memory=(1 << 50,), cpu=True), one, settings(1)).need.total
    whole = (need + cost.SYSTEM + cost.SERVICES) / GB
    return (whole, whole), f"{asked.models[0]} with its cache, system and services"


def _cpu_people(asked: _Asked) -> Said:
    (low, high), basis = _cpu(asked)
    least, most = (1.0 if 1 / rate <= Slo().tpot else 0.0 for rate in (low, high))
    return (least, most), f"{basis}, by its answers; nobody published prompts"


def _offload(asked: _Asked) -> Said:
    host = Host(name=asked.card, memory=(asked.device.memory,))
    lies = place(host, known(asked.models[0]), settings(1))
    outside = max(0.0, min(1.0, -lies.free / lies.need.weights))
    card = roofline.card(asked.device)
    low, high = (
        speed.offloaded(
            roofline.work(asked.shape),
            card,
            DEPTH,
            outside=outside,
            system=ARRIVES * printed,
            constants=fits.fitted(card.kind),
        ).value
        for printed in SYSTEM_MEMORY
    )
    return (low, high), f"{asked.models[0]}, {asked.card}, {outside:.0%} of it outside"


def _people(asked: _Asked) -> Said:
    served, best = _served(asked.boxes()[0])
    slots = f"{best.settings.slots} slots" + (" each" if serving(best, Usage()).engines > 1 else "")
    return served, f"{asked.models[0]}, {asked.card}, {slots}"


def _served(box: Box) -> tuple[Interval, Box]:
    best = widest(box, Usage(), Slo())
    found = people(Usage(), Slo(), serving(best, Usage())).active
    return (float(found.low), float(found.value)), best


def _versus(asked: _Asked) -> Said:
    one, other = (find(name) for name in asked.devices)
    box = asked.boxes()[0]
    (low, value), _ = _served(box)
    (low_two, value_two), _ = _served(Box(known=box.known, device=other, hosts=2, settings=box.settings))
    ratios = sorted((low / max(low_two, 1), value / max(value_two, 1)))
    basis = f"{asked.models[0]}: {low:.0f} to {value:.0f} people, two servers {low_two:.0f} to {value_two:.0f}"
    return (ratios[0], ratios[1]), f"{basis} ({one.id.removeprefix('nvidia-')})"


def _beside(asked: _Asked) -> Beside:
    return cost.beside(asked.boxes(), people=ACCOUNTS, tokens=1000)


def _memory(asked: _Asked) -> Said:
    return _whole(Beside.total(_beside(asked).memory) / GB, ", ".join(asked.models))


def _disk(asked: _Asked) -> Said:
    return _whole(Beside.total(_beside(asked).disk) / GB, f"{', '.join(asked.models)}, {ACCOUNTS} accounts")


def _cores(asked: _Asked) -> Said:
    return _whole(Beside.total(_beside(asked).cores), f"{asked.card}, beside embeddings on processors")


def _network(asked: _Asked) -> Said:
    box = widest(asked.boxes()[0], Usage(), Slo())
    rates = [speed.high for speed in serving(box, Usage()).decode]
    return _whole(max(rates) * EVENT * 8 / 1e9, f"all {box.settings.slots} slots at work, {EVENT} bytes a token")


def _vectors(asked: _Asked) -> Said:
    low, high = (1e6 * numbers * 4 / GB for numbers in VECTORS)
    return (low, high), "a million vectors of 384 to 1024 numbers, without their texts"


def _chats(asked: _Asked) -> Said:
    return _whole(asked.cards * cost.CHATS / GB, f"{asked.cards} accounts")


def _board(asked: _Asked) -> Said:
    return _whole(asked.device.power or 0.0, "board power as printed")


def _watts(asked: _Asked) -> Said:
    box = Box(known=known("qwen3:8b"), device=asked.device, settings=settings(1))
    return _whole(cost.power(box, Habits()).busy, "board power and the rest")


def _continuous(asked: _Asked) -> Said:
    (watts, _), basis = _watts(asked)
    return _whole(0.730 * watts, f"{basis}, all of the month at work")


def _money(asked: _Asked) -> Said:
    (kwh, _), basis = _continuous(asked)
    return _whole(PRICE * kwh, basis)


def _whole(value: float, basis: str) -> Said:
    return (value, value), basis


QUANTITIES: Final[Mapping[str, Callable[[_Asked], Said]]] = {
    "vram": _vram,
    "file": _file,
    "files": _file,
    "alone": _alone,
    "token": _token,
    "cpu": _cpu,
    "cpu-token": _cpu_token,
    "cpu-memory": _cpu_memory,
    "cpu-people": _cpu_people,
    "offload": _offload,
    "people": _people,
    "versus": _versus,
    "memory": _memory,
    "disk": _disk,
    "cores": _cores,
    "network": _network,
    "vectors": _vectors,
    "chats": _chats,
    "metrics": lambda _: _whole(cost.METRICS / GB, "metrics of 30 days, logs"),
    "system": lambda _: _whole(cost.SYSTEM_DISK / GB, "a Debian with Docker"),
    "board": _board,
    "rest": lambda _: _whole(Habits().host_busy_w, "an assumption that can be changed"),
    "watts": _watts,
    "continuous": _continuous,
    "money": _money,
}
