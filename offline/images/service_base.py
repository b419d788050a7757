"""What services of one's own are built on: Python with the packages of `examples/fastapi`."""

from __future__ import annotations

from pathlib import Path

from offline.images import python
from offline.images.job import Job

# The same file as in examples/fastapi, which people may remove.
LOCK = Path(__file__).resolve().parent / "service-base.lock"


def fill(job: Job) -> None:
    """The packages where Debian's Python finds them; `python -m uvicorn` works without a path to be set."""
    python.install(job, LOCK, job.root / "usr" / "local" / "lib" / "python3.11" / "dist-packages")
