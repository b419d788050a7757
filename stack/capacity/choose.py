"""What to buy for so many people: every card of the table, one, two or four of them, one host or two. Pure.

All of it is modelled: nobody measured these machines with this model. A machine is offered when the low end of what is
said of it serves everybody; those that only do so by what is expected are listed apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType
from typing import Final, Literal

from stack.capacity.box import Box, NoRoomError, serving
from stack.capacity.cost import CostError, Habits, kwh_per_month, power
from stack.capacity.devices import Device, devices
from stack.capacity.facts import Known, rows
from stack.capacity.fit import Settings
from stack.capacity.people import Range, meet, most, refuse, within
from stack.capacity.serving import CASES, Case, Serving, Speeds
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
    active: Range
    """How many it serves: modelled."""
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
    reached: Callable[[int, int], None] | None = None,
) -> Choice:
    """Machines for `count` active people. Slots are chosen, `settings.slots` does not matter.

    It takes a while; `reached` is given how many cards were looked at, and how many there are.

    Raises ChooseError for a model that is not known well enough, and for a number of people that cannot be planned for;
    PeopleError for questions that are longer than a slot.
    """
    if not 1 <= count <= MOST:
        raise ChooseError(f"{count} people: between 1 and {MOST} can be chosen for")
    if known is None or known.guessed:
        raise ChooseError(
            "what this model is made of is not known, only guessed: give its file (GGUF=) or a name of the table"
        )
    if known.embeds or not known.shape.caches:
        raise ChooseError(f"{known.shape.name} is for embeddings: people talk to another model, choose for that one")
    refuse(usage, settings.context)
    sure: list[Option] = []
    perhaps: list[Option] = []
    refused: dict[str, int] = {}
    looked = list(devices().values() if among is None else among)
    for done, device in enumerate(looked):
        if reached is not None:
            reached(done, len(looked))
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
    box, active = _roomiest(box, usage, slo, case)
    card, priced = market.of(box.device)
    host = 0.0 if box.device.whole else market.host or 0.0
    price = None if card is None else box.hosts * (box.cards * card + host)
    watts = kwh = total = None
    try:
        draws = power(box, habits)
    except CostError:
        pass  # what it draws is not known
    else:
        watts = draws.busy
        kwh = kwh_per_month(draws, meet(count, usage, slo, serving(box, usage), case).busy * habits.share)
        total = None if price is None or market.kwh is None else price + kwh * market.kwh * market.months
    return Option(box=box, active=active, price=price, priced=priced, watts=watts, kwh=kwh, total=total)


def _roomiest(box: Box, usage: Usage, slo: Slo, case: Literal["low", "value"]) -> tuple[Box, Range]:
    """The same with the slots that serve the most: who buys it gets all of that, not only what was asked for.

    Where prompts are the limit, more slots change only what is expected.
    """
    made: dict[int, Serving] = {}

    @cache  # each of these takes a while where thousands are served
    def served(slots: int, case: Case) -> int:
        return most(usage, slo, made[slots], case)

    best = box.settings.slots
    for slots in (slots for slots in SLOTS if slots >= best):
        try:
            made[slots] = serving(_with(box, slots), usage)
            now, then = served(slots, case), served(best, case)
            if now > then or (now == then and served(slots, "value") > served(best, "value")):
                best = slots
        except PeopleError:
            break  # no room, or nobody can say: nor with more
    return _with(box, best), Range(**{case: served(best, case) for case in CASES})


def _with(box: Box, slots: int) -> Box:
    return replace(box, settings=replace(box.settings, slots=slots))


def _rank(option: Option) -> tuple[bool, float, bool, float, str]:
    cost = option.total if option.total is not None else option.price
    return (cost is None, cost or 0.0, option.watts is None, option.watts or 0.0, option.box.name)
