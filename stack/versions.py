"""Every third-party part by name and version: hand-edited, one line each, with the place that tells of newer ones.

Digests are not written here but in the lock (`locks/official.json`, made by `make lock`), which names what was tested.
"""

from __future__ import annotations

from typing import Final

PULUMI: Final = "3.250.0"  # https://github.com/pulumi/pulumi/releases
PLUGINS: Final = {
    "docker": "5.2.0",  # https://github.com/pulumi/pulumi-docker/releases, the same as in requirements/
    "command": "1.2.1",  # https://github.com/pulumi/pulumi-command/releases
    "tailscale": "0.29.2",  # https://github.com/pulumi/pulumi-tailscale/releases
}

IMAGES: Final = {
    "base": "docker.io/library/debian:12-slim",  # https://hub.docker.com/_/debian
    "gateway-builder": "docker.io/library/golang:1.26-bookworm",  # https://hub.docker.com/_/golang
    "ollama": "docker.io/ollama/ollama:0.35.0",  # https://github.com/ollama/ollama/releases; CVE-2026-103663 below it
    "ollama-rocm": "docker.io/ollama/ollama:0.35.0-rocm",  # the same release, for AMD cards
    "open-webui": "ghcr.io/open-webui/open-webui:v0.12.4",  # https://github.com/open-webui/open-webui/releases
    "chroma": "docker.io/chromadb/chroma:1.5.9",  # the client in Open WebUI 0.12.4 is pinned to this version
    "service-base": "docker.io/library/python:3.11-slim-bookworm",  # https://hub.docker.com/_/python
    "prometheus": "docker.io/prom/prometheus:v3.5.0",  # https://github.com/prometheus/prometheus/releases (long-term)
    "node-exporter": "docker.io/prom/node-exporter:v1.9.1",  # https://github.com/prometheus/node_exporter/releases
    "gpu-exporter": "docker.io/utkuozdemir/nvidia_gpu_exporter:1.4.0",  # https://github.com/utkuozdemir/nvidia_gpu_exporter
    "grafana": "docker.io/grafana/grafana:12.1.1",  # https://github.com/grafana/grafana/releases
}
