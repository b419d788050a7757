"""Who can talk to whom: the table of networks, and no way out but two."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from tests.contracts.laws import Finding, finding
from tests.support.recorder import COMMAND, NETWORK, Plan
from tests.support.samples import PROJECT, STACK

PREFIX: Final = f"{PROJECT}-{STACK}-"

# The platform's picture: a service that is not in a plan is left out of its row.
MEMBERS: Final = {
    "edge": {"gateway"},
    "app": {"gateway", "chat"},
    "engine": {"gateway"},  # and every instance of the engine
    "vectors": {"chat", "chroma"},
    "monitor": {"gateway", "prometheus", "node-exporter", "gpu-exporter", "grafana"},
    "pull": set[str](),  # one-shot model pulls only, which are no resources
}
WITH_EGRESS: Final = {
    "edge": "published ports need a network that is not internal",
    "pull": "models are fetched through it, by a container that goes away",
}


def _engines(plan: Plan) -> set[str]:
    return {service for service in plan.services if service == "ollama" or service.startswith("ollama-")}


def _picture(plan: Plan) -> dict[str, set[str]]:
    """The members of each network, those of the plan's own services among them."""
    own = {f"service-{service.name}": {"gateway", service.name} for service in plan.sample.platform.services}
    return MEMBERS | {"engine": {"gateway", *_engines(plan)}} | own


def members_are_those_of_the_picture(plan: Plan) -> Iterator[Finding]:
    """Each network has exactly the members of the picture: chat is not on engine, nobody stays on pull."""
    present = set(plan.services)
    for network, allowed in _picture(plan).items():
        found = {service for service, c in plan.services.items() if PREFIX + network in c.networks}
        wanted = set[str]() if network == "vectors" and "chroma" not in present else allowed & present
        yield finding(f"network {network}", found == wanted, f"has {sorted(found)}, the picture has {sorted(wanted)}")


def networks_are_those_of_the_picture(plan: Plan) -> Iterator[Finding]:
    """There are the six networks of the picture and one for each own service; only edge and pull have a way out."""
    names, wanted = {n.physical.removeprefix(PREFIX) for n in plan.of(NETWORK)}, _picture(plan)
    yield finding("plan", names == set(wanted), f"has the networks {sorted(names)}, the picture {sorted(wanted)}")
    for network in plan.of(NETWORK):
        name = network.physical.removeprefix(PREFIX)
        internal = network.clear("internal") is True
        yield finding(network, internal or name in WITH_EGRESS, "has a way out: it is not internal")
        yield finding(network, not internal or name not in WITH_EGRESS, "is internal, so it cannot do its work")


def engine_and_vectors_have_no_way_out(plan: Plan) -> Iterator[Finding]:
    """No service but the gateway is on a network with a way out; the engine and the vector database never are."""
    open_ones = {n.physical for n in plan.of(NETWORK) if n.clear("internal") is not True}
    for service, container in plan.services.items():
        if service != "gateway":
            ways = sorted(open_ones & set(container.networks))
            yield finding(container, not ways, f"can get out through {ways}")


def every_service_says_its_networks(plan: Plan) -> Iterator[Finding]:
    """A service names its networks, a job has none: with neither, Docker's own bridge would give it a way out."""
    for container in plan.containers:
        mode = container.clear("networkMode")
        if container.runs_on:
            yield finding(container, bool(container.networks), "names no network: it is on Docker's own bridge")
            yield finding(container, mode is None, f"has network mode {mode} beside its networks")
        else:
            yield finding(container, mode == "none" and not container.networks, "is not cut off from every network")


def aliases_are_the_service_names(plan: Plan) -> Iterator[Finding]:
    """On each of its networks a service has exactly its own name, so nobody can answer in another's."""
    for service, container in plan.services.items():
        for network in container.clear("networksAdvanced", []):
            aliases = network.get("aliases")
            yield finding(f"{container} on {network['name']}", aliases == [service], f"has the aliases {aliases}")


def models_are_pulled_on_the_pull_network(plan: Plan) -> Iterator[Finding]:
    """Models are fetched on `pull`, or on the network that the source of parts names; the engine is on neither."""
    yield finding("plan", len(plan.of(COMMAND)) == bool(_engines(plan)), "pulls models that no engine of its own has")
    wanted = {source.network for source in plan.sample.parts.models.values()}
    for command in plan.of(COMMAND):
        environment = command.clear("environment")
        network = environment["MODEL_SET_NETWORK"]
        yield finding(command, network == f"{PREFIX}pull", f"pulls on {network}")
        engine = {name for service in _engines(plan) for name in plan.services[service].networks}
        for model in json.loads(environment["MODEL_SET"])["models"]:
            who, place = f"{command} {model['name']}", model["network"]
            yield finding(who, place is None or place in wanted, f"is pulled on {place}")
            yield finding(who, (place or network) not in engine, "is pulled on an engine network")
