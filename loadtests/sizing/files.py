"""All files of an answer: `size.json` (with a version), `summary.md`, `report.html`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Final

from loadtests.report.markdown import cell
from loadtests.sizing import page, words
from loadtests.sizing.sized import Sized
from stack.capacity.choose import Option

VERSION: Final = 1


def render(sized: Sized, settings: dict[str, Any], diff: str) -> dict[str, str]:
    """File name to text; the same answer gives the same bytes.

    Args:
        sized: the answer.
        settings: what is proposed, by its path in the stack file.
        diff: the same as a change of that file.
    """
    return {
        "size.json": json.dumps(document(sized, settings), indent=1, sort_keys=True, allow_nan=False) + "\n",
        "summary.md": summary(sized, diff),
        "report.html": page.render(sized, diff),
    }


def document(sized: Sized, settings: dict[str, Any]) -> dict[str, Any]:
    """For programs. Seconds, tokens a second, watts, bytes; None: not known."""
    answer = sized.answer
    return {
        "version": VERSION,
        "stack": sized.stack,
        "made": sized.made,
        "model": sized.model,
        "measured": sized.measured,
        "doubted": sized.doubted,
        "elsewhere": None if sized.elsewhere is None else sized.elsewhere.where,
        "sentence": words.headline(sized),
        "active": asdict(answer.active),
        "named": asdict(answer.named),
        "planned": answer.planned,
        "search": None if sized.found is None else sized.found.model_dump(mode="json", exclude={"probes"}),
        "slo": asdict(sized.asked.slo),
        "usage": asdict(answer.usage),
        "met": asdict(answer.met),
        "slots": answer.serving.slots,
        "binds": str(answer.binds),
        "why": answer.why,
        "looked": {row[0]: row[1] for row in words.looked(sized)[1]},
        "curve": [[asdict(one) for one in three] for three in sized.curve],
        "heldOut": [{**asdict(one), "off": one.off, "verdict": one.word} for one in sized.held],
        "steps": [asdict(one) for one in sized.changes],
        "buy": None
        if sized.choice is None
        else {
            "people": sized.choice.people,
            "sure": [_option(one) for one in sized.choice.sure],
            "perhaps": [_option(one) for one in sized.choice.perhaps],
        },
        "card": None if sized.card is None else asdict(sized.card),
        "bill": None if sized.bill is None else asdict(sized.bill),
        "beside": None if sized.beside is None else asdict(sized.beside),
        "proposed": settings,
        "runs": [run.name for run in sized.runs],
        "notes": list(sized.notes),
    }


def _option(one: Option) -> dict[str, Any]:
    return {
        "machine": one.box.name,
        "device": one.box.device.id,
        "hosts": one.box.hosts,
        "cards": one.box.cards,
        "slots": one.box.settings.slots,
        "active": asdict(one.active),
        "price": one.price,
        "priced": one.priced,
        "watts": one.watts,
        "kwh": one.kwh,
        "total": one.total,
    }


def summary(sized: Sized, diff: str) -> str:
    """For a pull request, and for the terminal."""
    lines = [
        f"## {cell(words.headline(sized))}", "", f"{words.promised(sized)} {words.accounts(sized)}", "",
        cell(words.basis(sized)), "", words.binds(sized), "",
    ]  # fmt: skip
    for title, table in (
        ("What was looked at", words.looked(sized)),
        ("The next step", words.changes(sized)),
        ("What is assumed", words.assumptions(sized)),
        ("The check", words.checked(sized.held)),
        ("What to buy", words.bought(sized)),
        ("Power and money", (("", ""), words.money(sized))),
        ("Beside the cards, one host", words.beside(sized)),
    ):
        heads, rows = table
        if rows:
            lines += [f"### {title}", ""]
            lines += [words.buying(sized), ""] if title == "What to buy" else []
            lines += [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
            lines += [f"| {' | '.join(cell(one) for one in row)} |" for row in rows]
            lines.append("")
    lines += [words.payback(sized), ""]
    lines += [*(f"Note: {cell(note)}" for note in sized.notes), ""] if sized.notes else []
    if diff:
        lines += ["### Proposed settings", "", "```diff", diff.rstrip("\n"), "```", ""]
    return "\n".join(lines)
