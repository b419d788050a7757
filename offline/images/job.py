"""What a builder of image files is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from offline.gomod import Say


@dataclass(frozen=True, kw_only=True)
class Job:
    """One image being built: fill `root` with the files of its own layer.

    `work` is a scratch folder that is removed afterwards, `apt` the package state of the base image, `source` the
    checkout (only the gateway's Go module is read from it), `log` where compilers and installers write.
    """

    cache: Path
    work: Path
    root: Path
    apt: Path
    source: Path
    log: Path
    say: Say
