"""The lock: which exact image and model stands behind each name of `stack/versions.py`, and where it came from.

Official sources and package mirrors write the same file, so nothing else in the program knows which one it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from stack.config.model import Accelerator, Model, Platform, Role

Source = Literal["official", "mirror"]
SOURCES: Final = ("official", "mirror")


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
    """A model as it is pulled and served: the configured one, or the source's stand-in for its role."""

    name: str
    role: Role
    aliases: tuple[str, ...]
    origin: str
    digest: str | None
    insecure: bool
    network: str | None
    note: str


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
    names = ["base", "gateway-builder", engine_image(platform.engine.accelerator)]
    if platform.chat.enabled:
        names.append("open-webui")
    if platform.uses_memory:
        names.append("chroma")
    if platform.observability.enabled:
        names += ["prometheus", "node-exporter"]
        names += ["gpu-exporter"] * (platform.engine.accelerator is Accelerator.NVIDIA)
    return names


def served(models: tuple[Model, ...], parts: Parts) -> tuple[ServedModel, ...]:
    """What is really served. A source with stand-ins serves one per role, which answers to all names of that role.

    The configured names stay aliases of the stand-in, so clients, consumers and tests need not know of it.
    """
    if not parts.models:
        return tuple(
            ServedModel(
                name=model.name,
                role=model.role,
                aliases=model.aliases,
                origin=model.name,
                digest=model.digest,
                insecure=False,
                network=None,
                note="",
            )
            for model in models
        )
    result = []
    for role, source in parts.models.items():
        names = [name for model in models if model.role is role for name in (*model.aliases, model.name)]
        if names:
            # Somebody may have declared the stand-in by its own name.
            names = [name for name in names if name != source.name]
            result.append(
                ServedModel(
                    name=source.name,
                    role=role,
                    aliases=tuple(names),
                    origin=source.origin,
                    digest=source.digest,
                    insecure=source.insecure,
                    network=source.network,
                    note=source.note,
                )
            )
    return tuple(result)
