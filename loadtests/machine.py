"""What Prometheus knows of the machine during a run: GPU memory, power and load, where an exporter measures them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import requests

from loadtests.results import Series

POINTS: Final = 120


@dataclass(frozen=True, slots=True)
class Query:
    """A figure of the report, by whichever exporter there is."""

    name: str
    unit: str
    promql: str
    """Alternatives in one expression: NVIDIA's DCGM exporter, and nvidia_gpu_exporter."""


QUERIES: Final = (
    Query("GPU memory", "GiB", "sum(DCGM_FI_DEV_FB_USED) / 1024 or sum(nvidia_smi_memory_used_bytes) / 2^30"),
    Query("GPU power", "W", "sum(DCGM_FI_DEV_POWER_USAGE) or sum(nvidia_smi_power_draw_watts)"),
    Query("GPU load", "%", "avg(DCGM_FI_DEV_GPU_UTIL) or 100 * avg(nvidia_smi_utilization_gpu_ratio)"),
)


def ask(url: str, start: float, end: float, queries: Sequence[Query] = QUERIES, timeout: float = 10) -> list[Series]:
    """The figures between two moments (seconds since 1970), without those that Prometheus does not have.

    Raises:
        ValueError: Prometheus cannot be reached or refuses; the message says where and why.
    """
    step = max(1.0, (end - start) / POINTS)
    found = []
    for query in queries:
        try:
            answer = requests.get(
                f"{url.rstrip('/')}/api/v1/query_range",
                params={"query": query.promql, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:.3f}"},
                timeout=timeout,
            )
            answer.raise_for_status()
            content = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise ValueError(f"Prometheus at {url} did not say anything about {query.name}: {error}") from error
        if points := read(content, start):
            found.append(Series(name=query.name, unit=query.unit, points=points))
    return found


def read(content: Any, start: float) -> list[tuple[float, float]]:
    """(seconds since the start, value) of the first series of an answer; values that are no number are left out."""
    try:
        rows = content["data"]["result"]
        values = rows[0]["values"] if rows else []
        pairs = [(float(at) - start, float(value)) for at, value in values]
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ValueError(f"this is no answer of Prometheus: {str(content)[:200]}") from error
    return [(round(at, 3), float(f"{value:.6g}")) for at, value in pairs if abs(value) < float("inf")]
