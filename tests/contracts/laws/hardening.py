"""Hardening: no container has a right that it does not need; every exception is a row with its reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tests.contracts.laws import Finding, finding
from tests.support.recorder import Plan, Resource

# Kind of container -> capability -> why.
CAPABILITIES: Final = {"owner job": {"CAP_CHOWN": "gives a fresh volume to its service; no network, ends at once"}}
WRITABLE_ROOT: Final = {"seed": "Docker refuses uploads into a read-only root; it is never started"}
ROOT_USER: Final = {
    "owner job": "only root may chown; it has CAP_CHOWN and nothing else",
    "seed": "never started",
}
ENGINES: Final = ("ollama", *(f"ollama-{number}" for number in range(2, 9)))
GPUS: Final = dict.fromkeys(ENGINES, "computes on them") | {"gpu-exporter": "reads their sensors"}
DEVICES: Final = dict.fromkeys(ENGINES, "AMD cards are device files")
UNBOUNDED: Final = {"seed": "never started"}

# Inputs by which a container could reach its host, all of them unset.
FORBIDDEN: Final = (
    "pidMode", "ipcMode", "usernsMode", "cgroupnsMode", "cgroupParent", "runtime", "deviceRequests",
    "deviceCgroupRules", "hosts", "dns", "sysctls", "ulimits", "mounts", "hostname", "domainname", "tty", "stdinOpen",
    "storageOpts",
)  # fmt: skip


def _kind(container: Resource) -> str:
    return "seed" if container.is_seed else "owner job" if container.is_owner_job else "service"


def _service(container: Resource) -> str:
    return container.name.removesuffix("-container")


def capabilities_are_dropped(plan: Plan) -> Iterator[Finding]:
    """Every container drops ALL capabilities, spelt so (Docker replaces on other spellings); owner jobs may chown."""
    for container in plan.containers:
        capabilities = container.clear("capabilities") or {}
        drops, adds = capabilities.get("drops"), capabilities.get("adds", [])
        yield finding(container, drops == ["ALL"], f"drops {drops}")
        allowed = CAPABILITIES.get(_kind(container), {})
        yield finding(container, set(adds) <= set(allowed), f"adds {adds}; allowed here: {sorted(allowed)}")


def no_new_privileges(plan: Plan) -> Iterator[Finding]:
    """No program can gain rights after start, and no other security option weakens that."""
    for container in plan.containers:
        found = container.clear("securityOpts")
        yield finding(container, found == ["no-new-privileges:true"], f"has security options {found}")
        yield finding(container, container.clear("privileged") is False, "is privileged")


def roots_are_read_only(plan: Plan) -> Iterator[Finding]:
    """Every root file system that runs is read-only; what is written lies in a volume or in memory."""
    for container in plan.containers:
        kept = container.clear("readOnly") is True or _kind(container) in WRITABLE_ROOT
        yield finding(container, kept, "has a writable root")


def users_are_not_root(plan: Plan) -> Iterator[Finding]:
    """Every service runs as a user of its own number, group included; names would depend on the image."""
    for container in plan.containers:
        user = str(container.clear("user", ""))
        numbers = user.split(":")
        plain = len(numbers) == 2 and all(n.isdigit() and int(n) >= 1000 for n in numbers)
        yield finding(container, plain or _kind(container) in ROOT_USER, f"runs as {user or 'the user of its image'}")


def memory_and_cpus_are_bounded(plan: Plan) -> Iterator[Finding]:
    """Everything that runs has a memory limit, no swap beyond it (Docker would change that on every `up`), CPUs."""
    for container in plan.containers:
        if _kind(container) in UNBOUNDED:
            continue
        memory, swap, cpus = (container.clear(key) for key in ("memory", "memorySwap", "cpus"))
        yield finding(container, bool(memory) and memory > 0, "has no memory limit")
        yield finding(container, memory == swap, f"may use {swap} MiB with swap, but {memory} MiB of memory")
        yield finding(container, bool(cpus) and float(cpus) > 0, "has no CPU limit")


def cpus_are_spelt_as_they_are_read_back(plan: Plan) -> Iterator[Finding]:
    """CPU limits are spelt as Docker's come back (`2.0`, `0.5`, `10.`): others replace on every `up`."""
    for container in plan.containers:
        cpus = container.clear("cpus")
        if cpus is not None:
            good = re.fullmatch(r"[1-9]+\.0|\d+\.\d*[1-9]|[1-9]\d*0\d*\.", cpus)
            yield finding(container, bool(good), f"has the CPU limit {cpus!r}")


def logs_are_bounded(plan: Plan) -> Iterator[Finding]:
    """No container can fill the disk with its log."""
    for container in plan.containers:
        options = container.clear("logOpts") or {}
        kept = container.clear("logDriver") == "json-file" and {"max-size", "max-file"} <= set(options)
        yield finding(container, kept, f"logs without end: {options}")


def temporary_folders_are_bounded(plan: Plan) -> Iterator[Finding]:
    """Every folder in memory has a size: without one it may take half of the host's."""
    for container in plan.services.values():
        folders = container.clear("tmpfs") or {}
        yield finding(container, "/tmp" in folders, "has no /tmp")
        for folder, options in folders.items():
            yield finding(f"{container} {folder}", "size=" in options, f"has no size: {options}")


def nothing_of_the_host_is_shared(plan: Plan) -> Iterator[Finding]:
    """No container sees a folder, a socket, a name space or a kernel setting of its host."""
    for container in plan.containers:
        for volume in container.clear("volumes", []):
            path = volume.get("hostPath") or volume.get("fromContainer")
            yield finding(f"{container} {volume.get('containerPath')}", not path, f"mounts {path} of the host")
            sock = "docker.sock" in str(volume)
            yield finding(f"{container} {volume.get('containerPath')}", not sock, "gets Docker's socket: that is root")
        used = [key for key in FORBIDDEN if container.inputs.get(key)]
        yield finding(container, not used, f"sets {used}")


def cards_only_where_they_are_needed(plan: Plan) -> Iterator[Finding]:
    """Graphics cards and device files are seen by the engine and the GPU exporter alone."""
    for container in plan.containers:
        service = _service(container)
        yield finding(container, not container.clear("gpus") or service in GPUS, "sees graphics cards")
        devices = [d["hostPath"] for d in container.clear("devices") or []]
        yield finding(container, not devices or service in DEVICES, f"sees the devices {devices}")
        yield finding(container, not container.clear("groupAdds") or service in DEVICES, "is in groups of the host")
