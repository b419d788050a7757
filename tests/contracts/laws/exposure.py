"""Who can be reached from outside: the gateway, on addresses of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from tests.contracts.laws import Finding, finding
from tests.support.recorder import Plan


def only_the_gateway_publishes(plan: Plan) -> Iterator[Finding]:
    """The gateway publishes ports and nothing else does."""
    for container in plan.containers:
        ports = container.clear("ports", [])
        if container.name == "gateway-container":
            yield finding(container, bool(ports), "publishes nothing: nobody can reach the platform")
        else:
            yield finding(container, not ports, f"publishes {[port.get('external') for port in ports]}")


def ports_are_on_this_machine_alone(plan: Plan) -> Iterator[Finding]:
    """Every published port names an address, and it is a loopback one; without an address Docker takes all of them."""
    for container in plan.containers:
        for port in container.clear("ports", []):
            address = port.get("ip", "")
            yield finding(
                f"{container} port {port.get('external'):g}",
                bool(address) and ip_address(address).is_loopback,
                f"is published on {address or 'every address of the host'}",
            )


def ports_are_those_of_the_configuration(plan: Plan) -> Iterator[Finding]:
    """The published ports are the two that the configuration names, each once."""
    settings = plan.sample.platform.gateway
    published = sorted(int(p["external"]) for c in plan.containers for p in c.clear("ports", []))
    wanted = sorted([settings.https_port, settings.http_port])
    yield finding("gateway", published == wanted, f"publishes {published}, configured are {wanted}")


def no_container_publishes_by_other_ways(plan: Plan) -> Iterator[Finding]:
    """No container asks Docker to publish all its ports, or shares the host's network."""
    for container in plan.containers:
        yield finding(container, not container.clear("publishAllPorts"), "publishes all its ports")
        mode = str(container.clear("networkMode", ""))
        yield finding(container, mode in ("", "none"), f"has network mode {mode}")
