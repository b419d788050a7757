"""Host checks before anything is started: what is wrong, where, and how to fix it."""

from __future__ import annotations

from typing import Final

from ops.docker import DockerCli, DockerError
from ops.preflight.capacity import CpuLimit, EngineShare, MemorySum
from ops.preflight.daemon import ServerVersion, unreachable
from ops.preflight.disk import DiskSpace
from ops.preflight.finding import Check, Context, Finding, Level
from ops.preflight.fit import ModelsFit
from ops.preflight.gpu import AmdDevices, NvidiaDevices, NvidiaRuntime
from ops.preflight.host import Host
from ops.preflight.loopback import LoopbackIsolation
from ops.preflight.ports import GatewayPort
from ops.progress import Say
from stack.config.model import Platform

__all__ = ["CHECKS", "Check", "Context", "Finding", "Host", "Level", "run_preflight"]

CHECKS: Final[tuple[Check, ...]] = (
    ServerVersion(),
    GatewayPort("httpsPort"),
    GatewayPort("httpPort"),
    GatewayPort("adminPort"),
    CpuLimit(),
    EngineShare(),
    MemorySum(),
    ModelsFit(),
    DiskSpace(),
    NvidiaRuntime(),
    NvidiaDevices(),
    AmdDevices(),
    LoopbackIsolation(),
)


def run_preflight(
    platform: Platform,
    docker: DockerCli,
    project: str,
    stack: str,
    say: Say,
    *,
    source: str = "official",
    host: Host | None = None,
) -> list[Finding]:
    """Everything worth saying about the host, each also said as it is found.

    Nothing may be started when one of them `refuses`. `source` is where the parts come from (official or mirror).
    """
    try:
        info = docker.info()
    except DockerError as error:
        return _say_all([unreachable(error, docker.host)], say)
    context = Context(
        platform=platform,
        docker=docker,
        info=info,
        host=host or Host(),
        project=project,
        stack=stack,
        source=source,
    )
    checks = [check for check in CHECKS if not (check.local and docker.remote)]
    if docker.remote:
        skipped = ", ".join(check.name for check in CHECKS if check.local)
        say(f"host checks: Docker is at {docker.host}, another machine; not checked there: {skipped}")
    findings = [finding for check in checks if (finding := _ask(check, context)) is not None]
    _say_all(findings, say)
    if not any(finding.level is not Level.NOTE for finding in findings):
        say(f"host checks: {len(checks)} passed")
    return findings


def _ask(check: Check, context: Context) -> Finding | None:
    try:
        return check.check(context)
    except DockerError as error:
        return unreachable(error, context.docker.host)


def _say_all(findings: list[Finding], say: Say) -> list[Finding]:
    for finding in findings:
        say(finding.text())
    return findings
