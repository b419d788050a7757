"""Models and a card to reckon speed with, in round numbers."""

from __future__ import annotations

from stack.capacity.roofline import Card, Constants, Point, Work

CARD = Card(kind="cuda-gddr", bandwidth=1e12, tflops=100)
DENSE = Work(dense=5e9, layers=32, active=8e9, cache=131072, attention=131072)
MIXTURE = Work(dense=1e9, experts=16e9, share=8 / 128, layers=48, active=3.3e9, cache=98304)
EXACT = Constants(efficiency=0.8, layer=50e-6, band=(-0.1, 0.2), basis="given")


def curve(load: Work, numbers: tuple[int, ...] = (1, 2, 4, 8), depths: tuple[int, ...] = (2000,)) -> list[Point]:
    """What a machine of 1 ns a kB, 0.3 ms an answer and 2 ms a step measures."""
    return [
        Point(answers=n, depth=depth, rate=n / (load.reads(depth, n) * 1e-12 + n * 3e-4 + 2e-3))
        for n in numbers
        for depth in depths
    ]


def reached(one: Constants) -> tuple[float, float, float]:
    """What a machine's constants come to."""
    return one.efficiency, one.layer, one.mixture
