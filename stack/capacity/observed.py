"""How quick a machine was in a load run, told from its requests: so many answers at once, so many tokens a second.

The time for each token of an answer is what a step took while it ran; how many answers ran beside it is counted from
the times of the others. Only answering counts: whoever waits in the queue, or has its prompt computed, is in no step.
Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean, median
from typing import Final

NEAR: Final = 0.25  # how far the number of answers at once may be from a whole one, on average over an answer
LEAST: Final = 8  # answers that a number of them at once needs
SHORT: Final = 8  # tokens; shorter answers tell little of a step


class ObservedError(ValueError):
    """The requests of a run tell nothing, or not what they should; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer while its tokens came; seconds."""

    model: str
    first: float
    """When its first token came."""
    last: float
    token: float
    """For each token after the first."""
    tokens: int
    prompt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What was seen at one number of answers at once."""

    model: str
    answers: int
    rate: float
    """Tokens a second, all together."""
    depth: float
    """Tokens behind each answer, on average."""
    seen: int
    """How many answers that is from."""


def answers(rows: Iterable[Mapping[str, str]]) -> list[Answer]:
    """From the rows of a run's requests.csv; those without a time for each token are left out.

    Raises:
        ObservedError: a row is not of that form.
    """
    found = []
    for number, row in enumerate(rows, 2):
        try:
            if row["outcome"] != "ok" or not row["tpot_ms"] or not row["output_tokens"]:
                continue
            start = float(row["intended_s"])
            found.append(
                Answer(
                    model=row["model"], first=start + float(row["ttft_ms"]) / 1000,
                    last=start + float(row["e2e_ms"]) / 1000, token=float(row["tpot_ms"]) / 1000,
                    tokens=int(row["output_tokens"]), prompt=int(row["input_tokens"] or 0),
                )
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as wrong:
            raise ObservedError(f"line {number} is no request as a load run writes it ({wrong})") from None
    return found


def rates(seen: Sequence[Answer]) -> list[Rate]:
    """Tokens a second at each number of answers at once that enough answers were seen at, growing.

    Raises:
        ObservedError: there are too few answers, or several models answered, which share what computes.
    """
    if len(models := sorted({one.model for one in seen})) > 1:
        raise ObservedError(
            f"{' and '.join(models)} answered in one run and shared the machine; measure each by itself"
        )
    beside = _beside(seen)
    groups: dict[int, list[Answer]] = {}
    for one, at_once in zip(seen, beside, strict=True):
        whole = round(at_once)
        if abs(at_once - whole) <= NEAR and one.tokens >= SHORT and one.token > 0:
            groups.setdefault(whole, []).append(one)
    found = [
        Rate(
            model=models[0], answers=count, rate=count / median(one.token for one in group),
            depth=fmean(one.prompt + one.tokens / 2 for one in group), seen=len(group),
        )
        for count, group in sorted(groups.items())
        if count >= 1 and len(group) >= LEAST
    ]  # fmt: skip
    if not found:
        raise ObservedError(
            f"{len(seen)} whole answers are too few: it takes {LEAST} of at least {SHORT} tokens at one number at once"
        )
    return found


def _beside(seen: Sequence[Answer]) -> list[float]:
    """For each answer how many ran at a time, itself included, on average while it ran."""
    steps = sorted([(one.first, 1) for one in seen] + [(one.last, -1) for one in seen])
    times = [at for at, _ in steps]
    running = list(accumulate(change for _, change in steps))
    spans = [count * (end - start) for count, start, end in zip(running, times, times[1:], strict=False)]
    area = [0.0, *accumulate(spans)]

    def until(at: float) -> float:
        place = bisect_right(times, at) - 1
        return area[place] + running[place] * (at - times[place])

    return [(until(one.last) - until(one.first)) / max(one.last - one.first, 1e-9) for one in seen]
