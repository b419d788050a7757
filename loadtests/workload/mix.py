"""Who takes part in a load: what the sessions of a profile come to, and in which shares those of a mixed one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from loadtests.workload.profiles import PROFILES, Profile

WORD: Final = "LOAD_MIX"
MIXED: Final = "mixed"
"""The scenario whose sessions are of several others."""
USUAL: Final = "chat=70,code=15,rag=10,embed=5"
"""Assumed; sessions, not requests. Nothing public tells what small teams do."""
EMBEDDINGS: Final = frozenset({"embed", "native-embed"})
"""Scenarios that ask for vectors alone."""
EMBEDDING: Final = EMBEDDINGS | {"rag"}
"""Those that ask for some."""
SIGNED_IN: Final = frozenset({"ui", "ui-file"})
"""In these people sign in to the chat."""


def shares(text: str) -> dict[str, float]:
    """Profile to weight. Raises ValueError, in words, for what is none."""
    allowed = [name for name, one in PROFILES.items() if one.scenario != MIXED]
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = (one.strip() for one in part.partition("="))
        if name not in allowed or name in found:
            raise ValueError(f"MIX={text}: {part.strip()!r}: allowed, once each, are {', '.join(allowed)}")
        try:
            found[name] = float(weight)
        except ValueError:
            found[name] = 0.0
        if not 0 < found[name] < float("inf"):
            raise ValueError(f"MIX={text}: {part.strip()!r}: a share is a number above 0, for example {name}=10")
    return found


def kinds(profile: Profile, environment: Mapping[str, str]) -> set[str]:
    """The scenarios that a profile comes to. Raises ValueError for shares that are none, or that nobody asked for."""
    text = environment.get(WORD, "").strip()
    if profile.scenario == MIXED:
        return {PROFILES[name].scenario for name in shares(text or USUAL)}
    if text:
        raise ValueError(f"MIX={text} would do nothing here: it is for PROFILE=mixed, and this is {profile.name}")
    return {profile.scenario}
