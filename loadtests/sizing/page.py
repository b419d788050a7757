"""The answer as a page that is read without knowing any of this: one sentence, the plot that proves it, the rest."""

from __future__ import annotations

from collections.abc import Collection
from html import escape
from typing import Final

from loadtests.report.page import document
from loadtests.report.svg import Limit, Line, number, plot, seconds
from loadtests.sizing import words
from loadtests.sizing.sized import Sized
from loadtests.sizing.words import Table
from stack.capacity.people import Met

HARDEST: Final = 6.0
"""A plot ends at so many times what is promised: beyond it, nobody looks."""
PEOPLE: Final = "people in a conversation at the same time"


def render(sized: Sized, diff: str) -> str:
    """The page; `diff`: the proposed settings. It loads nothing, and every word from outside is escaped."""
    title = f"How many people {sized.stack} serves"
    parts = [
        f"<h1>{escape(title)} · {escape(sized.made)}</h1>", _top(sized), _plots(sized), _cards(sized),
        _section("What stops first", f"<p>{escape(words.binds(sized))}</p>{_notes(sized)}"),
        _table(words.looked(sized)),
        _section("The next step", _table(words.changes(sized), right={1})),
        _section("What is assumed", f'<p class="note">Each can be changed: make size STACK={escape(sized.stack)} '
                 f"WORD=value.</p>{_table(words.assumptions(sized), right={1})}"),
        _section("Proposed settings", _diff(diff)),
        _section(f"What to buy{_for(sized)}", f"<p>{escape(words.buying(sized))}</p>{_table(words.bought(sized))}"),
        _section("Power and money", f"<p>{escape(words.payback(sized))}</p>{_table((('', ''), words.money(sized)))}"),
        _section("Beside the cards, one host", _table(words.beside(sized))),
        _section("Is that so? The check", _held(sized)),
        _section("Where it is from", _sources(sized)),
    ]  # fmt: skip
    return document(title, "".join(parts))


def _top(sized: Sized) -> str:
    sure = sized.measured and not sized.doubted and sized.elsewhere is None
    kind = "fail" if sized.answer.planned == 0 else "pass" if sure else "none-verdict"
    where = " ELSEWHERE" if sized.elsewhere else ""
    badge = f"MEASURED{where}{', IN DOUBT' if sized.doubted else ''}" if sized.measured else "MODELLED"
    return (
        f'<div class="verdict {kind}"><b>{badge}</b><p>{escape(words.headline(sized))}</p></div>'
        f"<p>{escape(words.promised(sized))} {escape(words.accounts(sized))}</p>"
        f'<p class="note">{escape(words.basis(sized))}</p>'
    )


def _plots(sized: Sized) -> str:
    slo = sized.asked.slo
    active = sized.answer.active
    answer = Limit(name="the answer, from low to high", at=sized.answer.planned, upright=True,
                   low=active.low, high=active.high)  # fmt: skip
    first = _over(sized, "time to first token, 95 of 100 requests", "ttft", slo.ttft, answer)
    each = _over(sized, "time between tokens, 95 of 100 requests", "tpot", slo.tpot, answer)
    rate = [(float(value.people), value.tokens) for _, value, _ in sized.curve]
    band = [(float(value.people), low.tokens, high.tokens) for low, value, high in sized.curve]
    lines = [Line(name="expected, with its band", points=rate, colour=3, band=band)]
    if dots := [
        (part.users, part.level.tokens_per_second) for run in sized.runs for part in run.parts if part.users is not None
    ]:
        lines.append(Line(name="measured", points=dots, colour=2, dots=True, joined=False))
    tokens = plot(lines, title="All answers together", x=PEOPLE, y="tokens/s", limits=[answer])
    return f'<div class="plots">{first}{each}{tokens}</div>'


