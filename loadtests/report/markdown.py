"""The summary for a pull request."""

from __future__ import annotations

from loadtests.report import gateway, words
from loadtests.report.svg import number, seconds
from loadtests.results.schema import Result


def render(result: Result) -> str:
    """Markdown: the sentence, the gates that are not passed, the figures."""
    rows = [f"## {words.VERDICTS[result.verdict]}: {cell(result.title)}", "", f"**{cell(words.headline(result))}**", ""]
    if not result.complete:
        rows += [f"The run is not complete: {cell(result.stopped)}.", ""]
    passed = sum(gate.word == "PASS" for gate in result.gates)
    rows += [f"Gates: {passed} of {len(result.gates)} passed."]
    rows += [
        f"- {gate.word} {cell(gate.name)}: {cell(gate.value)} (allowed: {cell(gate.limit)})"
        for gate in result.gates
        if gate.word != "PASS"
    ]
    rows += [f"- {cell(one)}" for one in words.troubles(result)]
    rows += ["", "| | p50 | p90 | p95 (95% interval) | p99 | n |", "|---|---|---|---|---|---|"]
    for name, one in ((name, result.whole.metrics[name]) for name in words.NAMES if name in result.whole.metrics):
        rows.append(
            f"| {words.NAMES[name]} | {seconds(one.p50)} | {seconds(one.p90)} | {seconds(one.p95)} "
            f"({words.interval(one)}) | {seconds(one.p99)} | {one.n:,} |"
        )
    level = result.whole
    if untold := words.untold([level]):
        rows += ["", *(f"- {cell(one)}" for one in untold)]
    rows += [
        "",
        f"{_where(result)}{level.requests:,} requests: {words.outcomes(level)}. "
        f"{number(level.tokens_per_second)} tokens/s, {number(level.requests_per_second)} requests/s, of which "
        f"{number(level.goodput)} kept every objective; {number(level.in_flight)} under way on average.",
        "",
        f"Latency counts from the intended start. Objectives: {words.objectives(result)}.",
        "",
    ]
    if result.tax is not None:
        rows += [cell(gateway.sentence(result.tax)), ""]
    return "\n".join(rows)


def _where(result: Result) -> str:
    """Which of several loads the figures are of."""
    return f"At {cell(result.whole.label)}: " if result.levels else ""


def cell(text: str) -> str:
    """Words of a server or a person must not become markup."""
    flat = " ".join(text.split())
    for sign in "\\`*_[]<>|#":
        flat = flat.replace(sign, "\\" + sign)
    return flat.replace("@", "@\u200b")
