"""docs/hardware.md: what people need which hardware, all of it computed here. Pure, but for `main`.

`python -m stack.capacity.guide` writes the page; with `--check` it says whether the page is the one that is there.
"""

from __future__ import annotations

import math
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Final

from stack.capacity import cost, roofline, speed, usage
from stack.capacity.box import Box, serving
from stack.capacity.choose import Market, Option, choose
from stack.capacity.cost import Beside, Habits
from stack.capacity.devices import Device, devices, find
from stack.capacity.facts import requantized
from stack.capacity.first_notes import ACCOUNTS, APART, CONTEXT, DEPTH, GB, Figure, figures, known, settings
from stack.capacity.fit import Host, place
from stack.capacity.memory import GIB
from stack.capacity.people import Range, people
from stack.capacity.steps import widest
from stack.capacity.usage import PeopleError, Slo, Usage

PAGE: Final = Path(__file__).parents[2] / "docs" / "hardware.md"
WIDTH: Final = 120
SLOTS: Final = 4
MODELS: Final = ("qwen3:8b", "gpt-oss:20b", "mistral-small:24b", "qwen3:30b", "qwen3:32b", "llama3.3:70b")
LARGE: Final = ("qwen3.6:35b", "gpt-oss:120b", "deepseek-r1:671b")
BOUGHT: Final = ("qwen3:8b", "mistral-small:24b", "qwen3:30b", "llama3.3:70b")
PEOPLE: Final = (5, 20, 50)
OFFERED: Final = 3
QUANTIZATIONS: Final = ("Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16")
# Cards of each size and vendor; the whole table is data/devices.csv.
CARDS: Final = (
    "nvidia-rtx-3060",
    "nvidia-rtx-4060-ti-16",
    "nvidia-rtx-5060-ti-16",
    "nvidia-rtx-5070-ti",
    "nvidia-rtx-3090",
    "nvidia-rtx-4090",
    "amd-rx-7900-xtx",
    "nvidia-rtx-5090",
    "amd-radeon-ai-pro-r9700",
    "nvidia-rtx-a6000",
    "nvidia-l40s",
    "nvidia-a100-pcie-80",
    "nvidia-h100-sxm-80",
    "nvidia-rtx-pro-6000-blackwell-workstation",
    "nvidia-dgx-spark-gb10",
)

INTRO: Final = """# Hardware

How many people which hardware serves with which model, what a model takes, and what the first notes said of it.

This page is generated (`python -m stack.capacity.guide`). Everything on it is modelled from published measurements of
cards and models; no platform was measured on them. Where there are two numbers, the first is the low end and the second
what is expected. **Plan with the low end**: where several answers at once were not measured, what is expected is nearly
always too much. How far off all this is, on measurements that played no part, is in [planner.md](planner.md). For a
machine of your own, `make plan`, `make calibrate` and a load run tell more than any table.

Least is known of how quick AMD's cards, A100 and H100 compute prompts, above all those of mixtures of experts (gpt-oss,
qwen3:30b): next to nothing is published of them. Measure such a card before buying several.
"""


def page() -> str:
    """The whole page."""
    parts = [INTRO, _assumed(), _people(), _buying(), _speeds(), _memory(), _beside(), _power(), _notes()]
    return "\n".join(parts)


def _assumed() -> str:
    slo = Slo()
    promised = (
        f"Promised is that {slo.part:.0%} of first tokens come within {slo.ttft:g} s and tokens at most "
        f"{slo.tpot * 1000:.0f} ms apart. Slots have {CONTEXT} tokens of context and a cache of 16 bits."
    )
    rows = [
        (label, f"{value:g} {unit}" if unit != "share" else f"{value:.0%}", source)
        for label, value, unit, source in (*usage.told(Usage()), *cost.told(Habits()))
    ]
    return f"## What is assumed\n\n{_paragraph(promised)}\n\n{_table(('', 'value', 'from'), rows)}"


def _people() -> str:
    rows = [(_short(card), _gib(card.memory), *(_served(card, name) for name in MODELS)) for card in _cards()]
    text = (
        "People in a conversation at the same time, on one card, with the number of slots that serves the most (in "
        f"brackets); 0 where not even one is served so. About {1 / Usage().active_share:.0f} times as many may have an "
        "account."
    )
    return f"## People for each card\n\n{_paragraph(text)}\n\n{_table(('card', 'GiB', *MODELS), rows)}"


