"""Prometheus' configuration: what is read, how often. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import yaml

from stack.shape import Endpoint, Health

PORT: Final = 9090
CONFIG_FOLDER: Final = "/etc/prometheus"
CONFIG_FILE: Final = "prometheus.yml"
DATA_FOLDER: Final = "/prometheus"
HEALTH: Final = Health(test=["CMD", "wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{PORT}/-/ready"])


@dataclass(frozen=True, kw_only=True)
class Target:
    """One service to read; `service` becomes a label of every series."""

    service: str
    endpoint: Endpoint
    path: str = "/metrics"


def render(targets: Sequence[Target], *, interval: str) -> str:
    """Text of prometheus.yml."""
    return yaml.safe_dump(
        {
            "global": {"scrape_interval": interval, "evaluation_interval": interval},
            "scrape_configs": [
                {
                    "job_name": target.service,
                    "metrics_path": target.path,
                    "static_configs": [{"targets": [target.endpoint.address], "labels": {"service": target.service}}],
                }
                for target in targets
            ],
        },
        sort_keys=False,
    )


def command(retention: str, url: str | None) -> list[str]:
    """Prometheus' arguments: its web admin and lifecycle APIs stay off.

    `url`: where the gateway's admin listener shows it, if it does; the listener takes that path away again.
    """
    shown = [f"--web.external-url={url}/", "--web.route-prefix=/"] if url else []
    return [
        f"--config.file={CONFIG_FOLDER}/{CONFIG_FILE}",
        f"--storage.tsdb.path={DATA_FOLDER}",
        f"--storage.tsdb.retention.time={retention}",
        f"--web.listen-address=0.0.0.0:{PORT}",
        *shown,
    ]
