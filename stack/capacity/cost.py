"""Money: power and price of a machine, a month and a million tokens, payback; what it needs beside the cards. Pure.

No price has a default: cards, electricity and the API to compare with cost what they cost where the question is asked.
Watts and hours have defaults that say where they are from. The currency is a word, all prices are in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from stack.capacity.box import Box, placed
from stack.capacity.fit import Verdict
from stack.capacity.memory import GIB
from stack.capacity.people import Met
from stack.capacity.usage import Assumption, Told, Usage, sources

HOURS: Final = 730.0  # of a month
MILLION: Final = 1e6
GATEWAY: Final = 424_000  # tokens for a second of one core (docs/benchmarks.md)


class CostError(ValueError):
    """There is no answer for this; the text says why and what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How a machine spends its month, and what it draws beside its cards. Watts at the wall, per host or card."""

    host_busy_w: float = 120.0
    host_idle_w: float = 50.0
    card_idle_w: float = 30.0
    hours: float = 160.0
    load: float = 0.5

    def __post_init__(self) -> None:
        """Raises CostError for numbers that cannot be."""
        watts = (self.host_busy_w, self.host_idle_w, self.card_idle_w)
        if not all(0 <= one < math.inf for one in watts):
            raise CostError("watts are 0 or more")
        if not (0 <= self.hours <= HOURS and 0 <= self.load <= 1):
            raise CostError(f"a month has {HOURS:.0f} hours, and the load is a share of the peak from 0 to 1")

    @property
    def share(self) -> float:
        """Of a month at the peak's load that has the same work as this month, 0 to 1."""
        return self.hours * self.load / HOURS


ASSUMPTIONS: Final[Mapping[str, Assumption]] = {
    "host_busy_w": Assumption(
        label="a host beside its cards, at work",
        unit="W",
        allowed="0 or more",
        source="the first notes say 100 to 150 W",
    ),
    "host_idle_w": Assumption(
        label="a host beside its cards, idle",
        unit="W",
        allowed="0 or more",
        source="assumption: 48 W were measured of a PC with a card (geerlingguy/ai-benchmarks)",
    ),
    "card_idle_w": Assumption(
        label="a card that holds a model and does nothing",
        unit="W",
        allowed="0 or more",
        source="assumption: 26 to 66 W were measured of cards for servers (arXiv 2605.23918), 10 to 45 W of others",
    ),
    "hours": Assumption(
        label="hours of a month in which people work",
        unit="h",
        allowed="0 to 730",
        source="assumption: 8 hours on 20 days",
    ),
    "load": Assumption(
        label="share of the peak's load in those hours, on average",
        unit="share",
        allowed="0 to 1",
        source="assumption",
    ),
}