def _served(card: Device, name: str) -> str:
    box = widest(Box(known=known(name), device=card, settings=settings(SLOTS)), Usage(), Slo())
    fewer = (replace(box, settings=replace(box.settings, slots=count)) for count in (SLOTS, 2, 1))
    for tried in (box, *fewer):
        try:
            found = people(Usage(), Slo(), serving(tried, Usage())).active
        except PeopleError:
            continue
        return f"{_range(found)} ({tried.settings.slots})"
    return "no room"


def _buying() -> str:
    text = (
        "Of the cards on this page the three machines that cost least, by the prices of their launch, US dollars, "
        "cards only; what they cost today is an input. Each serves everybody by its low end; the people are those it "
        "serves with the slots that serve the most, the watts are at work."
    )
    market = Market(currency="USD")
    rows = []
    for name in BOUGHT:
        for count in PEOPLE:
            found = choose(count, known(name), settings(1), Usage(), Slo(), market, among=_cards())
            offered = [_offer(option) for option in found.sure[:OFFERED]]
            rows.append((name, str(count), *offered, *["none"] * (OFFERED - len(offered))))
    return f"## What to buy\n\n{_paragraph(text)}\n\n{_table(('model', 'people', 'first', 'second', 'third'), rows)}"


def _offer(option: Option) -> str:
    price = "price not known" if option.price is None else f"{option.price:.0f} USD"
    watts = "" if option.watts is None else f", {option.watts:.0f} W"
    return f"{_plain(option.box.name)}: {_range(option.active)}, {price}{watts}"


def _range(found: Range) -> str:
    return str(found.low) if found.low == found.value else f"{found.low} to {found.value}"


def _speeds() -> str:
    text = (
        f"Tokens a second of one answer alone with {DEPTH} tokens behind it, low and high end; no room means one card."
    )
    rows = [(_short(card), *(_alone(card, name) for name in MODELS)) for card in _cards()]
    return f"## Speed of one answer\n\n{_paragraph(text)}\n\n{_table(('card', *MODELS), rows)}"


def _alone(card: Device, name: str) -> str:
    host = Host(name=card.id, memory=(card.memory,))
    if place(host, known(name), settings(1)).free < 0:
        return "no room"
    said = speed.decode(roofline.work(known(name).shape), roofline.card(card), DEPTH)
    return f"{said.low:.0f} to {said.high:.0f}"


def _memory() -> str:
    text = (
        f"GiB of VRAM with {SLOTS} slots of {CONTEXT} tokens, by quantization. The last two columns are of Q4_K_M: "
        "with one slot, and with a cache of 8 bits. Models that were published in 4 bits have no other column."
    )
    rows = [(name, *_row(name)) for name in (*MODELS, *LARGE)]
    heads = ("model", *QUANTIZATIONS, "1 slot", "q8_0 cache")
    return f"## VRAM and quantization\n\n{_paragraph(text)}\n\n{_table(heads, rows)}"


def _row(name: str) -> Iterator[str]:
    one = known(name)
    for quantization in QUANTIZATIONS:
        if one.shape.architecture == "gpt-oss":
            yield _need(name, slots=SLOTS) if quantization == "Q4_K_M" else ""
        else:
            same = quantization == "Q4_K_M"
            yield _need(name, slots=SLOTS, quantization=None if same else quantization)
    yield _need(name, slots=1)
    yield _need(name, slots=SLOTS, cache="q8_0")


def _need(name: str, *, slots: int, quantization: str | None = None, cache: str = "f16") -> str:
    one = known(name)
    if quantization:
        one = replace(one, shape=requantized(one.shape, quantization))
    host = Host(name="one card", memory=(1 << 50,))
    return _gib(place(host, one, replace(settings(slots), cache=cache)).need.total)


