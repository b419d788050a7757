"""Plots as inline SVG: lines with bands and limits, and heat maps. Colours are the page's, for light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 640
HEIGHT: Final = 270
LEFT: Final = 74
RIGHT: Final = 14
TOP: Final = 12
BOTTOM: Final = 44
Words = Callable[[float], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One curve; `colour` is 1 to 6 of the page's palette."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int
    dots: bool = False
    joined: bool = True
    band: Sequence[tuple[float, float, float]] = ()
    """(x, low, high): an interval around it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A straight line across: an objective, or an answer with its interval."""

    name: str
    at: float
    upright: bool = False
    low: float | None = None
    high: float | None = None


def number(value: float) -> str:
    """Short, for people: 1,200 or 0.25."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def seconds(value: float) -> str:
    """A duration: 250 ms, 1.5 s, 12 min."""
    if value == 0:
        return "0"
    if abs(value) < 0.9995:
        return f"{1000 * value:.3g} ms"
    return f"{value:.3g} s" if abs(value) < 600 else f"{value / 60:.3g} min"


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers between two values."""
    if not high > low:
        return [low]
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * one for one in (1, 2, 2.5, 5, 10) if power * one >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two values; the powers alone where those are many, else round numbers."""
    steps = (1, 2, 5) if high / low < 300 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [one * 10.0**power for power in powers for one in steps]
    inside = [one for one in found if low * 0.999 <= one <= high * 1.001]
    return inside if len(inside) > 2 else [one for one in ticks(low, high) if one > 0]


@dataclass(frozen=True, slots=True)
class _Axis:
    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        if self.logarithmic:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + min(max(share, 0.0), 1.0) * (self.end - self.start), 1)

    def marks(self) -> list[float]:
        return decades(self.low, self.high) if self.logarithmic else ticks(self.low, self.high)


def _range(values: Sequence[float], logarithmic: bool) -> tuple[float, float]:
    if logarithmic:
        above = [value for value in values if value > 0] or [1.0]
        low, high = min(above) / 1.15, max(above) * 1.15
        return (low / 1.5, high * 1.5) if high / low < 2 else (low, high)
    return min(0.0, *values), (max(0.0, *values) * 1.06 or 1.0)


def plot(
    lines: Sequence[Line],
    *,
    title: str,
    x: str,
    y: str,
    x_words: Words = number,
    y_words: Words = number,
    limits: Sequence[Limit] = (),
    logarithmic: bool = False,
) -> str:
    """Curves over one axis; a figure with its own legend, readable without colours by the names at the points."""
    kept = [line for line in lines if line.points]
    if not kept:
        return figure(title, '<p class="none">nothing to show: no value was measured</p>', [])
    across = [px for line in kept for px, _ in line.points] + [
        one for limit in limits if limit.upright for one in (limit.at, limit.low, limit.high) if one is not None
    ]
    up = [py for line in kept for _, py in line.points] + [limit.at for limit in limits if not limit.upright]
    up += [high for line in kept for _, _, high in line.band]
    low, high = min(0.0, *across), max(*across, min(across))
    horizontal = _Axis(low, high if high > low else low + 1, LEFT, WIDTH - RIGHT)
    vertical = _Axis(*_range(up, logarithmic), HEIGHT - BOTTOM, TOP, logarithmic)
    parts = [*_frame(horizontal, vertical, x, y, x_words, y_words)]
    for limit in limits:
        parts += _limit(limit, horizontal, vertical)
    for line in kept:
        parts += _curve(line, horizontal, vertical, x_words, y_words)
    legend = [(line.name, f"c{line.colour}") for line in kept] + [(limit.name, "limit") for limit in limits]
    return figure(title, _svg(parts, title), legend)


