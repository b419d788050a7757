"""What was asked once, as a load: the gateway's access log, or a trace with a row for each request.

    python -m loadtests.workload.replay FILE [OPERATION]     prints what is in it as a profile (docs/load.md)

Nothing but moments, kinds and lengths is taken from a log: no names, no addresses, no texts.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from loadtests.workload import lengths, profiles
from loadtests.workload.arrivals import MOST_CV
from loadtests.workload.lengths import Length
from loadtests.workload.profiles import PROFILES
from stack.config.access import LOAD_CONSUMER

MOST: Final = 2_000_000
"""Requests of one log."""
BAD_SHARE: Final = 0.01
"""So many lines may be unreadable (a log that was cut, or turned over in the middle of a line)."""
MOST_DAYS: Final = 366
"""Between the first request of a log and the last: more is a moment that was written wrong."""
DAY: Final = 86_400.0
OPERATIONS: Final = ("chat", "text_completion", "embeddings")
MOST_TOKENS: Final = 10_000_000
FEW: Final = 30
"""From fewer requests nothing is told about how they are spread."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as it was asked."""

    at_s: float
    """Seconds from the first one."""
    operation: str = "chat"
    """One of `OPERATIONS`."""
    input_tokens: int | None = None
    """None: not known, the profile decides."""
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What is in a file."""

    arrivals: tuple[Arrival, ...]
    """By their moment."""
    bad: tuple[str, ...] = ()
    """What is wrong with the lines that could not be read, with their numbers: the first few."""
    lost: int = 0
    """How many these are."""
    others: int = 0
    """Lines that are no people's request to a model: pages, refusals, load tests, what the gateway says of itself."""

    def at(self, speed: float) -> tuple[Arrival, ...]:
        """Its requests, so many times as fast. Raises ValueError for a speed that is none."""
        if not (math.isfinite(speed) and speed > 0):
            raise ValueError(f"SPEED={speed:g}: must be above 0; 2 is twice as fast")
        return tuple(replace(one, at_s=one.at_s / speed) for one in self.arrivals)

    @property
    def said(self) -> str:
        """What was left out, for people; empty when nothing was unreadable."""
        if not self.lost:
            return ""
        return f"{self.lost} of its lines could not be read; the first: {self.bad[0]}"


def read(file: Path, speed: float = 1.0) -> tuple[Arrival, ...]:
    """The requests of a log or trace, so many times as fast. Raises ValueError; see `load`."""
    return load(file).at(speed)


def load(file: Path) -> Log:
    """What is in a log or trace.

    A line of a log is a JSON object, with anything before its brace; a trace is CSV with a header, or JSON lines.

    Raises:
        ValueError: there is no such file, more than 1 % of its lines make no sense (the first are named), or it has no
            request in it, or its requests are more than a year apart.
    """
    try:
        with file.open(encoding="utf-8", errors="replace", newline="") as lines:
            return gather(lines, str(file))
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None


def gather(lines: Iterable[str], name: str) -> Log:
    """What is in these lines; `name` is for messages. Raises ValueError as `load` does."""
    found: list[Arrival] = []
    bad: list[str] = []
    lost = others = read_lines = 0
    first, last = (math.inf, 0), (-math.inf, 0)
    for number, row in _rows(lines):
        read_lines += 1
        try:
            one = row() if callable(row) else row
        except (ValueError, OverflowError, RecursionError) as error:
            lost += 1
            bad = [*bad, f"line {number}: {error}"][:3]
            continue
        if one is None:
            others += 1
        else:
            found.append(one)
            first, last = min(first, (one.at_s, number)), max(last, (one.at_s, number))
        if len(found) > MOST:
            raise ValueError(f"{name} has more than {MOST:,} requests: cut a part out of it")
    if lost > max(1, BAD_SHARE * read_lines) or (lost and not found):
        raise ValueError(f"{name}: {lost} of {read_lines} lines cannot be read: {'; '.join(bad)}")
    if not found:
        raise ValueError(
            f"{name} has no request to a model in it ({read_lines} lines): it must be the gateway's access log, or "
            "rows with at_s, input_tokens and output_tokens"
        )
    if (days := (last[0] - first[0]) / DAY) > MOST_DAYS:
        raise ValueError(
            f"{name}: from its first request (line {first[1]}) to its last (line {last[1]}) it is {days:,.0f} days, at "
            f"most {MOST_DAYS} are allowed: put the wrong moment right (they are in seconds), or cut a part out of it"
        )
    moved = (replace(one, at_s=one.at_s - first[0]) for one in found)
    return Log(
        arrivals=tuple(sorted(moved, key=lambda one: one.at_s)), bad=tuple(bad), lost=lost, others=others
    )  # fmt: skip


