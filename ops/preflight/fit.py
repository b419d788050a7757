"""The models fit where the engine computes: told before anything is pulled, loaded or touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from ops import model_file
from ops.docker import DockerCli, DockerError
from ops.preflight.finding import Context, Finding, Level
from stack.capacity import facts
from stack.capacity.facts import Known
from stack.capacity.fit import Fit, Host, Placed, Settings, Verdict, fit, gib
from stack.capacity.gguf import GgufError, read_header
from stack.capacity.memory import MIB
from stack.capacity.shape import FAMILIAR, Shape, ShapeError, from_header
from stack.config.model import OWN_ENGINE, Accelerator, Platform, Role
from stack.config.units import mebibytes

EXAMPLE: Final = "hardware: [{device: nvidia-rtx-4090}]"
EXACT: Final = 0.03  # how far off a plan is at most whose model's header was read
UNFAMILIAR: Final = 0.20  # the same, of an architecture that the rules were not checked for


def host(platform: Platform) -> Host | None:
    """Where each instance of the platform's own engine computes; None when its cards are not told."""
    engine = platform.engine
    if engine.accelerator is Accelerator.CPU:
        return Host(name="the CPU", memory=(mebibytes(engine.resources.memory) * MIB,), cpu=True)
    if not engine.cards:
        return None
    names = [card.device or card.memory or "" for card in engine.cards]
    return Host(name=" + ".join(names), memory=tuple(card.bytes for card in engine.cards))


def models(platform: Platform) -> dict[str, Known | None]:
    """What is known of each model that the platform's own engine serves, by its name."""
    found = {model.name: (facts.model(model.name), model.role) for model in platform.models if model.engine is None}
    return {
        name: known and replace(known, shape=replace(known.shape, name=name), embeds=role is Role.EMBEDDING)
        for name, (known, role) in found.items()
    }


def in_engine(platform: Platform, docker: DockerCli, stack: str, project: str) -> dict[str, Known | None]:
    """The same, from the running engine's own files where they can be read: those are the models, whatever their names.

    Not for stand-ins of the package mirrors, which are no models of that name.
    """
    known = models(platform)
    embeds = {model.name for model in platform.models if model.role is Role.EMBEDDING}
    for name in known:
        try:
            if opened := model_file.of_engine(docker, f"{project}-{stack}-{OWN_ENGINE}", name):
                known[name] = from_file(from_header(name, read_header(*opened)), embeds=name in embeds)
        except (GgufError, ShapeError):
            continue
        except DockerError:
            break
    return known


def from_file(shape: Shape, *, embeds: bool = False) -> Known:
    """A model whose header was read."""
    return Known(
        shape=shape, band=EXACT if shape.architecture in FAMILIAR else UNFAMILIAR, guessed=False, embeds=embeds
    )


def settings(platform: Platform) -> Settings:
    """How the engine is set up."""
    engine = platform.engine
    return Settings(
        context=engine.context_length,
        slots=engine.parallel,
        cache=str(engine.kv_cache),
        flash_attention=engine.flash_attention,
    )


def planned(platform: Platform, at: Host, known: Mapping[str, Known | None]) -> Fit:
    """All models that something is known of, at this host."""
    told = [one for one in known.values() if one]
    return fit(at, told, settings(platform), loaded=platform.engine.max_loaded_models)


def parts(one: Placed) -> str:
    """What a model's memory is made of."""
    need = one.need
    named = {
        "weights": need.weights,
        "cache": need.cache,
        "state": need.state,
        "work buffers": need.compute,
        "projector": need.projector,
        "overhead": need.overhead,
    }
    return ", ".join(f"{name} {gib(size)}" for name, size in named.items() if size >= 50 * MIB)


class ModelsFit:
    """Refuses models that do not fit, unless the configuration says why they are wanted all the same."""

    name = "models fit"
    local = False

    def check(self, context: Context) -> Finding | None:
        """Compares what each model takes, and those kept loaded together, with what the engine has."""
        platform = context.platform
        if not platform.uses_engine or context.source == "mirror":  # stand-ins are small, whatever they are called
            return None
        engine, key = platform.engine, f"private-llm:platform.engine in {context.file}"
        if (at := host(platform)) is None:
            what = "nobody looked whether the models fit: which cards the engine has is not told"
            return self._said(Level.NOTE, what, f"{key} has no hardware", f"for example {EXAMPLE}")
        known = in_engine(platform, context.docker, context.stack, context.project)
        found = planned(platform, at, known)
        if large := [one for one in found.models if one.verdict is Verdict.NO]:
            excused = engine.allow_oversize or all(one.guessed for one in large)
            reason = f" (allowed: {engine.allow_oversize})" if engine.allow_oversize else ""
            return self._said(
                Level.WARNING if excused else Level.REFUSED,
                "; ".join(_too_large(one, at) for one in large) + reason,
                f"models and {key}",
                "; or ".join([*dict.fromkeys(line for one in large for line in one.advice), *_anyway(platform)]),
            )
        if found.loaded > 1 and found.together is Verdict.NO:
            return self._said(
                Level.WARNING,
                f"the {found.loaded} largest models take {gib(found.sum)} together, {at.name} has {gib(at.budget)}: "
                "they take turns, and each change loads one anew",
                f"engine.maxLoadedModels in {key}",
                f"set it to {found.loaded - 1}, or shorten contextLength",
            )
        tight = [one for one in found.models if one.verdict is Verdict.TIGHT]
        unknown = [name for name, one in known.items() if one is None]
        if not tight and not unknown:
            return None
        said = [f"{one.model} is tight: {_of(one, at)}" for one in tight]
        said += [f"nobody looked at {name}: its size is not known" for name in unknown]
        return self._said(
            Level.NOTE, "; ".join(said), f"models and {key}", f"`make plan STACK={context.stack}` shows all"
        )

    def _said(self, level: Level, what: str, where: str, fix: str) -> Finding:
        return Finding(check=self.name, level=level, what=what, where=where, fix=fix)


def _of(one: Placed, at: Host) -> str:
    about = f" (guessed from its name, may be {one.band:.0%} off)" if one.guessed else ""
    return f"{gib(one.need.total)} of {gib(one.budget)} of {at.name}{about}"


def _too_large(one: Placed, at: Host) -> str:
    slots = f"{one.run.slots} x {one.run.context} tokens"
    return f"{one.model} with {slots} does not fit: {_of(one, at)}: {parts(one)}"


def _anyway(platform: Platform) -> list[str]:
    return [] if platform.engine.allow_oversize else ['allowOversize: "<why>" in engine deploys it all the same']
