"""The error of everything that `make` calls: a sentence for the person at the keyboard."""

from __future__ import annotations

import errno


class OpsError(RuntimeError):
    """What is wrong, where, what is allowed and how to fix it. Shown as it is, without a traceback."""


def of_system(trouble: OSError) -> str:
    """What the system said of a file (or of an address), in a sentence."""
    if trouble.strerror is None:
        return str(trouble) or type(trouble).__name__
    return f"{trouble.filename}: {trouble.strerror}" if trouble.filename else trouble.strerror


def advice(trouble: OSError) -> str:
    """What to do about it."""
    if trouble.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room on that disk, then run the same again: a file is written whole or not at all"
    if trouble.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "let this account read and write there, then run the same again"
    return "see to what is named there, then run the same again"