Row = Callable[[], "Arrival | None"]


def _rows(lines: Iterable[str]) -> Iterator[tuple[int, Row]]:
    """Each line that says something: its number, and what reads it."""
    header: list[str] | None = None
    for number, line in enumerate(lines, 1):
        text = line.strip().lstrip("\ufeff")
        if not text:
            continue
        if header is not None:
            yield number, lambda text=text, header=header: _cells(text, header)  # type: ignore[misc]
        elif names := _names(text):
            header = names
        else:
            yield number, lambda text=text: _line(text)  # type: ignore[misc]


def _split(text: str) -> list[str]:
    """The cells of a line. Raises ValueError."""
    try:
        return [cell.strip() for cell in next(csv.reader([text]))]
    except csv.Error as error:
        raise ValueError(f"it is no row of a table: {error}") from None


def _names(text: str) -> list[str]:
    """The columns of a line that is the header of a trace; none of any other."""
    try:
        cells = _split(text) if "{" not in text and "," in text else []
    except ValueError:
        return []
    return cells if _moment_of(cells) else []


def _cells(text: str, header: list[str]) -> Arrival:
    cells = _split(text)
    if len(cells) != len(header):
        raise ValueError(f"it has {len(cells)} cells, the header has {len(header)}")
    return _traced({name: cell for name, cell in zip(header, cells, strict=True) if cell})


def _line(text: str) -> Arrival | None:
    try:
        content: dict[str, Any] = json.loads(text[text.index("{") :])
    except ValueError:
        raise ValueError("it is no JSON object") from None  # and is not shown: who knows what file this is
    if _moment_of(content) is not None:
        return _traced(content)
    return _logged(content)


def _logged(content: Mapping[str, Any]) -> Arrival | None:
    """A line of the gateway's log; None for one that asks no model, that was refused, or that a load test sent.

    Its moment is when the answer had ended: the request came `duration_ms` earlier.
    """
    operation, status = content.get("operation"), content.get("status")
    if operation not in OPERATIONS or not isinstance(status, int):
        return None
    if 400 <= status < 499 or content.get("consumer") == LOAD_CONSUMER:
        return None
    lasted = _number(content, "duration_ms") or 0.0
    ended = _number(content, "ts")
    if ended is None:
        raise ValueError("it has no ts: when was it?")
    output = _tokens(content, "output_tokens") if operation != "embeddings" else None
    return Arrival(ended - lasted / 1000, operation, _tokens(content, "input_tokens"), output)


# What traces call a moment, and how it is told: ours, Azure's, BurstGPT's, Mooncake's.
_MOMENTS: Final[Mapping[str, Callable[[Any], float]]] = {
    "at_s": float,
    "TIMESTAMP": lambda text: datetime.fromisoformat(text).timestamp(),
    "Timestamp": float,
    "timestamp": lambda text: float(text) / 1000,
}
_INPUT: Final = ("input_tokens", "ContextTokens", "Request tokens", "input_length")
_OUTPUT: Final = ("output_tokens", "GeneratedTokens", "Response tokens", "output_length")


def _moment_of(names: Iterable[str]) -> str | None:
    known = set(names)
    return next((name for name in _MOMENTS if name in known), None)


def _traced(content: Mapping[str, Any]) -> Arrival:
    """A row of a trace."""
    moment = _moment_of(content)
    if moment is None:
        raise ValueError("it does not say when it was")
    try:
        at = _MOMENTS[moment](content[moment])
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{moment}: {str(content[moment])[:40]!r} is no moment") from None
    if not math.isfinite(at):
        raise ValueError(f"{moment}: {at} is no moment")
    operation = content.get("operation", "chat")
    if operation not in OPERATIONS:
        raise ValueError(f"operation: {operation!r} is not known; allowed: {', '.join(OPERATIONS)}")
    return Arrival(at, operation, _tokens(content, *_INPUT), _tokens(content, *_OUTPUT))