def _beside() -> str:
    box = Box(known=known("mistral-small:24b"), device=find("nvidia-rtx-3090"), settings=settings(SLOTS))
    need = cost.beside([box], people=ACCOUNTS, tokens=500)
    rows = [
        (what, part.what, _amount(what, part.amount), part.source)
        for what, parts in (("memory", need.memory), ("disk", need.disk), ("cores", need.cores))
        for part in parts
    ]
    for what, parts in (("memory", need.memory), ("disk", need.disk), ("cores", need.cores)):
        rows.append((what, "**in all**", _amount(what, Beside.total(parts)), ""))
    text = f"One host with {box.known.shape.name}, one card and {ACCOUNTS} accounts. System memory and disk are in GB."
    sizes = ", ".join(f"{name} {known(name).shape.size / GB:.1f}" for name in (*MODELS, *LARGE))
    listed = _table(("", "for", "", "from"), rows)
    files = _paragraph(f"Files of models, GB: {sizes}.")
    return f"## Beside the cards\n\n{_paragraph(text)}\n\n{listed}\n{files}\n"


def _amount(what: str, amount: float) -> str:
    return f"{amount:.1f}" if what == "cores" else f"{amount / GB:.1f} GB"


def _power() -> str:
    text = (
        "Watts of a host with one card (a DGX Spark is both): at work by the card's board power, idle with a model "
        "loaded. kWh of a month "
        "with the hours and the load assumed above and as many people at the peak as the low end says, and when it "
        "never rests. Money is kWh times your price; a million tokens take watts / (3.6 x tokens/s) kWh."
    )
    rows = []
    for card in _cards():
        box = widest(Box(known=known("qwen3:8b"), device=card, settings=settings(SLOTS)), Usage(), Slo())
        draws = cost.power(box, Habits())
        met = people(Usage(), Slo(), serving(box, Usage())).met
        month, always = (cost.kwh_per_month(draws, busy) for busy in (met.busy * Habits().share, 1))
        million = draws.busy * met.busy / (3.6 * met.tokens)
        rows.append(
            (_short(card), f"{draws.busy:.0f}", f"{draws.idle:.0f}", f"{month:.0f}", f"{always:.0f}", f"{million:.2f}")
        )
    heads = ("card", "W at work", "W idle", "kWh a month", "kWh, never idle", "kWh a million tokens, qwen3:8b")
    return f"## Power\n\n{_paragraph(text)}\n\n{_table(heads, rows)}"


def _notes() -> str:
    text = (
        "The documents that this platform grew from ([adr/seeds.md](adr/seeds.md)) have these figures; ours is of the "
        "nearest thing that exists. Where the two are more than a quarter apart (bold), a sentence says why. VRAM is "
        "in GiB, as cards are sold; people are active ones, from the low end to what is expected. A fifth document, of "
        "Open WebUI and Tailscale, has no such figure."
    )
    parts = [f"## The first notes\n\n{_paragraph(text)}\n"]
    for document, listed in groupby(figures(), key=lambda one: one.document):
        rows = [(one.says, _interval(one), one.basis, _apart(one), one.why) for one in listed]
        heads = ("the notes say", "ours", "of", "apart", "why")
        parts.append(f"### {document}\n\n{_table(heads, rows)}")
    return "\n".join(parts)


def _interval(one: Figure) -> str:
    low, high = one.ours
    shown = _number(low) if low == high else f"{_number(low)} to {_number(high)}"
    return f"{shown} {one.unit}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == round(value) else f"{value:.3g}"


def _apart(one: Figure) -> str:
    if not one.apart:
        return "no"
    factor = one.apart + 1
    shown = f"{factor:.1f} times" if factor >= 2 else f"{one.apart:+.0%}"
    return f"**{shown}**" if abs(one.apart) > APART else shown


def _cards() -> list[Device]:
    return [devices()[card] for card in CARDS]


def _short(card: Device) -> str:
    return _plain(card.id)


def _plain(name: str) -> str:
    return name.replace("nvidia-", "").replace("amd-", "")


def _gib(size: int) -> str:
    whole = size / GIB
    return f"{whole:.0f}" if whole >= 100 or math.isclose(whole, round(whole)) else f"{whole:.1f}"


def _paragraph(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main(arguments: Sequence[str]) -> int:
    """Writes the page, or with `--check` compares it: exit status 1 when it is another one."""
    text = page()
    if "--check" in arguments:
        same = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text
        sys.stdout.write(
            "docs/hardware.md is up to date\n" if same else "docs/hardware.md is old: python -m stack.capacity.guide\n"
        )
        return 0 if same else 1
    fresh = PAGE.with_name(PAGE.name + ".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(PAGE)
    sys.stdout.write(f"written: {PAGE.relative_to(PAGE.parents[1])}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
