"""Nothing but the gateway can be reached, also by a neighbour on the same network; nothing gets out of the engine.

Every "cannot" stands beside a "can" by the same means, so that a broken probe does not pass for a closed door.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest

from tests.support import tools
from tests.support.live import inside
from tests.support.live.neighbour import HERE, PORT, THERE, Neighbour, joined, reached_from_here, why_not
from tests.support.live.platform import Platform

INSIDE = {"ollama": 11434, "chat": 8080, "chroma": 8000, "prometheus": 9090, "node-exporter": 9100}


@pytest.fixture(scope="module")
def neighbour() -> Iterator[Neighbour]:
    """Another machine on the same segment."""
    if reason := why_not():
        tools.missing("a second machine", reason)
    with joined() as machine:
        yield machine


def addresses(platform: Platform, service: str) -> list[str]:
    """A container's addresses on all its networks."""
    networks = platform.inspect(service)["NetworkSettings"]["Networks"]
    found = [network["IPAddress"] for network in networks.values() if network["IPAddress"]]
    assert found, f"{service} has no address"
    return found


def published_ports(platform: Platform, service: str) -> dict[str, list[dict[str, str]]]:
    """Published ports as Docker has them."""
    ports = platform.inspect(service)["NetworkSettings"]["Ports"]
    return {port: places for port, places in ports.items() if places}


class TestPublishedPorts:
    def test_only_the_gateway_has_any(self, platform: Platform) -> None:
        published = {name: published_ports(platform, name) for name in platform.running()}
        assert published.pop("gateway") == {
            "8443/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(platform.https_port)}],
            "8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(platform.http_port)}],
        }
        assert {name: ports for name, ports in published.items() if ports} == {}
        assert set(INSIDE) <= set(published)

    def test_every_service_is_on_networks_of_the_stack_only(self, platform: Platform) -> None:
        for name in platform.running():
            found = platform.inspect(name)
            assert found["HostConfig"]["NetworkMode"] not in {"host", "none"}
            networks = set(found["NetworkSettings"]["Networks"])
            assert networks
            assert not [network for network in networks if not network.startswith(platform.name(""))]

    @pytest.mark.parametrize("port", sorted(INSIDE.values()))
    def test_services_do_not_answer_on_loopback(self, platform: Platform, port: int) -> None:
        taken = platform.docker.run(["ps", "--filter", f"publish={port}", "-q"]).strip()
        if taken:
            pytest.skip(f"port {port} is published by another container")
        assert not reached_from_here("127.0.0.1", port)


class TestNeighbour:
    def test_can_reach_this_machine(self, neighbour: Neighbour) -> None:
        """The control: the cable works."""
        assert neighbour.reaches([(HERE, PORT)]) == {(HERE, PORT)}

    def test_does_not_reach_the_gateway_on_loopback(self, platform: Platform, neighbour: Neighbour) -> None:
        """The known hole before Docker 28: a packet to 127.0.0.1 that comes in from the network."""
        neighbour.run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
        neighbour.run("ip", "address", "del", "127.0.0.1/8", "dev", "lo")
        neighbour.run("ip", "route", "del", "local", "127.0.0.0/8", "table", "local")
        neighbour.run("ip", "route", "del", "local", "127.0.0.1", "table", "local")
        neighbour.route("127.0.0.1/32")
        assert reached_from_here("127.0.0.1", platform.https_port)
        assert neighbour.reaches(("127.0.0.1", port) for port in (platform.https_port, platform.http_port)) == set()

    def test_does_not_reach_the_gateway_on_this_machines_address(
        self, platform: Platform, neighbour: Neighbour
    ) -> None:
        control = (HERE, PORT)
        assert neighbour.reaches([control, (HERE, platform.https_port), (HERE, platform.http_port)]) == {control}

    def test_does_not_reach_a_container(self, platform: Platform, neighbour: Neighbour) -> None:
        ports = {**INSIDE, "gateway": 8081}
        targets = [(address, port) for service, port in ports.items() for address in addresses(platform, service)]
        for address, _ in targets:
            neighbour.route(f"{address}/32")
        assert neighbour.reaches(targets) == set()


# Which network a service is asked on, to see that it does listen there.
ASKED_ON = {"ollama": "engine", "chat": "app", "chroma": "vectors", "prometheus": "monitor", "node-exporter": "monitor"}


class TestNoWayOut:
    def test_every_service_answers_on_its_own_network(self, platform: Platform) -> None:
        """The control for all that must not answer."""
        for service, network in ASKED_ON.items():
            target = (service, INSIDE[service])
            assert inside.connects(platform, platform.name(network), [target]) == {target}

    @pytest.mark.usefixtures("neighbour")
    def test_a_container_with_a_way_out_gets_there(self, platform: Platform) -> None:
        """The control: the same probe from the network that models are pulled through."""
        outside = {(THERE, PORT), (HERE, PORT)}
        assert inside.connects(platform, platform.name("pull"), outside) == outside

    @pytest.mark.usefixtures("neighbour")
    @pytest.mark.parametrize("service", INSIDE)
    def test_a_service_does_not(self, platform: Platform, service: str) -> None:
        """Neither to the neighbour, nor to what listens on this machine, nor to a public name."""
        control = ("127.0.0.1", INSIDE[service])
        targets = [control, (THERE, PORT), (HERE, PORT), ("example.com", 443)]
        assert inside.connects_from(platform, service, targets) == {control}

    @pytest.mark.usefixtures("neighbour")
    @pytest.mark.parametrize("network", ["app", "engine", "vectors", "monitor"])
    def test_an_internal_network_does_not(self, platform: Platform, network: str) -> None:
        assert inside.connects(platform, platform.name(network), [(THERE, PORT), (HERE, PORT)]) == set()

    def test_the_engine_reaches_no_other_service(self, platform: Platform) -> None:
        control = ("127.0.0.1", 11434)
        targets = [(service, INSIDE[service]) for service in ("chat", "chroma", "prometheus", "node-exporter")]
        addressed = [(address, port) for service, port in targets for address in addresses(platform, service)]
        assert inside.connects_from(platform, "ollama", [control, *targets, *addressed]) == {control}

    def test_the_chat_reaches_the_engine_through_the_gateway_only(self, platform: Platform) -> None:
        control = ("gateway", 8081)
        targets = [control, ("ollama", 11434), *((one, 11434) for one in addresses(platform, "ollama"))]
        assert inside.connects_from(platform, "chat", targets) == {control}

    def test_other_platforms_are_out_of_reach(self, platform: Platform) -> None:
        """Each stack has networks of its own."""
        for network in ("app", "engine", "vectors", "monitor"):
            found = platform.docker.json(["network", "inspect", platform.name(network)])[0]
            assert found["Internal"] is True
            assert ipaddress.ip_network(found["IPAM"]["Config"][0]["Subnet"]).is_private
            members = {one["Name"] for one in found["Containers"].values()}
            assert members
            assert not [name for name in members if not name.startswith(platform.name(""))]
