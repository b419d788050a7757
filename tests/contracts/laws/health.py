"""Health: Docker knows whether a service answers, and `up` waits until it does."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.contracts.laws import Finding, finding
from tests.support.recorder import Plan


def _seconds(duration: str) -> int:
    """Seconds of a duration in Docker's own spelling, -1 for another one: it would be replaced on every `up`."""
    found = re.fullmatch(r"(?:(?:(\d+)h)?([0-5]?\d)m)?([0-5]?\d)s", duration)
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, -1)
    return 3600 * hours + 60 * minutes + seconds


def services_have_a_check(plan: Plan) -> Iterator[Finding]:
    """Every service has a health check that runs a program of its own image, without an implicit shell."""
    for container in plan.services.values():
        check = container.clear("healthcheck") or {}
        tests = check.get("tests", [])
        yield finding(container, tests[:1] == ["CMD"] and len(tests) > 1, f"has the health check {tests}")
        for key in ("interval", "timeout", "startPeriod"):
            yield finding(container, _seconds(check.get(key, "")) > 0, f"health check: {key} is {check.get(key)}")
        yield finding(container, check.get("retries", 0) >= 1, "health check: retries is not set")


def checks_stay_inside(plan: Plan) -> Iterator[Finding]:
    """A health check asks over loopback or its own command, never another host."""
    for container in plan.services.values():
        text = " ".join((container.clear("healthcheck") or {}).get("tests", []))
        hosts = re.findall(r"(?:://|/dev/tcp/)([^/:]+)", text)
        yield finding(container, set(hosts) <= {"127.0.0.1"}, f"health check asks {hosts}")


def up_waits_for_services(plan: Plan) -> Iterator[Finding]:
    """`up` waits for each service, longer than the service is given to start."""
    for container in plan.services.values():
        yield finding(container, container.clear("wait") is True, "nobody waits for it to be healthy")
        limit, start = container.clear("waitTimeout", 0), _seconds(container.clear("healthcheck")["startPeriod"])
        yield finding(container, limit >= start, f"is waited for {limit:g} s, but may start for {start:g} s")


def services_come_back_and_jobs_do_not(plan: Plan) -> Iterator[Finding]:
    """A service is started again after a crash or reboot, unless it was stopped on purpose; a job never is."""
    for container in plan.containers:
        wanted = "unless-stopped" if container.runs_on else "no"
        found = container.clear("restart")
        yield finding(container, found == wanted, f"has restart policy {found}, not {wanted}")


def jobs_are_done_before_up_goes_on(plan: Plan) -> Iterator[Finding]:
    """An owner job is waited for until it ends; a seed is never started."""
    for container in (c for c in plan.containers if not c.runs_on):
        if container.is_owner_job:
            yield finding(container, container.clear("attach") is True, "is not waited for")
        yield finding(container, container.clear("mustRun") is False, "counts as broken once it has ended")
        yield finding(container, bool(container.clear("command")), "has no command: some images need one")


def services_stop_gently(plan: Plan) -> Iterator[Finding]:
    """Every service gets time to end what it does before it is killed."""
    for container in plan.services.values():
        found = container.clear("stopTimeout", 0)
        yield finding(container, found >= 10, f"is killed {found:g} s after it is asked to stop")