def heat(
    columns: Sequence[float],
    rows: Sequence[float],
    counts: Sequence[Sequence[int]],
    *,
    title: str,
    x: str,
    y: str,
    limit: Limit | None = None,
) -> str:
    """Counts as a map; rows are on a logarithmic scale. Darker means more; every cell says its number."""
    horizontal = _Axis(columns[0], columns[-1], LEFT, WIDTH - RIGHT)
    vertical = _Axis(rows[0], rows[-1], HEIGHT - BOTTOM, TOP, logarithmic=True)
    most = max((count for column in counts for count in column), default=0) or 1
    parts = []
    for i, column in enumerate(counts):
        for j, count in enumerate(column):
            if count:
                left, right = horizontal(columns[i]), horizontal(columns[i + 1])
                bottom, top = vertical(rows[j]), vertical(rows[j + 1])
                words = f"{number(columns[i])} s: {count} requests of {seconds(rows[j])} to {seconds(rows[j + 1])}"
                parts.append(
                    f'<rect class="cell" x="{left}" y="{top}" width="{right - left + 0.3:.1f}" '
                    f'height="{bottom - top + 0.3:.1f}" fill-opacity="{0.12 + 0.88 * math.sqrt(count / most):.2f}">'
                    f"<title>{words}</title></rect>"
                )
    parts += _frame(horizontal, vertical, x, y, number, seconds)
    if limit:
        parts += _limit(limit, horizontal, vertical)
    legend = [(f"up to {most} requests in a cell", "heat")] + ([(limit.name, "limit")] if limit else [])
    return figure(title, _svg(parts, title), legend)


def figure(title: str, body: str, legend: Sequence[tuple[str, str]]) -> str:
    """A plot with its heading and legend."""
    keys = "".join(f'<li><i class="{kind}"></i>{escape(name)}</li>' for name, kind in legend)
    return f'<figure><figcaption>{escape(title)}</figcaption>{body}<ul class="legend">{keys}</ul></figure>'


def _svg(parts: Sequence[str], title: str) -> str:
    inside = "".join(parts)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title, quote=True)}">{inside}</svg>'
    )  # fmt: skip


def _frame(horizontal: _Axis, vertical: _Axis, x: str, y: str, x_words: Words, y_words: Words) -> list[str]:
    parts, base = [], HEIGHT - BOTTOM
    for mark in vertical.marks():
        at = vertical(mark)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{at + 4}" text-anchor="end">{escape(y_words(mark))}</text>')
    for mark in horizontal.marks():
        at = horizontal(mark)
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{base}" y2="{base + 4}"/>')
        parts.append(
            f'<text class="tick" x="{at}" y="{base + 17}" text-anchor="middle">{escape(x_words(mark))}</text>'
        )  # fmt: skip
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    parts.append(f'<text class="name" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x)}</text>')
    center = (TOP + base) / 2
    turned = f'transform="rotate(-90 12 {center})"'
    parts.append(f'<text class="name up" x="12" y="{center}" text-anchor="middle" {turned}>{escape(y)}</text>')
    return parts


def _limit(limit: Limit, horizontal: _Axis, vertical: _Axis) -> list[str]:
    title = f"<title>{escape(limit.name)}</title>"
    if not limit.upright:
        at = vertical(limit.at)
        return [f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}">{title}</line>']
    parts, at = [], horizontal(limit.at)
    if limit.low is not None and limit.high is not None:
        left, right = horizontal(limit.low), horizontal(limit.high)
        parts.append(
            f'<rect class="interval" x="{left}" y="{TOP}" width="{max(right - left, 1):.1f}" '
            f'height="{HEIGHT - BOTTOM - TOP}"/>'
        )
    parts.append(f'<line class="limit" x1="{at}" x2="{at}" y1="{TOP}" y2="{HEIGHT - BOTTOM}">{title}</line>')
    return parts


def _curve(line: Line, horizontal: _Axis, vertical: _Axis, x_words: Words, y_words: Words) -> list[str]:
    parts = []
    if line.band:
        there = [f"{horizontal(px)},{vertical(high)}" for px, _, high in line.band]
        back = [f"{horizontal(px)},{vertical(low)}" for px, low, _ in reversed(line.band)]
        parts.append(f'<polygon class="band c{line.colour}" points="{" ".join(there + back)}"/>')
    if line.joined and len(line.points) > 1:
        path = " ".join(f"{horizontal(px)},{vertical(py)}" for px, py in line.points)
        parts.append(f'<polyline class="line c{line.colour}" points="{path}"/>')
    few = line.dots or not line.joined or len(line.points) < 2
    for px, py in line.points:
        words = f"<title>{escape(f'{line.name}: {y_words(py)} at {x_words(px)}')}</title>"
        parts.append(
            f'<circle class="{"dot" if few else "touch"} c{line.colour}" cx="{horizontal(px)}" cy="{vertical(py)}" '
            f'r="{3 if few else 6}">{words}</circle>'
        )
    return parts