def _over(sized: Sized, title: str, name: str, promised: float, answer: Limit) -> str:
    """A time over people: the model's line and band, measured points, what is promised."""

    def at(met: Met) -> float:
        return min(float(getattr(met, name)), HARDEST * promised)

    points = [(float(value.people), at(value)) for _, value, _ in sized.curve]
    band = [(float(value.people), at(high), at(low)) for low, value, high in sized.curve]
    lines = [Line(name="expected, with its band", points=points, colour=1, band=band)]
    dots = [
        (part.users, one.p95)
        for run in sized.runs
        for part in run.parts
        if part.users is not None and (one := part.level.metrics.get(name)) is not None
    ]
    if dots:
        lines.append(Line(name="measured", points=dots, colour=2, dots=True, joined=False))
    limit = Limit(name=f"promised: {seconds(promised)}", at=promised)
    return plot(lines, title=title.capitalize(), x=PEOPLE, y="time", y_words=seconds, limits=[limit, answer])


def _cards(sized: Sized) -> str:
    met, answer = sized.answer.met, sized.answer
    cards = [
        (f"{answer.planned:,}", f"people at once ({words.interval(answer.active)})"),
        (f"{answer.named.of(answer.serving.plan):,}", "people with an account"),
        (seconds(met.ttft), "to the first token, 95 of 100"),
        (seconds(met.tpot), "between tokens, 95 of 100"),
        (number(met.tokens), "tokens/s, all people"),
        (str(answer.serving.slots), "answers at the same time (slots)"),
    ]
    if sized.bill is not None:
        cards.append((number(sized.bill.kwh), "kWh a month"))
    inside = "".join(f"<div><b>{escape(value)}</b><span>{escape(text)}</span></div>" for value, text in cards)
    return f'<div class="cards">{inside}</div>'


def _notes(sized: Sized) -> str:
    return "".join(f'<p class="note">{escape(note)}</p>' for note in sized.notes)


def _for(sized: Sized) -> str:
    return "" if sized.choice is None else f" for {sized.choice.people:,}"


def _diff(diff: str) -> str:
    if not diff:
        return "<p>None: the stack is set up as it should be, as far as this tells.</p>"
    return (
        "<p>make size APPLY=1 writes them, make up deploys them.</p>"
        f'<figure><pre style="overflow-x:auto;margin:0">{escape(diff)}</pre></figure>'
    )


def _held(sized: Sized) -> str:
    if not sized.held:
        return (
            '<p class="none">Not checked: it takes a load run with three numbers of people or more '
            "(make load USERS=1,2,4,8).</p>"
        )
    return (
        "<p>One load after the other is left out and predicted from the rest: how many tokens a second all people get "
        f"together.</p>{_table(words.checked(sized.held), right={3, 4, 5})}"
    )


def _sources(sized: Sized) -> str:
    rows = [
        (run.name, name, value)
        for run in sized.runs
        for name, value in (
            ("what", run.result.title), ("when", run.result.started), ("target", run.result.environment.target),
            *sorted(run.result.environment.hardware.items()), *sorted(run.result.environment.versions.items()),
        )
    ]  # fmt: skip
    decode = sized.answer.serving.decode[0]
    rows.append(("speed", "of one answer", f"{number(decode.value)} tokens/s ({decode.basis})"))
    prefill = sized.answer.serving.prefill
    rows.append(("speed", "of prompts", f"{number(prefill.value)} tokens/s ({prefill.basis})"))
    return _table((("", "", ""), rows))


def _section(title: str, body: str) -> str:
    return f"<h2>{escape(title)}</h2>{body}" if body else ""


def _table(table: Table, right: Collection[int] = ()) -> str:
    heads, rows = table
    if not rows:
        return ""
    numeric = [' class="n"' if k in right else "" for k in range(len(heads))]
    head = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(numeric, heads, strict=True))
    lines = []
    for row in rows:
        cells = [
            f'<td class="word {cell.replace("/", "")}">{cell}</td>' if cell in {"PASS", "FAIL", "n/a"} else
            f"<td{kind}>{escape(cell)}</td>"
            for kind, cell in zip(numeric, row, strict=True)
        ]  # fmt: skip
        lines.append(f"<tr>{''.join(cells)}</tr>")
    top = f"<tr>{head}</tr>" if any(heads) else ""
    return f'<div class="scroll"><table>{top}{"".join(lines)}</table></div>'
