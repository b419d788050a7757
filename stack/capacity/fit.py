"""Whether models fit a host, and what would. Pure.

A host has cards, or the memory that its container may use. Models are placed as Ollama does: on one card when it has
room, else the layers are shared out over all of them. What does not fit would be computed by the CPU, much slower.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from stack.capacity import naive
from stack.capacity.facts import BITS, GUESS, Known, requantized
from stack.capacity.memory import GIB, MIB, PAD, Need, Run, need
from stack.capacity.shape import Shape

COMFORT: Final = 0.97  # share of a card that may be planned; drivers and fragments take the rest
PROCESS: Final = 300 * MIB  # of a process that computes on the CPU, beside what it computes with
MOST_CONTEXT: Final = 1 << 20
MOST_SLOTS: Final = 64
FEWEST_BITS: Final = 3.0  # answers get worse quickly with fewer, so nobody is sent there
LONG, LONG_BATCH, LONG_ROOM, LONG_SHARE = 32_768, 2048, 2 * GIB, 0.60
MIDDLE, MIDDLE_BATCH, MIDDLE_ROOM, MIDDLE_SHARE = 4096, 1024, 768 * MIB, 0.75
SMALL_BATCH: Final = 512

# Ollama answers one request at a time with these, whatever OLLAMA_NUM_PARALLEL says (server/sched.go, fb30760).
ONE_SLOT: Final = frozenset(
    {
        "mllama", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe", "qwen3next",
        "lfm2", "lfm2moe", "nemotron_h", "nemotron_h_moe",
    }
)  # fmt: skip


class Verdict(StrEnum):
    """Whether it fits."""

    FITS = "fits"
    TIGHT = "tight"
    """Within the last hundredths, or within what the numbers may be off."""
    NO = "does not fit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Where one engine computes."""

    name: str
    memory: tuple[int, ...]
    """Bytes of each card, less what is reserved for others; for a CPU the one limit of its container."""
    cpu: bool = False

    @property
    def budget(self) -> int:
        """Bytes that may be planned, over all cards."""
        return sum(self.memory)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the engine is set up, for every model."""

    context: int
    slots: int
    cache: str = "f16"
    flash_attention: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """One model on one host."""

    model: str
    run: Run
    need: Need
    """Over all cards that it is on."""
    budget: int
    cards: int
    verdict: Verdict
    band: float
    guessed: bool
    source: str
    notes: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    """What would fit, one sentence each; empty when it does."""

    @property
    def free(self) -> int:
        """What is left; less than nothing when it does not fit."""
        return self.budget - self.need.total


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """All models of one host."""

    host: Host
    models: tuple[Placed, ...]
    together: Verdict
    """Whether as many as are kept loaded fit at the same time."""
    sum: int
    """Bytes of the largest ones that are kept loaded."""
    loaded: int
    """How many of them that are."""


def fit(host: Host, models: Sequence[Known], settings: Settings, *, loaded: int) -> Fit:
    """Every model by itself with what would fit, and the `loaded` largest of them together."""
    placed = [_advised(host, known, settings) for known in models]
    largest = sorted(placed, key=lambda one: one.need.total, reverse=True)[:loaded]
    return Fit(
        host=host,
        models=tuple(placed),
        together=_together(host, largest),
        sum=sum(one.need.total for one in largest),
        loaded=len(largest),
    )


def place(host: Host, known: Known, settings: Settings) -> Placed:
    """One model on this host, alone there."""
    shape, notes = known.shape, []
    slots = settings.slots
    if slots > 1 and (known.embeds or shape.architecture in ONE_SLOT or not shape.caches):
        slots = 1
        if not known.embeds:
            notes.append(f"Ollama answers one request at a time with {shape.architecture} models, not {settings.slots}")
    context = settings.context
    if shape.context and context > shape.context:
        context = shape.context
        if shape.caches:
            notes.append(f"it was made for {context} tokens of context, so it gets no more")
    run = Run(context=context, slots=slots, cache=settings.cache, flash_attention=settings.flash_attention)
    run = replace(run, batch=_batch(host, shape, run))
    takes, cards = _spread(host, shape, run)
    budget = host.budget if cards > 1 or host.cpu else max(host.memory, default=0)
    return Placed(
        model=shape.name,
        run=replace(run, devices=cards),
        need=takes,
        budget=budget,
        cards=cards,
        verdict=_verdict(takes.total, budget, known.band),
        band=known.band,
        guessed=known.guessed,
        source=shape.source,
        notes=tuple(notes),
    )


def _verdict(total: int, budget: int, band: float) -> Verdict:
    """Tight is what the numbers cannot tell for sure; of a guess, only what is too large at its best does not fit."""
    least = total * (1 - band) if band >= GUESS else total
    if least > budget:
        return Verdict.NO
    return Verdict.TIGHT if max(total / COMFORT, total * (1 + band)) > budget else Verdict.FITS


def _spread(host: Host, shape: Shape, run: Run) -> tuple[Need, int]:
    """What it takes, and on how many cards: one when it has room there, else all."""
    if host.cpu:
        return _on_cpu(shape, run), 1
    one = need(shape, run)
    if len(host.memory) < 2 or one.total <= COMFORT * max(host.memory):
        return one, 1
    many = len(host.memory)
    shared = need(shape, replace(run, devices=many))
    # A layer is on one card or another: what remains of each card is lost.
    lost = (shared.weights + shared.cache) // max(1, shape.layers) * (many - 1)
    return replace(shared, compute=shared.compute * many, overhead=shared.overhead * many + lost), many


def _on_cpu(shape: Shape, run: Run) -> Need:
    """In system memory everything is needed, the token embedding too."""
    return replace(need(shape, run), weights=shape.size, overhead=PROCESS)


def _batch(host: Host, shape: Shape, run: Run) -> int:
    """Tokens of the prompt at once, as Ollama chooses (llm/llama_server.go, fb30760): more where there is much room."""
    if not shape.caches:
        return run.context  # an encoder reads all of its text at once
    if host.cpu:
        return SMALL_BATCH
    predicted = naive.ollama(shape, run)
    if run.total_context > LONG and predicted + LONG_ROOM <= LONG_SHARE * host.budget:
        return LONG_BATCH
    if run.total_context > MIDDLE and predicted + MIDDLE_ROOM <= MIDDLE_SHARE * host.budget:
        return MIDDLE_BATCH
    return SMALL_BATCH


def _together(host: Host, placed: Sequence[Placed]) -> Verdict:
    """Whether all of them are there at once: what no card has room for alone is shared out over what is left."""
    total = sum(one.need.total for one in placed)
    if total > host.budget or any(one.verdict is Verdict.NO for one in placed):
        return Verdict.NO
    tight = total > COMFORT * host.budget or any(one.verdict is Verdict.TIGHT for one in placed)
    return Verdict.TIGHT if tight else Verdict.FITS


def _advised(host: Host, known: Known, settings: Settings) -> Placed:
    placed = place(host, known, settings)
    if placed.verdict is not Verdict.NO:
        return placed
    return replace(placed, advice=tuple(_advice(host, known, settings, placed)))


def _advice(host: Host, known: Known, settings: Settings, placed: Placed) -> list[str]:
    """What would fit, the smallest change first; numbers of this host and model."""

    def room(changed: Settings, other: Known = known) -> Placed | None:
        tried = place(host, other, changed)
        return tried if tried.verdict is not Verdict.NO else None

    said = []
    top = placed.run.context
    context = _largest(lambda n: room(replace(settings, context=n * PAD)) is not None, min(top, MOST_CONTEXT) // PAD)
    if context and context * PAD < top:
        said.append(f"contextLength: {context * PAD} with {placed.run.slots} slots fits")
    slots = _largest(lambda n: room(replace(settings, slots=n)) is not None, min(placed.run.slots, MOST_SLOTS))
    if slots and slots < placed.run.slots:
        said.append(f"parallel: {slots} with {top} tokens each fits")
    if settings.cache == "f16" and placed.need.cache:
        quantised = replace(settings, cache="q8_0", flash_attention=True)
        if fits := room(quantised):
            said.append(f"kvCache: q8_0 with flashAttention: true fits ({gib(fits.need.total)})")
        elif not settings.flash_attention and (fits := room(replace(settings, flash_attention=True))):
            said.append(f"flashAttention: true fits ({gib(fits.need.total)})")
    smaller = [
        (name, fits)
        for name in sorted(BITS, key=lambda bits: BITS[bits], reverse=True)
        if BITS[name] >= FEWEST_BITS
        and known.shape.parameters * BITS[name] / 8 < known.shape.size
        and (fits := room(settings, replace(known, shape=requantized(known.shape, name))))
    ]
    if smaller:
        name, fits = smaller[0]
        said.append(f"the quantization {name} or smaller fits ({gib(fits.need.total)})")
    if not host.cpu and placed.need.weights and known.shape.layers:
        fixed = placed.need.compute + placed.need.projector + placed.need.overhead
        layer = (placed.need.weights + placed.need.cache + placed.need.state) / known.shape.layers
        inside = max(0, min(known.shape.layers, int((COMFORT * placed.budget - fixed) / layer)))
        said.append(
            f"as it is, {inside} of {known.shape.layers} layers would be on the card and "
            f"{gib(round(layer * (known.shape.layers - inside)))} in system memory, several times slower"
        )
    if host.cpu:
        said.append(f"engine.resources.memory: {_up(placed.need.total)} holds it as it is")
    return said


def _largest(good: Callable[[int], bool], most: int) -> int:
    """The largest number from 1 to `most` that is good, when all below a good one are; 0 when none is."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if good(middle) else (low, middle - 1)
    return low


def _up(size: int) -> str:
    """A size as the configuration takes it, with some room."""
    return f"{-(-round(size / COMFORT) // (GIB // 2)) * 512}MiB"


def gib(size: int) -> str:
    """A size for people."""
    return f"{size / GIB:.1f} GiB"
