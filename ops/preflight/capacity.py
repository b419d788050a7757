"""The limits of all services against what the Docker host has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ops.preflight.finding import Context, Finding, Level
from stack.config.model import Accelerator, Platform
from stack.config.resources import Resources
from stack.config.units import mebibytes
from stack.parts import measures_gpus

MIB: Final = 1024**2


def limits(platform: Platform) -> Iterator[tuple[str, str, Resources]]:
    """(service, configuration key, limits) of every service of this configuration."""
    yield "gateway", "gateway.resources", platform.gateway.resources
    if platform.uses_engine:
        for name in platform.engine.names:
            yield name, "engine.resources", platform.engine.resources
    if platform.chat.enabled:
        yield "chat", "chat.resources", platform.chat.resources
    if platform.uses_memory:
        yield "memory", "memory.resources", platform.memory.resources
    for number, service in enumerate(platform.services):
        yield service.name, f"services[{number}].resources", service.resources
    watch = platform.observability
    if watch.enabled:
        yield "prometheus", "observability.prometheus", watch.prometheus
        yield "node-exporter", "observability.exporters", watch.exporters
        if measures_gpus(platform):
            yield "gpu-exporter", "observability.exporters", watch.exporters
        if watch.grafana:
            yield "grafana", "observability.grafanaResources", watch.grafana_resources


class MemorySum:
    """Warns when the limits promise more memory than there is."""

    name = "memory"
    local = False

    def check(self, context: Context) -> Finding | None:
        """The sum of all memory limits against the host's memory."""
        total = int(context.info.get("MemTotal") or 0) // MIB
        asked = {name: mebibytes(resources.memory) for name, _, resources in limits(context.platform)}
        if not total or sum(asked.values()) <= total:
            return None
        largest = max(asked, key=lambda name: asked[name])
        return Finding(
            check=self.name,
            level=Level.WARNING,
            what=(
                f"the memory limits add up to {sum(asked.values())} MiB, the host has {total} MiB: "
                "under load the kernel may end a service"
            ),
            where=f"the `memory` keys in {context.file}; the largest is {largest} with {asked[largest]} MiB",
            fix="lower them, starting with the largest, or take a host with more memory",
        )


class EngineShare:
    """Says when the engine computes on a small part of a large host: answers are then slower than they need to be."""

    name = "engine cpus"
    local = False

    def check(self, context: Context) -> Finding | None:
        """The engine's CPU limit against half of the host's cores, where it computes on them."""
        engine, cores = context.platform.engine, int(context.info.get("NCPU") or 0)
        shared = engine.resources.cpus * engine.instances
        if not context.platform.uses_engine or engine.accelerator is not Accelerator.CPU or shared * 2 >= cores:
            return None
        return Finding(
            check=self.name,
            level=Level.NOTE,
            what=f"the engine computes on {shared:g} of the host's {cores} cores",
            where=f"private-llm:platform.engine.resources.cpus in {context.file}",
            fix=f"for faster answers raise it, to at most {cores // engine.instances}",
        )


class CpuLimit:
    """Docker refuses a container whose limit is above the host's cores, so this does it before the first one."""

    name = "cpus"
    local = False

    def check(self, context: Context) -> Finding | None:
        """Every service's CPU limit against the host's cores."""
        cores = int(context.info.get("NCPU") or 0)
        above = [(key, limit.cpus) for _, key, limit in limits(context.platform) if limit.cpus > cores]
        if not cores or not above:
            return None
        keys = ", ".join(dict.fromkeys(f"private-llm:platform.{key}.cpus ({cpus:g})" for key, cpus in above))
        return Finding(
            check=self.name,
            level=Level.REFUSED,
            what=f"CPU limits above the {cores} cores of the host; Docker does not start such a container",
            where=f"{keys}; set in {context.file} or the default",
            fix=f"set them to at most {cores} in {context.file}",
        )
