"""The gateway's ports: whoever holds one is named, our own gateway is not in its own way."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ops.preflight import Finding, Host, run_preflight
from ops.preflight.host import _listening
from ops.preflight.ports import overlaps
from tests.unit.test_preflight_checks import FakeDocker, machine, platform

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:20FB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 777 1 0 100 0 0 10 0
   1: 0100007F:20FB 0100007F:D2F0 01 00000000:00000000 00:00000000 00000000     0        0 778 1 0 20 4 30 10 -1
"""
TABLE6 = """\
  sl  local_address  remote_address  st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0:0 00:0 0  0  0 901 1 0
   1: 00000000000000000000000001000000:1F91 00000000000000000000000000000000:0000 0A 0:0 00:0 0  0  0 902 1 0
   2: 0000000000000000FFFF00000100007F:1F92 00000000000000000000000000000000:0000 0A 0:0 00:0 0  0  0 903 1 0
"""


def port_findings(docker: FakeDocker, host: Host, **gateway: int | str) -> list[Finding]:
    lines: list[str] = []
    found = run_preflight(platform(gateway=gateway), docker.cli(), "private-llm", "dev", lines.append, host=host)
    return [finding for finding in found if finding.check.startswith("port")]


def test_the_kernel_s_table_is_read() -> None:
    assert [(seen.address, seen.port, seen.inode) for seen in _listening(TABLE)] == [("127.0.0.1", 8443, "777")]
    assert [(seen.address, seen.port) for seen in _listening(TABLE6)] == [
        ("::", 8080),
        ("::1", 8081),
        ("127.0.0.1", 8082),
    ]


@pytest.mark.parametrize(
    ("held", "wanted", "result"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("::", "127.0.0.1", True),
        ("", "127.0.0.1", True),
        ("10.0.0.5", "127.0.0.1", False),
        ("::1", "127.0.0.1", False),
    ],
)
def test_which_addresses_are_in_each_other_s_way(held: str, wanted: str, result: bool) -> None:
    assert overlaps(held, wanted) is result


@pytest.mark.parametrize(("admin", "told"), [("local", ["port adminPort"]), ("off", [])])
def test_the_administrators_port_is_loopback_s_wherever_the_others_are(admin: str, told: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        busy = held.getsockname()[1]
        found = port_findings(
            FakeDocker(), Host(), address="::1", httpsPort=_free(), httpPort=_free(), admin=admin, adminPort=busy
        )
    assert [finding.check for finding in found] == told


def test_free_ports_are_fine(tmp_path: Path) -> None:
    assert port_findings(FakeDocker(), machine(tmp_path)) == []


def test_the_process_that_holds_a_port_is_named(tmp_path: Path) -> None:
    host = machine(tmp_path, tcp=TABLE)
    process = tmp_path / "proc" / "812"
    (process / "fd").mkdir(parents=True)
    (process / "fd" / "3").symlink_to("socket:[777]")
    (process / "comm").write_text("nginx\n")
    (found,) = port_findings(FakeDocker(), host)
    assert found.refuses
    assert found.what == "port 8443 of 127.0.0.1 is in use by nginx (pid 812)"
    assert found.where == "private-llm:platform.gateway.httpsPort in Pulumi.dev.yaml"
    assert "set httpsPort to a free port" in found.fix


def test_a_process_that_this_user_may_not_see_is_found_by_root(tmp_path: Path) -> None:
    (found,) = port_findings(FakeDocker(), machine(tmp_path, tcp=TABLE))
    assert "`sudo ss -ltnp sport = :8443` names it" in found.what


def test_both_ports_are_looked_at(tmp_path: Path) -> None:
    found = port_findings(FakeDocker(), machine(tmp_path, tcp=TABLE, tcp6=TABLE6))
    assert [finding.check for finding in found] == ["port httpsPort", "port httpPort"]


@pytest.mark.parametrize(
    ("line", "refused", "says"),
    [
        ("/private-llm-dev-gateway|dev|127.0.0.1#8443,127.0.0.1#8080,", False, ""),
        (
            "/private-llm-prod-gateway|prod|127.0.0.1#8443,",
            True,
            "the container private-llm-prod-gateway of stack prod",
        ),
        ("/private-llm-dev-gateway||127.0.0.1#8443,", True, "the container private-llm-dev-gateway"),
        ("/web||0.0.0.0#8443,", True, "the container web"),
        ("/web||10.0.0.5#8443,", False, ""),
        ("/web||", False, ""),
    ],
)
def test_a_container_that_holds_a_port_is_named_unless_it_is_our_gateway(
    tmp_path: Path, line: str, refused: bool, says: str
) -> None:
    # The kernel's table shows docker-proxy only when a container publishes on that address.
    table = TABLE if "8443" in line and "10.0.0.5" not in line else TABLE.splitlines()[0]
    docker = FakeDocker({"ps": "c0ffee\n", "inspect": f"{line}\n"})
    found = port_findings(docker, machine(tmp_path, tcp=table))
    assert bool(found) is refused
    assert not found or says in found[0].what


def test_a_real_socket_on_all_addresses_is_found_with_this_very_process() -> None:
    with socket.socket() as held:
        held.bind(("0.0.0.0", 0))
        held.listen()
        port = held.getsockname()[1]
        (found,) = port_findings(FakeDocker(), Host(), httpsPort=port, httpPort=_free())
    assert f"port {port} of 127.0.0.1 is in use by " in found.what
    assert f"(pid {os.getpid()})" in found.what


def test_without_proc_a_bind_tells(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        (found,) = port_findings(FakeDocker(), Host(root=tmp_path), httpsPort=port, httpPort=_free())
    assert "another program" in found.what


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
