"""What the gateway adds, in words: shared by the page and the Markdown summary."""

from __future__ import annotations

from typing import Final

from loadtests.results.schema import Added, Streams, Tax

METRICS: Final = {
    "ttft": "time to first token", "itl": "inter-token latency, mean of an answer",
    "itl_p95": "inter-token latency, p95 of an answer", "e2e": "time to the whole answer",
}  # fmt: skip
HEADS: Final = ("streams", "", "directly", "through", "added (95% interval)", "pairs")


def sentence(tax: Tax) -> str:
    """What it costs, first at the fewest streams."""
    told = [(one.streams, added) for one in tax.levels for added in one.added if added.metric == "ttft"]
    if not told:
        return f"What the gateway adds is not known: {tax.caution or 'nothing was measured'}."
    parts = [f"{_between(added)} with {_streams(streams)}" for streams, added in told]
    return f"The gateway adds to the time to the first token {', '.join(parts)}." + (
        f" Caution: {tax.caution}." if tax.caution else ""
    )


def _between(one: Added) -> str:
    if one.low <= 0 <= one.high:
        return f"nothing that could be told from none ({_bounds(one)})"
    return f"{ms(one.added)} ({_bounds(one)})"


def _streams(count: int) -> str:
    return "one stream" if count == 1 else f"{count} streams at once"


def _bounds(one: Added) -> str:
    return f"{1000 * one.low:.2f} to {ms(one.high)}"


def ms(seconds: float) -> str:
    """A duration, or a difference, which may be below zero."""
    return f"{1000 * seconds:.2f} ms"


def rows(tax: Tax) -> list[tuple[str, ...]]:
    """A row for each metric at each number of streams, under `HEADS`."""
    return [_row(one, added) for one in tax.levels for added in one.added]


def _row(one: Streams, added: Added) -> tuple[str, ...]:
    interval = f"{ms(added.added)} ({_bounds(added)})"
    return str(one.streams), METRICS[added.metric], ms(added.direct), ms(added.through), interval, str(added.pairs)


def notes(tax: Tax) -> list[str]:
    """What else there is to say, each in a sentence."""
    said = [f"Directly: {tax.direct}; through: {tax.through}, model {tax.model}. Router: {tax.router}."]
    if (shake := tax.handshake) is not None:
        tls = "no TLS" if shake.tls is None else f"{ms(shake.tls)} for TLS"
        said.append(
            f"A new connection, left out of these figures: {ms(shake.direct)} to the engine, {ms(shake.through)} to "
            f"the gateway and {tls} (medians of {shake.connections})."
        )
    known = [f"{ms(one.cpu)} with {_streams(one.streams)}" for one in tax.levels if one.cpu is not None]
    said.append(
        f"Processor time of the gateway for a request: {', '.join(known)} (all that it did meanwhile)."
        if known
        else "Processor time of the gateway: not known."
    )
    said.append(
        f"Both of a pair ask for the same answer of {tax.tokens} tokens, one right after the other in random order, on "
        "warm connections, from sending. Added: the median of the differences (Hodges-Lehmann)."
    )
    return said
