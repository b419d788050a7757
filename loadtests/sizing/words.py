"""The answer in sentences and rows, shared by the page, the summary and the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from loadtests.report.svg import number, seconds
from loadtests.sizing.check import ALLOWED, HeldOut
from loadtests.sizing.sized import Sized
from stack.capacity import cost, usage
from stack.capacity.choose import DOLLAR, Option
from stack.capacity.memory import GIB
from stack.capacity.people import Binds, Range

OFFERED: Final = 8
SHORT: Final = 3
"""Of them, in a terminal."""
GATEWAY: Final = 0.0002
"""Seconds of a core that the gateway takes for a token at an engine's pace, a token a write (docs/benchmarks.md)."""
AT_WORK: Final = "a card at work"
WORDS: Final[Mapping[str, str]] = {
    "tokens of a question with all that goes before it": "INPUT",
    "how much these differ: standard deviation of their logarithm, 0 for all alike": "SPREAD",
    "share of them that the engine still has from the turn before": "CACHED",
    "tokens of an answer": "OUTPUT",
    "seconds from the end of an answer to the next question": "THINK",
    "share of the people with an account that are in a conversation at the peak": "ACTIVE",
    "a host beside its cards, at work": "HOST_W",
    "a host beside its cards, idle": "HOST_IDLE_W",
    "a card that holds a model and does nothing": "CARD_IDLE_W",
    AT_WORK: "CARD_W",
    "hours of a month in which people work": "HOURS",
    "share of the peak's load in those hours, on average": "PEAK_SHARE",
}
"""What is assumed -> the word that changes it."""
BINDS: Final[Mapping[Binds, str]] = {
    Binds.MEMORY: "memory: no room for another slot",
    Binds.SLOTS: "slots: the engine may not work on more answers at once",
    Binds.PREFILL: "prompts, which are computed one after the other",
    Binds.DECODE: "the speed of answers that are written together",
    Binds.ROUTER: "the router",
    Binds.GATEWAY: "the gateway",
    Binds.NETWORK: "the network",
    Binds.NOTHING: "nothing that was looked at",
}
Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Heads and rows."""


def headline(sized: Sized) -> str:
    """The one sentence that comes first."""
    found, answer = sized.found, sized.answer
    box = sized.elsewhere.what if sized.elsewhere else "This box"
    with_model = f" with {sized.model}" if sized.model else ""
    if found is not None and found.value is not None:
        low, high = (int(one) if one is not None else int(found.value) for one in (found.low, found.high))
        return f"{box} serves about {_people(int(found.value))} at once ({low} to {high}){with_model}, as measured."
    active = answer.active
    if answer.planned == 0:
        return f"{box} does not serve even one person as well as is promised{with_model}."
    if answer.serving.plan == "low":
        start = f"Plan with {_people(answer.planned)} at once on this box{with_model}"
        if active.low == active.high:
            return f"{start}; nobody has measured it yet."
        return f"{start}: the estimate is {active.low} to {active.high}, and nobody has measured it yet."
    return f"{box} serves about {_people(active.value)} at once ({active.low} to {active.high}){with_model}."


def accounts(sized: Sized) -> str:
    """How many may have an account; nothing where nobody is served."""
    share, named = sized.answer.usage.active_share, sized.answer.named
    if not sized.answer.planned:
        return ""
    return (
        f"When {share:.0%} of those with an account are in a conversation at the peak, about "
        f"{named.of(sized.answer.serving.plan):,} people may have one."
    )


def promised(sized: Sized) -> str:
    """What served means."""
    slo = sized.asked.slo
    return (
        f"Served means: for {slo.part:.0%} of the requests the first token comes within {seconds(slo.ttft)}, and the "
        f"others at most {seconds(slo.tpot)} apart."
    )


def basis(sized: Sized) -> str:
    """What it is from."""
    if not sized.runs:
        calibrated = sized.box is not None and sized.box.machine is not None
        start = "what this machine was measured to do, else published" if calibrated else "published"
        return f"Modelled from {start} measurements of such cards; a load run on this machine would tell more."
    names = " and ".join(run.name for run in sized.runs)
    doubt = ", which may not be believed: the notes say why" if sized.doubted else ""
    plan = " What the next steps bring is modelled." if sized.box else ""
    if sized.elsewhere is not None:
        return f"Measured by {names}{doubt}, {sized.elsewhere.where}.{plan}"
    return f"Measured on this machine by {names}{doubt}.{plan}"


def binds(sized: Sized) -> str:
    """What stops first."""
    return f"What stops first is {BINDS[sized.answer.binds]}. {sized.answer.why}"


def looked(sized: Sized) -> Table:
    """What could stop first, and whether it was looked at."""
    answer = sized.answer
    room = {None: "not known: whether there is room for another slot", True: "room for another slot", False: "full"}
    share = answer.met.tokens * GATEWAY
    rows = [
        ("memory", room[answer.serving.room]),
        ("slots", f"looked at: {answer.serving.slots}"),
        ("prompts", f"looked at: {number(answer.serving.prefill.value)} tokens/s"),
        ("answers", f"looked at: {number(answer.met.tokens)} tokens/s of all"),
        ("gateway", f"not counted as a limit: so many tokens take it about {share:.1%} of a core"),
        ("router", "not present"),
        ("network", "not looked at"),
    ]
    return ("what may stop first", ""), rows


def assumptions(sized: Sized) -> Table:
    """Every number that is assumed, the word that changes it, and where it is from."""
    rows = []
    measured = {"input_tokens", "input_spread", "output_tokens", "cached"} if sized.runs else set[str]()
    if any(part.users for run in sized.runs for part in run.parts):
        measured.add("think_s")
    measured -= set(sized.asked.usage)
    labels = {usage.ASSUMPTIONS[name].label for name in measured}
    for label, value, unit, source in (*usage.told(sized.answer.usage), *cost.told(sized.asked.habits)):
        said = f"{value:.0%}" if unit == "share" else f"{number(value)} {unit}"
        rows.append((label, said, WORDS[label], "the load run" if label in labels else source))
    if sized.card is not None:
        rows.append((AT_WORK, f"{sized.card.watts:.0f} W", WORDS[AT_WORK], sized.card.source))
    slo = sized.asked.slo
    rows.append(("the first token comes within", seconds(slo.ttft), "SLO", "what people before a screen wait for"))
    rows.append(("the other tokens come at most so far apart", seconds(slo.tpot), "SLO", "about as fast as one reads"))
    return ("what", "value", "word", "from"), rows


def changes(sized: Sized) -> Table:
    """What the next step brings."""
    rows = [
        (
            one.what, "" if one.after is None else f"{one.before} -> {one.after}",
            "measured machine" if one.measured else "modelled", one.why if one.after is not None else f"No: {one.why}",
        )
        for one in sized.changes
    ]  # fmt: skip
    return ("change", "people", "from", "what stops then"), rows


def bought(sized: Sized) -> Table:
    """What to buy, cheapest first."""
    found = sized.choice
    rows = [] if found is None else [_option(one, "") for one in found.sure[:OFFERED]]
    if found is not None and len(rows) < OFFERED:
        rows += [_option(one, "only if it is as quick as expected") for one in found.perhaps[: OFFERED - len(rows)]]
    return ("machine", "slots", "people", "price", "at work", "kWh a month", "with electricity", ""), rows


def _option(one: Option, note: str) -> tuple[str, ...]:
    currency = " " + one.priced if one.price is not None else one.priced
    active = one.active
    return (
        one.box.name, str(one.box.settings.slots), f"{active.low} to {active.value}",
        ("" if one.price is None else number(one.price)) + currency, "" if one.watts is None else f"{one.watts:.0f} W",
        "" if one.kwh is None else number(one.kwh), "" if one.total is None else number(one.total), note,
    )  # fmt: skip


def buying(sized: Sized) -> str:
    """A sentence over that table."""
    found = sized.choice
    if found is None:
        return sized.choice_why
    none = "" if found.sure else " None of the table serves so many by the low end of what is said of it."
    months = f"{sized.asked.market.months:.0f} months"
    market = sized.asked.market
    rate = market.currency == DOLLAR or market.dollar is not None
    unpriced = "" if rate else f" For prices at launch say what one US dollar is in {market.currency} (DOLLAR=0.9)."
    return (
        f"Machines that serve {_people(found.people)} at once, cheapest first; prices are in "
        f"{sized.asked.market.currency}, cards at launch unless they were given. {found.label.capitalize()}. "
        f"The last sum has the electricity of {months}, when its price was given.{unpriced}{none}"
    )


def shortlist(sized: Sized) -> list[str]:
    """The first few of that table, for a terminal."""
    heads, rows = bought(sized)
    said = [", ".join(_told(heads, row)) for row in rows[:SHORT]]
    return ["", buying(sized), *(f"  {line}" for line in said)]


def _told(heads: Sequence[str], row: Sequence[str]) -> Iterator[str]:
    for head, cell in zip(heads, row, strict=True):
        if cell and head in {"machine", "price", "at work", ""}:
            yield cell
        elif cell:
            yield f"{cell} {head}"


def money(sized: Sized) -> list[tuple[str, str]]:
    """Power and money, a row for each figure."""
    bill = sized.bill
    if bill is None:
        return []
    unit = bill.currency
    rows = [
        ("at work", "" if sized.watts is None else f"{sized.watts:.0f} W"),
        ("energy of a month", f"{number(bill.kwh)} kWh"),
        ("answers of a month", f"{number(bill.tokens_out)} million tokens"),
        ("prompts of a month", f"{number(bill.tokens_in)} million tokens"),
    ]
    sums = (
        ("electricity of a month", bill.energy), ("to be paid at the start", bill.capital),
        ("a million tokens of answers, electricity at work", bill.energy_per_million),
        ("a million tokens of answers, all costs", bill.total_per_million),
        ("the same month at the API", bill.api),
    )  # fmt: skip
    rows += [(name, "price not given" if value is None else f"{number(value)} {unit}") for name, value in sums]
    return [row for row in rows if row[1]]


def payback(sized: Sized) -> str:
    """A sentence."""
    return sized.bill_why if sized.bill is None else sized.bill.why


def beside(sized: Sized) -> Table:
    """What one host needs beside its cards."""
    rows: list[tuple[str, ...]] = []
    if sized.beside is not None:
        for name, parts in (
            ("system memory", sized.beside.memory), ("disk", sized.beside.disk), ("cores", sized.beside.cores),
        ):  # fmt: skip
            unit, scale = ("", 1.0) if name == "cores" else (" GiB", float(GIB))
            rows += [(name, part.what, f"{number(part.amount / scale)}{unit}", part.source) for part in parts]
            rows.append((name, "together", f"{number(sum(part.amount for part in parts) / scale)}{unit}", ""))
    return ("", "for", "", "from"), rows


def checked(held: Sequence[HeldOut]) -> Table:
    """The held-out check."""
    rows = []
    for one in held:
        off = one.why if one.off is None else f"{one.off:+.1%}"
        said = "" if one.predicted is None else f"{number(one.predicted)} tokens/s"
        rows.append((one.word, one.label, ", ".join(one.fitted_on), said, f"{number(one.measured)} tokens/s", off))
    return ("", "left out", "predicted from", "predicted", "measured", f"off (at most {ALLOWED:.0%})"), rows


def _people(count: int) -> str:
    return "1 person" if count == 1 else f"{count:,} people"


def interval(one: Range) -> str:
    """A range for people."""
    return f"{one.low} to {one.high}"
