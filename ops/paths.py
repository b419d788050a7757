"""Where things live outside the tree. Standard library only: the bootstrap imports this before any package is there.

Three roots, so that losing or copying one leaks or loses nothing of the others:
the cache (downloads and builds, safe to delete), the state (Pulumi's backend and what was recorded with each
stack) and the passphrases (what opens the secrets in that state).
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"


def _root(variable: str, xdg: str, default: str, leaf: str) -> Path:
    if value := os.environ.get(variable):
        return Path(value).expanduser().resolve()
    base = os.environ.get(xdg) or str(Path.home() / default)
    return Path(base) / leaf


def cache() -> Path:
    """Downloads and builds, each entry keyed by its version."""
    return _root("PRIVATE_LLM_CACHE", "XDG_CACHE_HOME", ".cache", "private-llm")


def state() -> Path:
    """Pulumi's file backend, and one record per stack."""
    return _root("PRIVATE_LLM_STATE", "XDG_STATE_HOME", ".local/state", "private-llm")


def passphrases() -> Path:
    """A folder of its own beside the state: a copy of the state alone opens nothing."""
    folder = state()
    return folder.with_name(folder.name + "-passphrases")


def private_folder(path: Path) -> Path:
    """Makes a folder that only its owner may enter (0700), tightening it when it was wider."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)
    return path
