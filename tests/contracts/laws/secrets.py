"""Secrets: each sample has a canary in place of every one, and this is where they may turn up."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Final

from tests.contracts.laws import Finding, finding
from tests.support.recorder import COMMAND, CONTAINER, Plan, Secret, unwrapped, walk

# Secret -> (resource, input) that it is made for; other keys of consumers go nowhere but as hashes.
SINKS: Final = {
    "admin-password": {("chat-container", "envs"), ("grafana-container", "envs")},
    "webui-secret-key": {("chat-container", "envs")},
    "key-chat": {("chat-container", "envs")},
    "ca-key": {("gateway-ca-key-seed", "uploads")},
    "tls-key": {("gateway-tls-key-seed", "uploads")},
}
NEVER: Final = ("command", "entrypoints", "labels", "healthcheck", "name", "image", "hostname", "user")


def _sinks(plan: Plan, secret: str) -> set[tuple[str, str]]:
    """Where a secret may go; an own service gets its own key, an engine's key is for the gateway's eyes."""
    own = {f"key-{s.name}": {(f"{s.name}-container", "envs")} for s in plan.sample.platform.services if s.api}
    engines = {key: {(f"gateway-{key}-seed", "uploads")} for key in plan.sample.platform.engine_keys.values()}
    # A chosen password is known by its hash alone, also to us.
    hashes = {f"basic-{consumer}": {("gateway-consumers-seed", "uploads")} for consumer in plan.sample.rotating}
    return (SINKS | own | engines | hashes).get(secret, set())


def _shapes(canary: str) -> tuple[str, ...]:
    return canary, base64.b64encode(canary.encode()).decode().rstrip("="), canary.encode().hex()


def no_secret_is_in_clear(plan: Plan) -> Iterator[Finding]:
    """No secret is anywhere in the plan or its outputs outside Pulumi's secret marker, encoded or not."""
    places = [(str(r), path, text, marked) for r in plan.resources for path, text, marked in walk(r.inputs)]
    places += [("stack outputs", path, text, marked) for path, text, marked in walk(plan.outputs)]
    for name, canary in plan.sample.canaries.items():
        shapes = _shapes(canary)
        shown = [f"{who}{path}" for who, path, text, marked in places if not marked and any(s in text for s in shapes)]
        yield finding(f"secret {name}", not shown, f"is in clear in {', '.join(shown)}")


def secrets_reach_their_sinks_and_nothing_else(plan: Plan) -> Iterator[Finding]:
    """A secret goes to the one place it is made for; keys of other consumers exist as hashes alone."""
    there = {resource.name for resource in plan.resources}
    for name, canary in plan.sample.canaries.items():
        found = {
            (resource.name, key)
            for resource in plan.resources
            for key, value in resource.inputs.items()
            if any(canary in text for _, text, _ in walk(value))
        }
        wanted = {sink for sink in _sinks(plan, name) if sink[0] in there}
        yield finding(f"secret {name}", found == wanted, f"goes to {sorted(found)}, is made for {sorted(wanted)}")


def no_secret_where_everybody_reads(plan: Plan) -> Iterator[Finding]:
    """No secret is in a command, label, health check or name, marked or not: `docker ps` and `ps` show those."""
    canaries = plan.sample.canaries
    for resource in plan.of(CONTAINER) + plan.of(COMMAND):
        for key in (*NEVER, "create", "update", "environment", "triggers"):
            texts = [text for _, text, _ in walk(resource.inputs.get(key))]
            shown = [name for name, canary in canaries.items() if any(canary in text for text in texts)]
            yield finding(f"{resource} {key}", not shown, f"carries {shown}")


def settings_that_sound_secret_are(plan: Plan) -> Iterator[Finding]:
    """A setting named like a key or password is marked as a secret, whatever it holds."""
    for container in plan.containers:
        for name, value in container.envs.items():
            sounds = name.endswith(("_KEY", "_KEYS", "_PASSWORD", "_SECRET", "_TOKEN")) and "ENABLE_" not in name
            yield finding(f"{container} env {name}", isinstance(value, Secret) or not sounds, "is not marked as secret")


def secret_files_are_the_services_own(plan: Plan) -> Iterator[Finding]:
    """A file with a secret is readable by its service's user alone (0400), a plain one by all and writable by none."""
    for seed in (c for c in plan.containers if c.is_seed):
        for upload in seed.clear("uploads"):
            secret = isinstance(upload["content"], Secret) or seed.is_secret("uploads")
            wanted = "0400" if secret else "0444"
            found = upload.get("permissions")
            yield finding(f"{seed} {upload['file']}", found == wanted, f"has mode {found}, not {wanted}")
            owner = (upload.get("owner"), upload.get("group"))
            yield finding(f"{seed} {upload['file']}", "0" not in owner and None not in owner, f"belongs to {owner}")


def consumers_are_known_by_hash(plan: Plan) -> Iterator[Finding]:
    """The consumers file is secret, has every consumer, and knows a key by its SHA-256 alone."""
    (upload,) = plan.one("gateway-consumers-seed").clear("uploads")
    yield finding("the consumers file", isinstance(upload["content"], Secret), "is not marked as a secret")
    file, canaries = json.loads(unwrapped(upload["content"])), plan.sample.canaries
    known = {c["name"]: [k["sha256"] for k in c["keys"]] for c in file["consumers"]}
    wanted = {
        consumer.name: [
            hashlib.sha256(canaries[name].encode()).hexdigest()
            for name in (f"key-{consumer.name}", f"previous-key-{consumer.name}")
            if name in canaries
        ]
        for consumer in plan.sample.platform.consumers
    }
    yield finding("the consumers file", known == wanted, f"has other hashes: {known}")
    ends = [k["expires"] for c in file["consumers"] for k in c["keys"][1:]]
    yield finding("the consumers file", all(ends), "has a key from before that never ends")
