"""Who can be reached from outside: the gateway, where its configuration says."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from stack.config.gateway import AdminListener, Exposure
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


def ports_are_on_addresses_of_our_own(plan: Plan) -> Iterator[Finding]:
    """Every published port names an address: of this machine or its private network, unless the gateway is public.

    Without an address Docker takes all of them.
    """
    public = plan.sample.platform.gateway.exposure is Exposure.PUBLIC
    for container in plan.containers:
        for port in container.clear("ports", []):
            address = port.get("ip", "")
            near = bool(address) and ip_address(address).is_private and not ip_address(address).is_unspecified
            yield finding(
                f"{container} port {port.get('external'):g}",
                near or (public and bool(address)),
                f"is published on {address or 'every address of the host'}",
            )


def ports_are_those_of_the_configuration(plan: Plan) -> Iterator[Finding]:
    """The published ports are those of the configuration, at its address; the one for administrators is loopback's."""
    settings = plan.sample.platform.gateway
    published = sorted((p["ip"], int(p["external"])) for c in plan.containers for p in c.clear("ports", []))
    wanted = [(settings.address, settings.https_port), (settings.address, settings.http_port)]
    if settings.admin is AdminListener.LOCAL:
        wanted.append(("127.0.0.1", settings.admin_port))
    yield finding("gateway", published == sorted(wanted), f"publishes {published}, configured are {sorted(wanted)}")


def no_container_publishes_by_other_ways(plan: Plan) -> Iterator[Finding]:
    """No container asks Docker to publish all its ports, or shares the host's network."""
    for container in plan.containers:
        yield finding(container, not container.clear("publishAllPorts"), "publishes all its ports")
        mode = str(container.clear("networkMode", ""))
        yield finding(container, mode in ("", "none"), f"has network mode {mode}")
