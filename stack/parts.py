"""The lock: which exact image and model stands behind each name of `stack/versions.py`, and where it came from.

Official sources and package mirrors write the same file, so nothing else in the program knows which one it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from stack.config.model import OWN_ENGINE, Accelerator, Model, Platform, Role

Source = Literal["official", "mirror"]
SOURCES: Final = ("official", "mirror")
SERVICE_BASE: Final = "service-base"  # what services of one's own are built on


class MissingPart(Exception):
    """An image that the configuration needs is not in the lock; the text says which and what to do."""


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Where a model is pulled from, when it is not the engine's own registry under its own name."""

    name: str
    origin: str
    digest: str | None = None
    insecure: bool = False
    network: str | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What can be had: images by name (`repository@sha256:…`) and models by role."""

    source: Source
    images: dict[str, str]
    models: dict[Role, ModelSource] = field(default_factory=dict)

    def image(self, name: str) -> str:
        """The reference of an image. Raises MissingPart when this source does not have it."""
        if name not in self.images:
            raise MissingPart(self._missing(name))
        return self.images[name]

    def _missing(self, name: str) -> str:
        if not self.images:
            return (
                f"image `{name}`: this shell does not know where the stack's images come from; "
                'run `eval "$(make -s env)"` in it first, or use `make up`'
            )
        if self.source == "mirror":
            return (
                f"image `{name}` cannot be made from packages (source: package mirrors); "
                "use SOURCE=official, or configure the platform without it"
            )
        return f"image `{name}` is not in the lock of official images; run `make lock`"

    def require(self, names: Iterable[str]) -> None:
        """Raises MissingPart for the first of these images that is not there."""
        for name in names:
            self.image(name)

    def has(self, name: str) -> bool:
        """Whether this source has the image."""
        return name in self.images


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A model as it is served: the configured one, or the source's stand-in for those of its role.

    `origin`, `digest`, `insecure` and `network` say how the platform's own engine gets it; one that an engine elsewhere
    serves is never pulled. `fallback` is another one's `name`.
    """

    name: str
    role: Role
    aliases: tuple[str, ...]
    origin: str
    digest: str | None
    insecure: bool
    network: str | None
    note: str
    engine: str = OWN_ENGINE
    fallback: str | None = None
    requests_per_minute: int | None = None
    concurrent_requests: int | None = None

    @property
    def own(self) -> bool:
        """Whether the platform's own engine has it."""
        return self.engine == OWN_ENGINE


def parse(text: str) -> Parts:
    """Reads a lock file. Raises ValueError when it is not one."""
    data: dict[str, Any] = json.loads(text)
    if data.get("source") not in SOURCES:
        raise ValueError(f"a lock says where its parts come from: source is one of {', '.join(SOURCES)}")
    models = {
        Role(role): ModelSource(
            name=entry["name"],
            origin=entry["from"],
            digest=entry.get("digest"),
            insecure=bool(entry.get("insecure", False)),
            network=entry.get("network"),
            note=entry.get("note", ""),
        )
        for role, entry in data.get("models", {}).items()
    }
    return Parts(source=data["source"], images=dict(data.get("images", {})), models=models)


def engine_image(accelerator: Accelerator) -> str:
    """The engine's image; the usual one serves NVIDIA cards and CPUs."""
    return "ollama-rocm" if accelerator is Accelerator.AMD else "ollama"


def needed(platform: Platform) -> list[str]:
    """The images that this platform cannot do without (Grafana is merely left out)."""
    names = ["base", "gateway-builder"]
    if platform.uses_engine:
        names.append(engine_image(platform.engine.accelerator))
    if platform.chat.enabled:
        names.append("open-webui")
    if platform.uses_memory:
        names.append("chroma")
    if any(service.build for service in platform.services):
        names.append(SERVICE_BASE)
    if platform.observability.enabled:
        names += ["prometheus", "node-exporter"]
        names += ["gpu-exporter"] * measures_gpus(platform)
    return names


def measures_gpus(platform: Platform) -> bool:
    """Whether there are cards of the platform's own whose sensors can be read."""
    nvidia = platform.engine.accelerator is Accelerator.NVIDIA
    return platform.observability.enabled and platform.uses_engine and nvidia


def served(models: tuple[Model, ...], parts: Parts) -> tuple[ServedModel, ...]:
    """What is really served. A source with stand-ins serves one per role, which answers to all names of that role.

    The configured names stay aliases of the stand-in, so clients, consumers and tests need not know of it. Models of
    engines elsewhere are what they are, whatever the source.
    """
    own = [model for model in models if model.engine is None]
    here = [_configured(model) for model in own]
    if parts.models:
        here = [_stand_in(role, source, own) for role, source in parts.models.items() if _of(role, own)]
    elsewhere = [_configured(model) for model in models if model.engine is not None]
    return _with_fallbacks([*here, *elsewhere])


def _of(role: Role, models: Iterable[Model]) -> list[Model]:
    return [model for model in models if model.role is role]


def _configured(model: Model) -> ServedModel:
    return ServedModel(
        name=model.name,
        role=model.role,
        aliases=model.aliases,
        origin=model.name,
        digest=model.digest,
        insecure=False,
        network=None,
        note="",
        engine=model.engine or OWN_ENGINE,
        fallback=model.fallback,
        requests_per_minute=model.requests_per_minute,
        concurrent_requests=model.concurrent_requests,
    )


def _stand_in(role: Role, source: ModelSource, models: Iterable[Model]) -> ServedModel:
    """One for all of a role: under each of their names, with the narrowest of their limits."""
    stood_for = _of(role, models)
    names = [name for model in stood_for for name in (*model.aliases, model.name)]
    fallbacks = [model.fallback for model in stood_for if model.fallback and model.fallback not in names]
    return ServedModel(
        name=source.name,
        role=role,
        # Somebody may have declared the stand-in by its own name.
        aliases=tuple(name for name in names if name != source.name),
        origin=source.origin,
        digest=source.digest,
        insecure=source.insecure,
        network=source.network,
        note=source.note,
        fallback=next(iter(fallbacks), None),
        requests_per_minute=_narrowest(model.requests_per_minute for model in stood_for),
        concurrent_requests=_narrowest(model.concurrent_requests for model in stood_for),
    )


def _narrowest(limits: Iterable[int | None]) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _with_fallbacks(models: list[ServedModel]) -> tuple[ServedModel, ...]:
    """Fallbacks by the models' own names. A stand-in for several may close a circle that they did not: it opens it."""
    by_name = {name: model.name for model in models for name in (model.name, *model.aliases)}
    after = {model.name: by_name[model.fallback] for model in models if model.fallback}
    for model in models:
        seen, name = [model.name], after.get(model.name)
        while name and name not in seen:
            seen.append(name)
            name = after.get(name)
        if name == model.name:
            del after[model.name]
    return tuple(replace(model, fallback=after.get(model.name)) for model in models)
