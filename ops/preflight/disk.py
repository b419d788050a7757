"""Disk: the images and models that are still to come fit where Docker keeps its data."""

from __future__ import annotations

import re
from typing import Final

from ops.docker import DockerError
from ops.preflight import sizes
from ops.preflight.finding import Context, Finding, Level
from stack.versions import IMAGES

GIB: Final = 1024**3
FLOOR: Final = 1.0
"""GiB that must be left when all is there."""
MARGIN: Final = 5.0
"""GiB left below which it is said: chats, documents and metrics grow."""
_UNITS: Final = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


class DiskSpace:
    """Refuses what would fill the disk, warns when little would be left."""

    name = "disk"
    local = True

    def check(self, context: Context) -> Finding | None:
        """Compares free space with the sizes of what is not there yet."""
        folder = str(context.info.get("DockerRootDir") or "/var/lib/docker")
        free = context.host.free_bytes(folder)
        if free is None:
            return Finding(
                check=self.name,
                level=Level.NOTE,
                what="the free space cannot be read, so nobody looked whether images and models fit",
                where=f"{folder}, where Docker keeps its data",
                fix="",
            )
        models = {model.name: sizes.model_gib(model.name) for model in context.platform.models if model.engine is None}
        if context.source == "mirror":
            models = dict.fromkeys(models, sizes.STAND_IN)
        unknown = [name for name, size in models.items() if size is None]
        wanted = sum(size for size in models.values() if size)
        images = sum(
            sizes.image_gib(name, context.source)
            for name in sizes.images_needed(context.platform)
            if not _has(context, name)
        )
        need = images + wanted
        if free / GIB - need < MARGIN:  # summing up what is stored takes Docker seconds
            need = images + max(0.0, wanted - _stored(context))
        left = free / GIB - need
        level = Level.REFUSED if left < FLOOR else Level.WARNING if left < MARGIN else None
        if level is None and not unknown:
            return None
        also = f", and {', '.join(unknown)} of unknown size" if unknown else ""
        return Finding(
            check=self.name,
            level=level or Level.NOTE,
            what=f"{free / GIB:.1f} GiB are free; about {need:.1f} GiB are still to come (estimate){also}",
            where=f"{folder}, where Docker keeps its data; the models are in {context.file}",
            fix=(
                "free space (`docker system df` shows what can go, `docker image prune` removes unused images), "
                "choose smaller models, give Docker a larger disk (`data-root` in /etc/docker/daemon.json), "
                "or go on without host checks where you know better (HOST=none)"
                if level
                else ""
            ),
        )


def _has(context: Context, name: str) -> bool:
    """The image is there, from whichever registry."""
    official = IMAGES.get(name, "").rpartition(":")[0].removeprefix("docker.io/").removeprefix("library/")
    return any(
        repository == official or repository.endswith(f"/{name}") or repository == f"private-llm-{name}"
        for repository in _repositories(context)
    )


def _repositories(context: Context) -> list[str]:
    try:
        return context.docker.run(["image", "ls", "--format", "{{.Repository}}"]).split()
    except DockerError:
        return []


def _stored(context: Context) -> float:
    """GiB already in this stack's model volume. Docker adds sizes up only when asked for all of them."""
    prefix = f"{context.project}-{context.stack}-"
    try:
        listed = context.docker.json(["system", "df", "--verbose", "--format", "{{json .}}"], limit=60)
    except DockerError:
        return 0.0
    for entry in listed.get("Volumes") or []:
        name = str(entry.get("Name", ""))
        if name.startswith(prefix) and name.endswith("-models"):
            return _bytes(str(entry.get("Size", ""))) / GIB
    return 0.0


def _bytes(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)([kMGT]?B)", text)
    return float(match[1]) * _UNITS[match[2]] if match else 0.0
