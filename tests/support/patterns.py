"""Path patterns as the gateway reads them: `{name}` is one segment, `/*` at the end is everything below. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable


def matches(pattern: str, path: str) -> bool:
    """Whether a path, or a template, is among those of a pattern."""
    if pattern.endswith("/*"):
        below = pattern.removesuffix("*")
        return len(path) > len(below) and path.startswith(below)
    ours, theirs = pattern.split("/"), path.split("/")
    return len(ours) == len(theirs) and all(
        (other != "") if re.fullmatch(r"\{\w+\}", one) else one == other
        for one, other in zip(ours, theirs, strict=True)
    )


def among(patterns: Iterable[str], path: str) -> bool:
    """Whether any of the patterns has the path."""
    return any(matches(pattern, path) for pattern in patterns)
