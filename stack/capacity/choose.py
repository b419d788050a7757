"""What to buy for so many people: every card of the table, one, two or four of them, one host or two. Pure.

All of it is modelled: nobody measured these machines with this model. A machine is offered when the low end of what is
said of it serves everybody; those that only do so by what is expected are listed apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType
from typing import Final, Literal

from stack.capacity.box import Box, NoRoomError, serving
from stack.capacity.cost import CostError, Habits, kwh_per_month, power
from stack.capacity.devices import Device, devices
from stack.capacity.facts import Known, rows
from stack.capacity.fit import Settings
from stack.capacity.people import Answer, meet, most, people, within
from stack.capacity.serving import Serving, Speeds
from stack.capacity.usage import PeopleError, Slo, Usage

COUNTS: Final = ((1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (2, 4))  # hosts, cards of each, fewest cards first
SLOTS: Final = (1, 2, 4, 8, 16, 32)
DOLLAR: Final = "USD"
NO_ROOM: Final = "no room for the model"
MOST: Final = 5_000  # people that one choice is made for


class ChooseError(ValueError):
    """Nothing can be chosen; the text says why and what would help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What things cost today. Without a price of its own a card has the one of its launch, if that can be told."""

    currency: str
    cards: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Card -> price of one."""
    dollar: float | None = None
    """What one US dollar is: launch prices are in dollars. Not needed when the currency is USD."""
    host: float | None = None
    """Of a host without cards; None leaves it out."""
    kwh: float | None = None
    """Of electricity; None leaves it out."""
    months: float = 36.0
    """Of electricity that are counted."""

    def __post_init__(self) -> None:
        """Raises ChooseError for prices that cannot be and cards that there are not."""
        given = [*self.cards.values(), *(one for one in (self.host, self.kwh) if one is not None)]
        if not self.currency.strip() or min(given, default=0) < 0 or self.months <= 0:
            raise ChooseError("prices are 0 or more, in a currency with a name, and months are above 0")
        if self.dollar is not None and self.dollar <= 0:
            raise ChooseError(f"one US dollar cannot be {self.dollar} {self.currency}")
        if wrong := sorted(set(self.cards) - set(devices())):
            raise ChooseError(f"{wrong[0]!r} has a price and is no card of stack/capacity/data/devices.csv")

    def of(self, device: Device) -> tuple[float | None, str]:
        """Price of one card and where it is from."""
        if device.id in self.cards:
            return self.cards[device.id], "given"
        rate = 1.0 if self.currency == DOLLAR else self.dollar
        if device.price is None or rate is None:
            return None, "no price"
        return device.price * rate, "at launch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One machine that could be bought."""

    box: Box
    usage: Usage
    slo: Slo
    price: float | None
    """Of all cards, and hosts when their price was given; None without a card's price."""
    priced: str
    """given, at launch, or no price."""
    watts: float | None
    """At work, all of it; None where a card's power is not known."""
    kwh: float | None
    """Of a month, with as many people as were asked for."""
    total: float | None
    """`price` and the electricity of `Market.months`, when its price was given."""

    @property
    def answer(self) -> Answer:
        """How many it serves: modelled, with its interval. Computed anew each time."""
        return people(self.usage, self.slo, serving(self.box, self.usage))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What could be bought, cheapest first; those without a price last, those that draw least first."""

    people: int
    label: str
    sure: tuple[Option, ...]
    """Serve everybody by the low end of what is said of them."""
    perhaps: tuple[Option, ...]
    """Only by what is expected."""
    refused: Mapping[str, int]
    """Why others are not there -> how many cards."""


def choose(
    count: int,
    known: Known | None,
    settings: Settings,
    usage: Usage,
    slo: Slo,
    market: Market,
    *,
    habits: Habits | None = None,
    reserved: int = 0,
    among: Sequence[Device] | None = None,
) -> Choice:
    """Machines for `count` active people. Slots are chosen, `settings.slots` does not matter.

    Raises ChooseError for a model that is not known well enough, and for a number of people that cannot be planned for.
    """
    if not 1 <= count <= MOST:
        raise ChooseError(f"{count} people: between 1 and {MOST} can be chosen for")
    if known is None or known.guessed:
        raise ChooseError(
            "what this model is made of is not known, only guessed: give its file (GGUF=) or a name of the table"
        )
    if known.embeds or not known.shape.caches:
        raise ChooseError(f"{known.shape.name} is for embeddings: people talk to another model, choose for that one")
    sure: list[Option] = []
    perhaps: list[Option] = []
    refused: dict[str, int] = {}
    for device in devices().values() if among is None else among:
        box = Box(known=known, device=device, settings=settings, reserved=reserved)
        found, maybe, why = _smallest(count, box, usage, slo)
        if found:
            sure.append(_option(count, found, usage, slo, market, habits or Habits(), "low"))
        if maybe:
            perhaps.append(_option(count, maybe, usage, slo, market, habits or Habits(), "value"))
        if not (found or maybe):
            refused[why] = refused.get(why, 0) + 1
    return Choice(
        people=count,
        label="modelled: no such machine was measured with this model",
        sure=tuple(sorted(sure, key=_rank)),
        perhaps=tuple(sorted(perhaps, key=_rank)),
        refused=refused,
    )


@cache
def not_planned() -> Mapping[str, str]:
    """Cards of the table that no engine of today uses as one card -> why."""
    return {row["id"]: row["why"] for row in rows("not_planned")}


def _smallest(count: int, box: Box, usage: Usage, slo: Slo) -> tuple[Box | None, Box | None, str]:
    """The fewest of these cards that serve everybody: surely, and (when that is fewer) as expected; or why none do."""
    if box.device.id in not_planned():
        return None, None, "no card for this: data/not_planned.csv says why"
    maybe: Box | None = None
    why = NO_ROOM
    for hosts, cards in COUNTS:
        if cards > 1 and box.device.whole:
            continue
        for slots in SLOTS:
            tried = replace(box, hosts=hosts, cards=cards, settings=replace(box.settings, slots=slots))
            try:
                serves = serving(tried, usage)
            except NoRoomError:
                break  # nor is there for more slots
            except PeopleError:
                why = "nobody can say how quick it is" if why == NO_ROOM else why
                break  # nor can anybody with more slots
            why = f"two hosts with four cards each serve fewer than {count}"
            if _serves(count, usage, slo, serves, "low"):
                return tried, maybe if maybe and (maybe.hosts, maybe.cards) != (hosts, cards) else None, ""
            if maybe is None and _serves(count, usage, slo, serves, "value"):
                maybe = tried
    return None, maybe, why


def _serves(count: int, usage: Usage, slo: Slo, serves: Serving, case: Literal["low", "value"]) -> bool:
    fastest = Speeds(serves, usage, case).ends(serves.slots)
    if count / fastest - usage.think_s > slo.ttft + usage.output_tokens * slo.tpot:
        return False  # Little's law: requests take longer than the objectives allow, however they come
    try:
        return within(meet(count, usage, slo, serves, case), slo)
    except PeopleError:
        return False


def _option(
    count: int, box: Box, usage: Usage, slo: Slo, market: Market, habits: Habits, case: Literal["low", "value"]
) -> Option:
    box = _roomiest(box, usage, slo, case)
    card, priced = market.of(box.device)
    host = 0.0 if box.device.whole else market.host or 0.0
    price = None if card is None else box.hosts * (box.cards * card + host)
    try:
        draws = power(box, habits)
    except CostError:
        return Option(box=box, usage=usage, slo=slo, price=price, priced=priced, watts=None, kwh=None, total=None)
    busy = meet(count, usage, slo, serving(box, usage), case).busy
    kwh = kwh_per_month(draws, busy * habits.share)
    total = None if price is None or market.kwh is None else price + kwh * market.kwh * market.months
    return Option(box=box, usage=usage, slo=slo, price=price, priced=priced, watts=draws.busy, kwh=kwh, total=total)


def _roomiest(box: Box, usage: Usage, slo: Slo, case: Literal["low", "value"]) -> Box:
    """The same with the slots that serve the most: who buys it gets all of that, not only what was asked for."""
    best, served = box, (0, 0)
    for slots in (slots for slots in SLOTS if slots >= box.settings.slots):
        tried = replace(box, settings=replace(box.settings, slots=slots))
        try:
            serves = serving(tried, usage)
            if (now := most(usage, slo, serves, case)) < served[0]:
                continue
            both = now, most(usage, slo, serves, "value")  # where prompts are the limit, slots change this one only
        except PeopleError:
            break  # no room, or nobody can say: nor with more
        best, served = (tried, both) if both > served else (best, served)
    return best


def _rank(option: Option) -> tuple[bool, float, bool, float, str]:
    cost = option.total if option.total is not None else option.price
    return (cost is None, cost or 0.0, option.watts is None, option.watts or 0.0, option.box.name)
