"""Health commands are data, written for images we did not make: each runs in its real container."""

from __future__ import annotations

import pytest

from tests.support.live.platform import Platform

SERVICES = ("gateway", "ollama", "chat", "chroma", "prometheus", "node-exporter")


def test_these_are_all_services(platform: Platform) -> None:
    assert {service["name"] for service in platform.outputs()["services"]} == set(SERVICES)
    assert set(SERVICES) <= set(platform.running())


@pytest.mark.parametrize("service", SERVICES)
class TestHealth:
    def test_docker_calls_it_healthy(self, platform: Platform, service: str) -> None:
        platform.wait_healthy(service)
        state = platform.inspect(service)["State"]["Health"]
        assert state["FailingStreak"] == 0, state["Log"][-1]

    def test_its_command_succeeds_by_hand(self, platform: Platform, service: str) -> None:
        found = platform.inspect(service)["Config"]["Healthcheck"]["Test"]
        kind, *command = found
        assert kind == "CMD", "a shell form hides a program that is not there"
        done = platform.docker.attempt(["exec", platform.name(service), *command], limit=30)
        assert done.code == 0, f"{command}: {done.out}{done.err}"


def test_a_health_command_can_fail(platform: Platform) -> None:
    """The gateway's, asked about a port where nobody listens."""
    *command, url = platform.inspect("gateway")["Config"]["Healthcheck"]["Test"][1:]
    wrong = url.replace(":8081", ":8099")
    assert wrong != url
    assert platform.docker.attempt(["exec", platform.name("gateway"), *command, wrong], limit=30).code != 0


@pytest.mark.parametrize("service", SERVICES)
def test_it_has_no_right_that_it_does_not_need(platform: Platform, service: str) -> None:
    """As Docker really applied it; the plan's own law is in tests/contracts."""
    found = platform.inspect(service)
    host = found["HostConfig"]
    assert found["Config"]["User"].split(":")[0] not in {"", "0", "root"}
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert "no-new-privileges" in " ".join(host["SecurityOpt"])
    assert not host["Privileged"]
    assert host["Memory"] > 0
    assert host["MemorySwap"] == host["Memory"]
    assert found["RestartCount"] == 0
