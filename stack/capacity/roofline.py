"""What a step of a model reads and computes, and how long a card takes for it with given constants. Pure.

Decode is bound by memory: a step takes the time to read what it needs, and a fixed time for each layer. Many answers
share what a step reads, until a mixture of experts needs all of its experts. The constants are in `fits.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from stack.capacity.devices import Device
from stack.capacity.least_squares import nonnegative
from stack.capacity.memory import CACHE_TYPES
from stack.capacity.shape import Shape

REACH: Final = 2  # times the largest measured number of answers at once; beyond, nothing is said
WIDEST: Final = 0.5  # of a prediction, up and down, for a kind of card that too few measurements are held out of

# What a card is, by its id in devices.csv: first match wins. Kinds differ in how much of their bandwidth is reached.
KINDS: Final = (
    (r"nvidia-(dgx-spark|jetson|gb10)", "cuda-unified"),
    (r"nvidia-(a30|a100|a800|h100|h200|h800|gh200|b200|tesla-v100|quadro-gv100|titan-v|tesla-p100)", "cuda-hbm"),
    (r"nvidia-(titan|quadro|tesla|rtx-20|gtx|t4)", "cuda-old"),
    (r"nvidia-", "cuda-gddr"),
    (r"amd-(ryzen|strix)", "apu"),
    (r"amd-", "rocm"),
    (r"apple-", "apple"),
    (r"intel-arc", "vulkan"),
)


class SpeedError(ValueError):
    """Nothing can be said about this; the text says why and what would help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one step of a model reads and computes. Bytes, unless said otherwise."""

    dense: float
    """Read by every step, whatever the number of answers."""
    experts: float = 0.0
    """All experts together."""
    share: float = 0.0
    """Of the experts, what one token uses (0 to 1)."""
    layers: int
    active: float
    """Parameters that one token is multiplied with (a count)."""
    cache: float = 0.0
    """Keys and values of one token, in the layers that look at everything."""
    windowed: float = 0.0
    """Keys and values of one token, in the layers with a window."""
    window: int = 0
    """Tokens that those layers look back."""
    state: float = 0.0
    """Recurrent state of one answer."""
    attention: float = 0.0
    """Multiplications of one token with one earlier token (a count)."""

    def history(self, depth: float) -> float:
        """Bytes that a step reads of one answer's own past of `depth` tokens."""
        return self.cache * depth + self.windowed * min(depth, self.window) + self.state

    def weights(self, batch: float = 1) -> float:
        """Bytes of weights that a step of `batch` answers reads: each brings experts, some that others have too."""
        return self.dense + self.experts * (1 - math.pow(1 - self.share, batch))

    def reads(self, depth: float, batch: float = 1, *, shared: bool = False) -> float:
        """All bytes of a step; `shared` when the answers have one past (tokens of one prompt)."""
        return self.weights(batch) + self.history(depth) * (1 if shared else batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What computes."""

    kind: str
    bandwidth: float
    """Bytes a second that its memory delivers at most."""
    tflops: float | None = None
    """10^12 additions and multiplications a second of 16-bit numbers."""
    cards: int = 1
    """Cards that share the layers of a model: more memory, one answer is no quicker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """What a kind of card, or one machine, reaches."""

    efficiency: float
    """Of the bandwidth (0 to 1)."""
    layer: float
    """Seconds for each layer, beside reading."""
    mixture: float = 0.0
    """Seconds more for each layer of a mixture of experts: choosing them takes steps of its own."""
    band: tuple[float, float] = (-WIDEST, WIDEST)
    """Relative: how far what was measured lay from what was predicted."""
    mixture_band: tuple[float, float] | None = None
    """The same of mixtures of experts, where it is another one."""
    basis: str = ""
    """What that is from."""

    def around(self, load: Work) -> tuple[float, float]:
        """The band of this model."""
        return self.mixture_band if load.experts and self.mixture_band else self.band

    def layers(self, load: Work) -> float:
        """Seconds of a step for all layers, beside reading."""
        return load.layers * (self.layer + (self.mixture if load.experts else 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """A prediction, tokens a second."""

    value: float
    low: float
    high: float
    basis: str

    @classmethod
    def within(cls, value: float, band: tuple[float, float], basis: str) -> Self:
        """A value with a relative band around it, which the value itself is always in."""
        return cls(value=value, low=value * (1 + min(band[0], 0)), high=value * (1 + max(band[1], 0)), basis=basis)


def kind(device: str) -> str:
    """The kind of card that an id of devices.csv is. Raises SpeedError for an unknown one."""
    for pattern, name in KINDS:
        if re.match(pattern, device):
            return name
    raise SpeedError(f"{device!r}: no measurements of such a card; `make calibrate` would bring some")


def card(device: Device, cards: int = 1) -> Card:
    """A card of devices.csv. Raises SpeedError for one without a bandwidth or of a kind that nobody measured."""
    if device.bandwidth is None:
        raise SpeedError(f"{device.id}: its bandwidth is not known, and speed follows from it; give it in GB/s")
    return Card(kind=kind(device.id), bandwidth=device.bandwidth, tflops=device.tflops, cards=cards)


def work(shape: Shape, cache_type: str = "f16") -> Work:
    """What a step of this model reads and computes."""
    number = float(CACHE_TYPES[cache_type])
    read = shape.size - (0 if shape.tied else shape.embedding)
    experts = shape.experts.size if shape.experts else 0
    share = shape.experts.used / shape.experts.count if shape.experts else 0.0
    everywhere = [layer for layer in shape.caches if layer.window is None]
    windowed = [layer for layer in shape.caches if layer.window is not None]
    state = 0.0
    if shape.recurrent:
        one = shape.recurrent
        state = 4.0 * one.layers * one.inner * one.state
    return Work(
        dense=read - experts,
        experts=experts,
        share=share,
        layers=shape.layers,
        active=shape.parameters * shape.active / shape.size,
        cache=sum(layer.heads * (layer.key + layer.value) for layer in everywhere) * number,
        windowed=sum(layer.heads * (layer.key + layer.value) for layer in windowed) * number,
        window=max((layer.window or 0 for layer in windowed), default=0),
        state=state,
        attention=sum(shape.heads * max(layer.key, layer.value) for layer in everywhere),
    )


def seconds(load: Work, card: Card, constants: Constants, depth: float) -> float:
    """Of one decode step of one answer with `depth` tokens behind it."""
    return load.reads(depth) / (constants.efficiency * card.bandwidth) + constants.layers(load)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Many answers at once on one machine: seconds of a step = bytes x `byte` + answers x `each` + `step`."""

    load: Work
    byte: float
    each: float
    step: float
    largest: int
    """Answers at once that were measured."""
    band: tuple[float, float] = (-WIDEST, WIDEST)
    basis: str = ""

    def seconds(self, answers: float, depth: float, *, shared: bool = False) -> float:
        """Of a step with so many answers. Raises SpeedError beyond twice what was measured."""
        if answers > REACH * self.largest:
            raise SpeedError(
                f"{answers:g} answers at once are more than twice the {self.largest} that were measured: "
                "measure more at once before planning with them"
            )
        return self.load.reads(depth, answers, shared=shared) * self.byte + answers * self.each + self.step

    def rate(self, answers: float, depth: float, *, shared: bool = False) -> Speed:
        """Tokens a second of all answers together."""
        return Speed.within(answers / self.seconds(answers, depth, shared=shared), self.band, self.basis)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One measured point of one model on one machine."""

    answers: int
    depth: float
    rate: float
    """Tokens a second of all answers together."""
    shared: bool = False


def through(load: Work, points: Sequence[Point], band: tuple[float, float]) -> Batch:
    """The curve through measured points of one machine and model. Raises SpeedError below two numbers of answers."""
    if len({point.answers for point in points}) < 2:
        raise SpeedError("a curve over answers at once needs measurements at two numbers of them at least")
    parts = [
        (load.reads(point.depth, point.answers, shared=point.shared), float(point.answers), 1.0) for point in points
    ]
    byte, each, step = nonnegative(parts, [point.answers / point.rate for point in points])
    return Batch(
        load=load,
        byte=byte,
        each=each,
        step=step,
        largest=max(point.answers for point in points),
        band=band,
        basis=f"{len(points)} measured points of this machine",
    )
