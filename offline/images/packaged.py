"""Parts made from Debian packages: Prometheus and its node exporter."""

from __future__ import annotations

import shutil
from pathlib import Path

from offline.images import debian
from offline.images.job import Job

PROMETHEUS_CONFIG = """\
global:
  scrape_interval: 15s
scrape_configs:
  - job_name: prometheus
    static_configs:
      - targets: ["localhost:9090"]
"""


def prometheus(job: Job) -> None:
    """`/bin/prometheus` and `/bin/promtool` with the files they read, and `wget` for the health check."""
    files = unpacked(job, "prometheus", "busybox-static")
    for name in ("prometheus", "promtool"):
        take(files / "usr/bin" / name, job.root / "usr/bin" / name)
    if (files / "usr/share/prometheus").is_dir():
        shutil.copytree(files / "usr/share/prometheus", job.root / "usr/share/prometheus", symlinks=True)
    add_wget(files, job.root)
    (job.root / "prometheus").mkdir()
    (job.root / "etc/prometheus").mkdir(parents=True)
    (job.root / "etc/prometheus/prometheus.yml").write_text(PROMETHEUS_CONFIG)


def node_exporter(job: Job) -> None:
    """`/bin/node_exporter` (the package calls it otherwise) and `wget` for the health check."""
    files = unpacked(job, "prometheus-node-exporter", "busybox-static")
    take(files / "usr/bin/prometheus-node-exporter", job.root / "usr/bin/node_exporter")
    add_wget(files, job.root)


def unpacked(job: Job, *packages: str) -> Path:
    """The files of some packages and of what they need."""
    files = job.work / "files"
    debian.unpack(job, packages, files)
    return files


def take(source: Path, target: Path) -> None:
    """One file, with its mode."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def add_wget(files: Path, root: Path) -> None:
    """Busybox under the one name that the official images' health checks use."""
    take(files / "usr/bin/busybox", root / "usr/bin/wget")
