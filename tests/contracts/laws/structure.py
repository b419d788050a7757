"""Structure: who places what, in what order, and what the stack tells its reader."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Final

from stack import outputs
from tests.contracts.laws import Finding, finding
from tests.support.recorder import COMMAND, PROVIDER, STACK_TYPE, Plan, unwrapped

CONFIG_LABEL: Final = "private-llm.config"


def docker_resources_use_the_hosts_provider(plan: Plan) -> Iterator[Finding]:
    """Every Docker resource names the host's provider: a default one would use whatever daemon there is."""
    (provider,) = plan.of(PROVIDER)
    for resource in plan.resources:
        if resource.typ.startswith("docker:"):
            named = resource.provider.startswith(f"{provider.urn}::")
            yield finding(resource, named, f"uses the provider {resource.provider or 'that is the default'}")


def children_belong_to_a_component(plan: Plan) -> Iterator[Finding]:
    """Every resource has a component of ours as parent; only hosts lie directly below the stack."""
    components = {r.urn for r in plan.resources if r.typ.startswith("llm:")}
    for resource in plan.resources:
        if resource.typ == "llm:host:Host":
            yield finding(resource, f"::{STACK_TYPE}::" in resource.parent, "does not lie below the stack")
        else:
            yield finding(resource, resource.parent in components, f"lies below {resource.parent or 'nothing'}")


def containers_make_room_for_themselves(plan: Plan) -> Iterator[Finding]:
    """A container has a fixed name, so the old one goes before the new one comes."""
    for container in plan.containers:
        yield finding(container, container.delete_before_replace, "would meet its own name when it is replaced")


def services_wait_for_their_files(plan: Plan) -> Iterator[Finding]:
    """A service starts after the seeds that carry its files."""
    for seed in (c for c in plan.containers if c.is_seed):
        service = plan.services[seed.labels["private-llm.service"]]
        yield finding(service, seed.urn in service.depends_on, f"does not wait for {seed}")
        mounted = {m["volumeName"]: m["containerPath"] for m in service.clear("volumes")}
        (mount,) = seed.clear("volumes")
        yield finding(seed, mount["volumeName"] in mounted, f"fills a volume that {service} does not mount")
        folder = mount["containerPath"]
        for upload in seed.clear("uploads"):
            yield finding(seed, upload["file"].startswith(f"{folder}/"), f"puts {upload['file']} beside its volume")


def changed_configuration_replaces_the_service(plan: Plan) -> Iterator[Finding]:
    """Every service carries the hash of its plain files: Docker would not notice that they changed."""
    for container in plan.services.values():
        label = container.labels.get(CONFIG_LABEL, "")
        yield finding(container, len(label) == 64, f"has no hash of its configuration: {label!r}")


def every_file_can_be_checked_for_drift(plan: Plan) -> Iterator[Finding]:
    """An output names each file with its hash (never its text), since the provider does not read files back.

    What a person chose, the key of an engine elsewhere, has no hash: a bad choice could be guessed from it.
    """
    listed = plan.outputs[outputs.CONFIG_FILES]
    records = {(r["container"], r["path"]): r for r in unwrapped(listed)}
    told = {key for record in records.values() for key in record}
    yield finding("output configFiles", told <= {"container", "path", "sha256", "urns"}, f"tells {sorted(told)}")
    for seed in (c for c in plan.containers if c.is_seed):
        (upload,) = seed.clear("uploads")
        found = records.pop((seed.physical, upload["file"]), None)
        if "-engine-key-" in seed.name:
            yield finding(seed, found is None, f"{upload['file']} was chosen by a person and has a hash")
            continue
        yield finding(seed, found is not None, f"{upload['file']} is not among the files to check")
        content = str(unwrapped(upload["content"])).encode()
        good = found is not None and found["sha256"] == hashlib.sha256(content).hexdigest()
        yield finding(seed, good, "the listed hash is not that of its content")
        service = plan.services[seed.labels["private-llm.service"]]
        urns = found["urns"] if found else []
        yield finding(seed, urns == [seed.urn, service.urn], f"a repair would replace {urns}")
    yield finding("output configFiles", not records, f"lists files that nobody carries: {sorted(records)}")


def outputs_tell_everything(plan: Plan) -> Iterator[Finding]:
    """The outputs are those of stack/outputs.py, and what a source lacks is said, not hidden."""
    names = {value for key, value in vars(outputs).items() if key.isupper()}
    yield finding("outputs", set(plan.outputs) == names, f"are {sorted(plan.outputs)}, promised: {sorted(names)}")
    services = {service["name"]: service for service in unwrapped(plan.outputs[outputs.SERVICES])}
    yield finding("output services", set(services) == set(plan.services), f"has {sorted(services)}")
    asked = plan.sample.platform.observability.grafana and plan.sample.platform.observability.enabled
    told = [entry["name"] for entry in unwrapped(plan.outputs[outputs.LEFT_OUT])]
    left_out = asked and "grafana" not in plan.services
    yield finding("output leftOut", ("Grafana" in told) is left_out, f"tells {told}")


def destroying_never_erases_models(plan: Plan) -> Iterator[Finding]:
    """The models' command has no delete, updates as it creates, waits for the engine, and keeps no old output."""
    engines = [container for service, container in plan.services.items() if service.split("-")[0] == "ollama"]
    yield finding("plan", len(plan.of(COMMAND)) == bool(engines), "pulls models that no engine of its own has")
    for command in plan.of(COMMAND):
        yield finding(command, not command.inputs.get("delete"), "erases models on destroy")
        same = command.clear("create") == command.clear("update")
        yield finding(command, same, "updates in another way than it creates")
        yield finding(command, command.clear("addPreviousOutputInEnv") is False, "passes old output on")
        spec = json.loads(command.clear("environment")["MODEL_SET"])
        found = sorted(engine.physical for engine in engines)
        yield finding(command, sorted(spec["engines"]) == found, f"looks for {spec['engines']}, there are {found}")
        for engine in engines:
            yield finding(command, engine.urn in command.depends_on, f"does not wait for {engine}")
            there = {m["volumeName"] for m in engine.clear("volumes")}
            yield finding(command, spec["volume"] in there, f"fills {spec['volume']}, which {engine} does not mount")
        names = [model["name"] for model in spec["models"]]
        elsewhere = {model.name for model in plan.sample.platform.models if model.engine}
        served = [m["id"] for m in unwrapped(plan.outputs[outputs.MODELS]) if m["id"] not in elsewhere]
        yield finding(command, names == served, f"pulls {names}, but {served} are served by its own engines")
