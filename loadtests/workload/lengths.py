"""How long something is: tokens of a question or an answer, turns of a conversation, seconds of thinking. Pure.

A length is a law that is written in a word: `fixed:200`, `normal:200,50`, `lognormal:200,0.8,10,2000`,
`values:100,150,400`, `trace:FILE`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import Final

import numpy as np

MOST: Final = 10_000_000.0
MOST_LINES: Final = 1_000_000
GRID: Final = 2000
GROUPS: Final = 40
ALLOWED: Final = (
    "fixed:200 (or just 200), normal:MEAN,SD, lognormal:MEDIAN,SIGMA, both also with ,LOW,HIGH behind, values:10,20,20 "
    "(each as likely as the others), or trace:FILE with such a value on each line"
)
_FORMS: Final = {"fixed": (1,), "normal": (2, 3, 4), "lognormal": (2, 3, 4)}
_NORMAL: Final = NormalDist()


@dataclass(frozen=True)
class Length:
    """A law of lengths: tokens, turns or seconds, never below 0. Make one with `parse`.

    Values beyond `low` and `high` become these, as when a context is full or a limit is set.
    """

    kind: str
    first: float = 0.0
    """Of fixed the value, of normal the mean, of lognormal the median."""
    second: float = 0.0
    """Of normal the standard deviation, of lognormal that of the natural logarithm."""
    low: float = 0.0
    high: float = MOST
    values: tuple[float, ...] = ()
    """Of a trace or of values, growing. They are in here so that a load needs its file only once."""
    source: str = ""
    """The file of a trace, as it was written."""

    @classmethod
    def parse(cls, text: str | float, folder: Path | None = None) -> Length:
        """The law of these words; a trace is read at once, from `folder` when its path is relative.

        Raises:
            ValueError: what is wrong, and what is allowed.
        """
        try:
            said = _plain(text) if isinstance(text, int | float) and not isinstance(text, bool) else str(text)
        except OverflowError:
            raise ValueError(f"a number of hundreds of digits; every number must be from 0 to {MOST:,.0f}") from None
        kind, colon, rest = said.strip().partition(":")
        if not colon:
            kind, rest = "fixed", kind
        if kind == "trace":
            return cls._trace(rest.strip(), folder or Path())
        numbers = _numbers(rest)
        if numbers is None or (kind != "values" and len(numbers) not in _FORMS.get(kind, ())):
            raise ValueError(f"{said!r} is no length; allowed: {ALLOWED}")
        if min(numbers) < 0 or max(numbers) > MOST:
            raise ValueError(f"{said!r}: every number must be from 0 to {MOST:,.0f}")
        if kind == "values":
            return cls(kind, values=tuple(sorted(numbers)))
        if kind == "lognormal" and (numbers[0] == 0 or numbers[1] > 5):
            raise ValueError(f"{said!r}: the median of a lognormal length is above 0, its sigma at most 5")
        first, second, low, high = (*numbers, *(0.0, 0.0, 0.0, MOST)[len(numbers) :])
        made = cls(kind, first, second, low, high)
        if made.low > made.high:
            raise ValueError(f"{said!r}: the low end {made.low:g} is above the high end {made.high:g}")
        return made

    @classmethod
    def _trace(cls, name: str, folder: Path) -> Length:
        file = folder / name
        try:
            lines = file.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise ValueError(f"trace:{name}: {file} cannot be read: {why}") from None
        values = []
        for number, line in enumerate(lines, 1):
            if not (text := line.partition("#")[0].strip()):
                continue
            found = _numbers(text)
            if found is None or len(found) != 1 or not 0 <= found[0] <= MOST:
                raise ValueError(f"{file}, line {number}: {text[:40]!r} is no number from 0 to {MOST:,.0f}")
            values.append(found[0])
        if not 1 <= len(values) <= MOST_LINES:
            raise ValueError(f"{file} has {len(values):,} numbers: allowed are 1 to {MOST_LINES:,}, one on each line")
        return cls("trace", values=tuple(sorted(values)), source=name)

    def __str__(self) -> str:
        """As `parse` reads it."""
        match self.kind:
            case "trace":
                return f"trace:{self.source}"
            case "values":
                return "values:" + ",".join(_plain(one) for one in self.values)
            case "fixed":
                return f"fixed:{_plain(self.first)}"
        bounds = ((self.low,) if self.low or self.high < MOST else ()) + ((self.high,) if self.high < MOST else ())
        return f"{self.kind}:" + ",".join(_plain(one) for one in (self.first, self.second, *bounds))

    def quantile(self, share: float) -> float:
        """The value that this share (above 0, below 1) of all lengths does not exceed."""
        match self.kind:
            case "fixed":
                return self.first
            case "trace" | "values":
                return self.values[min(int(share * len(self.values)), len(self.values) - 1)]
        deviation = self.second * _NORMAL.inv_cdf(share) if self.second else 0.0
        value = self.first + deviation if self.kind == "normal" else self.first * math.exp(min(deviation, 50.0))
        return min(max(value, self.low), self.high)

    def sample(self, rng: np.random.Generator) -> float:
        """One length. Takes exactly one number from `rng`, whatever the law: what is drawn next stays as it is."""
        return self.quantile(max(float(rng.random()), 1e-12))

    def draw(self, rng: np.random.Generator) -> int:
        """One length as a whole number; as `sample` otherwise."""
        return round(self.sample(rng))

    @cached_property
    def grid(self) -> tuple[float, ...]:
        """Two thousand quantiles, evenly spaced: the law as a table, for means."""
        return tuple(self.quantile((place + 0.5) / GRID) for place in range(GRID))

    @property
    def mean(self) -> float:
        """The mean, to about 1 %."""
        return math.fsum(self.grid) / GRID


def summary(values: Iterable[float]) -> Length:
    """A few dozen values that stand for these: means of groups of equal size, so that the mean is the same.

    Shares are right to one in forty; the rarest extremes are averaged with their neighbours. Raises ValueError when
    there are none.
    """
    known = np.array(sorted(values), dtype=np.float64)
    if not known.size:
        raise ValueError("there are no values to make a length of")
    groups = np.array_split(known, min(GROUPS, known.size))
    means = [round(float(group.mean())) for group in groups]
    if means[0] == means[-1]:
        return Length("fixed", first=float(means[0]))
    return Length("values", values=tuple(float(one) for one in means))


def _plain(value: float) -> str:
    return f"{value:.10g}"


def _numbers(text: str) -> list[float] | None:
    """The numbers between commas; None when one of them is none."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        return None
    return found if all(math.isfinite(one) for one in found) else None
