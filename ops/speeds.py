"""What `make plan` says of speed: for each model that fits, from published measurements or this machine's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ops import paths
from ops.errors import OpsError
from stack.capacity import calibrate, roofline
from stack.capacity.devices import find
from stack.capacity.facts import Known
from stack.capacity.fit import Fit, Verdict
from stack.capacity.outlook import Outlook, outlook
from stack.capacity.roofline import Speed, SpeedError
from stack.config.model import Accelerator, Platform
from stack.config.model import Card as Configured

HOST = "engine"  # the one host that a calibration is of


def calibration(stack: str) -> Path:
    """Where a stack's calibration is kept: beside its state."""
    return paths.state() / f"calibration-{stack}.json"


def outlooks(stack: str, platform: Platform, found: Fit, models: Mapping[str, Known | None]) -> Mapping[str, Outlook]:
    """How quick each model that fits will be; nothing for a CPU, or for cards whose bandwidth nobody knows."""
    fitting = {one.model: one for one in found.models if one.verdict is not Verdict.NO}
    shapes = {name: replace(one.shape, name=name) for name, one in models.items() if one and not one.embeds}
    try:
        machine = calibrate.load(calibration(stack)).get(HOST)
        where = card(platform)
    except calibrate.CalibrationError as wrong:
        raise OpsError(str(wrong)) from None
    except SpeedError:
        return {}
    return {
        name: outlook(
            shapes[name], where, slots=one.run.slots, context=one.run.context, cache=one.run.cache, machine=machine
        )
        for name, one in fitting.items()
        if name in shapes
    }


def card(platform: Platform) -> roofline.Card:
    """The slowest of the cards that share a model. Raises SpeedError for none, or for an unknown bandwidth."""
    if platform.engine.accelerator is Accelerator.CPU:
        raise SpeedError("no measurements of CPUs")
    cards = [_one(card, platform.engine.accelerator) for card in platform.engine.cards]
    if not cards:
        raise SpeedError("which cards the engine has is not told")
    slowest = min(cards, key=lambda card: card.bandwidth)
    return roofline.Card(
        kind=slowest.kind, bandwidth=slowest.bandwidth, tflops=slowest.tflops, cards=len(platform.engine.cards)
    )


def _one(card: Configured, accelerator: Accelerator) -> roofline.Card:
    if card.device and not card.bandwidth:
        return roofline.card(find(card.device))
    if not card.bandwidth:
        raise SpeedError("the card's bandwidth is not told")
    usual = "cuda-gddr" if accelerator is Accelerator.NVIDIA else "rocm"
    return roofline.Card(kind=roofline.kind(card.device) if card.device else usual, bandwidth=card.bandwidth * 1e9)


def text(name: str, one: Outlook) -> str:
    """One model in a sentence."""
    parts = [f"about {_around(one.alone)} tokens/s alone, {one.depth} tokens behind it"]
    if one.together:
        parts.append(f"{one.slots} at once about {_around(one.together)} together")
    elif one.slots > 1:
        parts.append(f"{one.slots} at once: nobody measured as many on such a card")
    if one.prefill:
        parts.append(f"a prompt of {one.prompt} tokens at about {_around(one.prefill)} tokens/s")
    return f"{name}: {'; '.join(parts)} ({one.alone.basis})"


def _around(one: Speed) -> str:
    return f"{one.value:.0f} ({one.low:.0f} to {one.high:.0f})"


def document(one: Outlook) -> dict[str, Any]:
    """One model for programs; tokens a second."""
    return {
        "depth": one.depth,
        "alone": asdict(one.alone),
        "together": one.together and asdict(one.together),
        "prompt": one.prompt,
        "prefill": one.prefill and asdict(one.prefill),
    }