def _tokens(content: Mapping[str, Any], *names: str) -> int | None:
    """The first of these that is there. Raises ValueError for what is no number of tokens."""
    for name in names:
        value = _number(content, name)
        if value is not None:
            if not (0 <= value <= MOST_TOKENS and value == int(value)):
                raise ValueError(f"{name}: {value:g} is no number of tokens")
            return int(value)
    return None


def _number(content: Mapping[str, Any], name: str) -> float | None:
    value = content.get(name)
    if value is None:
        return None
    try:
        found = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"{name}: {str(value)[:40]!r} is no number")
    return found


def profile(log: Log, name: str, operation: str = "") -> str:
    """What was asked, as a profile of one's own with remarks: a YAML file.

    Args:
        log: what is in a log.
        name: of the profile.
        operation: of which requests; empty: those that there are most of.

    Raises:
        ValueError: there are none of these.
    """
    counted = Counter(one.operation for one in log.arrivals)
    wanted = operation or counted.most_common(1)[0][0]
    chosen = [one for one in log.arrivals if one.operation == wanted]
    if not chosen:
        raise ValueError(f"there is no {wanted!r} in it, only {', '.join(counted)}")
    usual = PROFILES["embed" if wanted == "embeddings" else "chat"]
    asked, asked_said = _measured([one.input_tokens for one in chosen], usual.input)
    told, told_said = _measured([one.output_tokens for one in chosen], usual.output)
    made = replace(
        usual, name=name, input=asked, output=told, turns=Length.parse("fixed:1"), system=Length.parse("fixed:0"),
        description=f"{wanted} as in a log of {len(chosen):,} requests",
    )  # fmt: skip
    others = ", ".join(f"{count:,} of {kind}" for kind, count in counted.items() if kind != wanted)
    remarks = [
        f"From a log: {len(chosen):,} requests of {wanted}" + (f", beside {others}." if others else "."),
        f"input: {asked_said}",
        f"output: {told_said}",
        *_pace(np.array([one.at_s for one in chosen])),
        "A log does not know who asks, so every request stands alone here, its history within its input, and think is",
        "an assumption. USERS needs a better one; RATE and SEARCH=rate do not use it.",
    ]
    return "".join(f"# {line}\n" for line in remarks) + profiles.dump(made)


def _measured(values: list[int | None], usual: Length) -> tuple[Length, str]:
    """The law of these lengths, and what is to be said of it."""
    known = [one for one in values if one is not None]
    if not known:
        return usual, "not in the log; as in the built-in profile"
    middle, most = np.quantile(known, (0.5, 0.95))
    return lengths.summary(known), f"{len(known):,} known, mean {np.mean(known):.0f}, p50 {middle:.0f}, p95 {most:.0f}"


def _pace(moments: np.ndarray[Any, np.dtype[np.float64]]) -> list[str]:
    """How often, and how evenly, requests came."""
    if len(moments) < FEW or moments[-1] <= 0:
        return [f"Fewer than {FEW} requests: how they are spread over time is not told."]
    gaps = np.diff(moments)
    spread = float(gaps.std() / gaps.mean())
    busiest = int(np.bincount((moments // 60).astype(np.int64)).max())
    return [
        f"On average one in {gaps.mean():.3g} s (RATE={1 / gaps.mean():.3g}); {busiest:,} in the busiest minute "
        f"(RATE={busiest / 60:.3g}).",
        f"Gaps vary by {spread:.2g} times their mean over the whole log, quiet hours included: ARRIVALS=poisson is 1,",
        f"bursts are ARRIVALS=gamma:{min(max(spread, 0.1), MOST_CV):.2g}, and REPLAY repeats them as they were.",
    ]


def main(arguments: list[str]) -> int:
    """Prints a log as a profile."""
    if not 1 <= len(arguments) <= 2:
        print("usage: python -m loadtests.workload.replay FILE [OPERATION]", file=sys.stderr)
        return 2
    file = Path(arguments[0])
    try:
        log = load(file)
        text = profile(log, file.stem, arguments[1] if len(arguments) > 1 else "")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if log.said:
        print(log.said, file=sys.stderr)
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
