"""The error of everything that `make` calls: a sentence for the person at the keyboard."""

from __future__ import annotations


class OpsError(RuntimeError):
    """What is wrong, where, what is allowed and how to fix it. Shown as it is, without a traceback."""
