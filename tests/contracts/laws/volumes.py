"""Volumes: people's data survives everything but a clear order, and mounts do not show changes that are none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.contracts.laws import Finding, finding
from tests.contracts.laws.names import LABELS
from tests.support.recorder import VOLUME, Plan, Resource

# Read by others than the service that has it: data volume -> whose it is shown to.
SHARED: Final = {"ollama-models": "identical engines that serve the same models"}


def _is_data(volume: Resource) -> bool:
    return not volume.name.endswith("-files")


def data_outlives_the_platform(plan: Plan) -> Iterator[Finding]:
    """A data volume is protected and kept on delete; a volume of configuration files is neither."""
    for volume in plan.of(VOLUME):
        yield finding(volume, volume.protect is _is_data(volume), f"protect is {volume.protect}")
        yield finding(volume, volume.retain_on_delete is _is_data(volume), f"kept on delete: {volume.retain_on_delete}")


def volume_labels_never_change(plan: Plan) -> Iterator[Finding]:
    """A volume has the two labels that never change: an edited label replaces the volume, and the data is gone."""
    for volume in plan.of(VOLUME):
        yield finding(volume, set(volume.labels) == set(LABELS), f"has the labels {sorted(volume.labels)}")
        for key in ("driver", "driverOpts", "cluster"):
            yield finding(volume, not volume.inputs.get(key), f"sets {key}, which replaces it when it changes")


def mounts_are_in_order(plan: Plan) -> Iterator[Finding]:
    """Mounts are sorted by their path: otherwise the container is replaced on every `up`."""
    for container in plan.containers:
        paths = [mount["containerPath"] for mount in container.clear("volumes", [])]
        yield finding(container, paths == sorted(set(paths)), f"mounts {paths} in that order")


def mounts_are_volumes_of_the_plan(plan: Plan) -> Iterator[Finding]:
    """A container mounts volumes of its own service, or reads a shared one; each volume is in use."""
    volumes = {volume.physical: volume for volume in plan.of(VOLUME)}
    used = set()
    for container in plan.containers:
        for mount in container.clear("volumes", []):
            name = mount.get("volumeName")
            volume = volumes.get(name)
            used.add(name)
            subject = f"{container} {mount['containerPath']}"
            yield finding(subject, volume is not None, f"mounts {name}, which is not in the plan")
            own = volume is not None and volume.labels[LABELS[1]] == container.labels[LABELS[1]]
            own = own or (volume is not None and volume.name in SHARED and mount.get("readOnly") is True)
            yield finding(subject, own, f"mounts {name}, which is another service's")
    for name, volume in volumes.items():
        yield finding(volume, name in used, "is mounted nowhere")


def configuration_is_read_only(plan: Plan) -> Iterator[Finding]:
    """A service can write its data and cannot change its own configuration."""
    for container in plan.services.values():
        for mount in container.clear("volumes", []):
            volume = mount.get("volumeName", "")
            anothers = not volume.startswith(container.physical + "-")
            fixed = volume.endswith("-files") or anothers
            kept = mount.get("readOnly", False) is fixed
            yield finding(f"{container} {mount['containerPath']}", kept, f"read-only is {not fixed}")


def fresh_data_gets_its_owner(plan: Plan) -> Iterator[Finding]:
    """Each data volume is given to its service's user by a job that ends before the service starts."""
    owned = {
        mount["volumeName"]: job for job in plan.containers if job.is_owner_job for mount in job.clear("volumes", [])
    }
    for volume in filter(_is_data, plan.of(VOLUME)):
        job = owned.get(volume.physical)
        yield finding(volume, job is not None, "no job gives it to its service: the service cannot write")
        users = [c for c in plan.services.values() if volume.physical in str(c.clear("volumes"))]
        for user in users if job else []:
            yield finding(user, job is not None and job.urn in user.depends_on, f"does not wait for {job}")
            uid = str(user.clear("user")).replace(":", "")
            script = " ".join(job.clear("command")) if job else ""
            yield finding(f"{job}", str(user.clear("user")) in script, f"does not give it to {uid}")