def told(habits: Habits) -> list[Told]:
    """Each number of `habits`."""
    return sources(ASSUMPTIONS, asdict(habits), asdict(Habits()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What things cost where the question is asked. What is not given is left out of the answer, and it says so."""

    currency: str
    kwh: float | None = None
    card: float | None = None
    """One of them."""
    host: float | None = None
    """One of them, without cards."""
    months: float = 36.0
    """Over which what was bought is written off."""
    api_input: float | None = None
    """An API's price of a million tokens of prompts."""
    api_output: float | None = None
    """The same of answers."""

    def __post_init__(self) -> None:
        """Raises CostError for prices that cannot be."""
        given = [one for one in (self.kwh, self.card, self.host, self.api_input, self.api_output) if one is not None]
        if not self.currency.strip() or not all(0 <= one < math.inf for one in given) or not self.months > 0:
            raise CostError("prices are 0 or more, in a currency with a name, and months are above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Watts of a whole machine, all hosts."""

    busy: float
    idle: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """A machine's month. Money is in the currency; None where a price was not given."""

    currency: str
    kwh: float
    tokens_in: float
    """Millions of tokens of prompts."""
    tokens_out: float
    """The same of answers."""
    energy: float | None
    capital: float | None
    """To be paid at the start."""
    energy_per_million: float | None
    """Of a million tokens of answers, while the machine is at work: what one more costs."""
    total_per_million: float | None
    """Of the same, with idle hours and what is written off."""
    api: float | None
    """What the API would have cost."""
    payback: float | None
    """Months until what was paid is earned; None when it never is, or a price is missing."""
    why: str
    """A sentence about the payback."""


def power(box: Box, habits: Habits, watts: float | None = None) -> Power:
    """What it draws. `watts`: measured of one card at work; else its board power. Raises CostError for neither."""
    card = watts if watts is not None else box.device.power
    if card is None:
        raise CostError(f"{box.device.id}: its power is not known; give the watts of one card at work")
    cards = box.cards * box.hosts
    around = 0 if box.device.whole else box.hosts
    return Power(
        busy=cards * card + around * habits.host_busy_w,
        idle=cards * min(habits.card_idle_w, card) + around * habits.host_idle_w,
    )


def kwh_per_month(draws: Power, busy: float) -> float:
    """Energy of a month with this share (0 to 1) at work: 0.730 x (share x busy + rest x idle), kWh."""
    return HOURS / 1000 * (busy * draws.busy + (1 - busy) * draws.idle)


def per_million(draws: Power, tokens: float, kwh: float) -> float:
    """Price of the energy of a million tokens at so many tokens/s: W x price / (3.6 x tokens/s)."""
    if tokens <= 0:
        raise CostError("a machine that says nothing has no price for a million tokens")
    return draws.busy * kwh / (3.6 * tokens)


def bill(box: Box, usage: Usage, met: Met, habits: Habits, prices: Prices, *, watts: float | None = None) -> Bill:
    """The month of a machine whose people at the peak meet `met`. Raises CostError when its power is not known."""
    draws = power(box, habits, watts)
    busy = met.busy * habits.share
    kwh = kwh_per_month(draws, busy)
    seconds = HOURS * 3600 * habits.share
    tokens_out, tokens_in = met.tokens * seconds / MILLION, met.requests * usage.input_tokens * seconds / MILLION
    energy = None if prices.kwh is None else kwh * prices.kwh
    host = 0.0 if box.device.whole else prices.host
    capital = None if prices.card is None or host is None else box.hosts * (host + box.cards * prices.card)
    whole = None if energy is None or capital is None else energy + capital / prices.months
    api = (
        None
        if prices.api_output is None or prices.api_input is None
        else tokens_out * prices.api_output + tokens_in * prices.api_input
    )
    payback, why = _payback(capital, energy, api, prices.currency)
    at_work = met.tokens / met.busy if met.busy else 0.0
    return Bill(
        currency=prices.currency,
        kwh=kwh,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        energy=energy,
        capital=capital,
        energy_per_million=None if prices.kwh is None or not at_work else per_million(draws, at_work, prices.kwh),
        total_per_million=None if whole is None or not tokens_out else whole / tokens_out,
        api=api,
        payback=payback,
        why=why,
    )


def _payback(capital: float | None, energy: float | None, api: float | None, currency: str) -> tuple[float | None, str]:
    missing = [
        name
        for name, value in (
            ("of card and host", capital),
            ("of electricity", energy),
            ("of an API, for prompts and answers", api),
        )
        if value is None
    ]
    if capital is None or energy is None or api is None:
        return None, f"No payback without the price {' and the price '.join(missing)}."
    if api <= energy:
        return None, (
            f"It never pays back: the API would cost {api:.2f} {currency} a month, electricity alone is {energy:.2f}."
        )
    months = capital / (api - energy)
    return months, (
        f"{capital:.0f} {currency} are earned in {months:.1f} months: the API would cost {api:.2f} a month, "
        f"electricity is {energy:.2f}."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of what is needed: how much, and why."""

    what: str
    amount: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What one host needs beside its cards: memory and disk in bytes, cores as a count."""

    memory: tuple[Part, ...]
    disk: tuple[Part, ...]
    cores: tuple[Part, ...]

    @staticmethod
    def total(parts: Sequence[Part]) -> float:
        """The sum."""
        return math.fsum(part.amount for part in parts)


SERVICES: Final = 5 * GIB  # the limits of gateway, chat, vectors, metrics as they are configured by default, rounded up
SYSTEM: Final = 2 * GIB
PROCESS: Final = GIB
SYSTEM_DISK: Final = 20 * GIB
IMAGES: Final = 20 * GIB
METRICS: Final = 15 * GIB
CHATS: Final = GIB // 10
VECTORS: Final = 5 * GIB


def beside(boxes: Sequence[Box], *, people: int, tokens: float, services: int = SERVICES) -> Beside:
    """What one host needs on which these models run together. `people`: accounts; `tokens`: tokens/s at the peak.

    `services`: bytes that the other containers may use. Raises CostError for no model.
    """
    if not boxes:
        raise CostError("a host without a model needs nothing that could be planned")
    engines = sum(_engines(box) for box in boxes)
    shapes = [box.known.shape for box in boxes]
    largest = max(shapes, key=lambda shape: shape.size)
    embeddings = sum(0 if shape.tied else shape.embedding for shape in shapes)
    files = sum(shape.size + shape.projector for shape in shapes)
    return Beside(
        memory=(
            Part(what="system and Docker", amount=SYSTEM, source="assumption"),
            Part(what="gateway, chat, vectors, metrics", amount=services, source="the limits of their containers"),
            Part(what=f"engine processes ({engines})", amount=engines * PROCESS, source="assumption: 1 GiB each"),
            Part(what="token embeddings, which stay in system memory", amount=embeddings, source="the models"),
            Part(
                what=f"the largest file, {largest.name}, kept by the system for the next start",
                amount=largest.size,
                source="the model; without it a start reads from disk",
            ),
        ),
        disk=(
            Part(what="system and packages", amount=SYSTEM_DISK, source="the first notes"),
            Part(what="container images", amount=IMAGES, source="assumption: three releases of each"),
            Part(what="models", amount=files, source="the models"),
            Part(
                what=f"the next release of {largest.name}, while both are there",
                amount=largest.size,
                source="the model",
            ),
            Part(what="metrics and logs", amount=METRICS, source="the first notes say 10 to 20 GB"),
            Part(what=f"chats of {people} people", amount=people * CHATS, source="assumption: 0.1 GiB each"),
            Part(what="vectors of documents", amount=VECTORS, source="the first notes say 1 to 10 GB"),
        ),
        cores=(
            Part(what=f"engine processes ({engines})", amount=engines, source="one core feeds each card that works"),
            Part(what="gateway", amount=max(tokens / GATEWAY, 0.1), source="424,000 tokens a core-second, measured"),
            Part(what="chat, vectors, metrics", amount=2, source="assumption"),
        ),
    )


def _engines(box: Box) -> int:
    """On one host."""
    lies, engines = placed(box)
    if lies.verdict is Verdict.NO:
        raise CostError(f"{lies.model} does not fit {box.name}: what it needs beside is of no use")
    return engines // box.hosts
