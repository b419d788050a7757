"""Metrics: each service is read by Prometheus or says why not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from tests.contracts.laws import Finding, finding
from tests.contracts.laws.networks import PREFIX
from tests.support.recorder import Plan


def _jobs(plan: Plan) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = yaml.safe_load(plan.file("prometheus-config"))["scrape_configs"]
    return jobs


def every_service_is_read_or_says_why_not(plan: Plan) -> Iterator[Finding]:
    """Each service is a job of Prometheus, or has a reason why it cannot be, never both."""
    jobs = [job["job_name"] for job in _jobs(plan)]
    for service in plan.services:
        reason = plan.unscraped.get(service)
        yield finding(service, reason is not None, "is not among the program's services")
        yield finding(service, (service in jobs) != bool(reason), f"is read: {service in jobs}; why not: {reason!r}")
        yield finding(service, jobs.count(service) < 2, "is read twice")


def targets_can_be_reached(plan: Plan) -> Iterator[Finding]:
    """Each target is a service of this plan that shares the monitor network with Prometheus."""
    for job in _jobs(plan):
        for static in job["static_configs"]:
            for target in static["targets"]:
                host, _, port = target.partition(":")
                container = plan.services.get(host)
                yield finding(f"job {job['job_name']}", container is not None, f"reads {host}, which is no service")
                shared = container is not None and f"{PREFIX}monitor" in container.networks
                yield finding(f"job {job['job_name']}", shared, f"reads {host}, which is not on monitor")
                yield finding(f"job {job['job_name']}", port.isdigit(), f"reads {target}, which has no port")
    yield finding("prometheus", f"{PREFIX}monitor" in plan.services["prometheus"].networks, "is not on monitor")


def series_say_their_service(plan: Plan) -> Iterator[Finding]:
    """Every series has the label `service`, with the name that `docker ps` and `make logs` use."""
    for job in _jobs(plan):
        for static in job["static_configs"]:
            label = static.get("labels", {}).get("service")
            yield finding(f"job {job['job_name']}", label in plan.services, f"labels its series service={label}")


def prometheus_cannot_be_told_what_to_do(plan: Plan) -> Iterator[Finding]:
    """Prometheus' administration and lifecycle interfaces are off: whoever reaches it can only read."""
    command = plan.services["prometheus"].clear("command")
    bad = [word for word in command if word.startswith(("--web.enable", "--enable-feature", "--web.cors"))]
    yield finding("prometheus", not bad, f"runs with {bad}")
