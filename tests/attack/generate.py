"""Seed and number to attack: the same ones give the same bytes, so any attack can be sent again alone. Pure."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from tests.attack.kinds import bodies, floods, framing, heads, http2, paths
from tests.attack.traffic import Attack, Move, Site

Builder = Callable[[Random, Site], Move]

# Kind -> how many of a round of attacks are of it.
KINDS: Final[dict[str, tuple[int, Builder]]] = {
    "path dots": (8, paths.dots),
    "path climbs": (8, paths.climbing),
    "path encoded": (7, paths.encoded),
    "path tail": (7, paths.tails),
    "path case": (3, paths.case),
    "method": (5, paths.methods),
    "override": (4, paths.overrides),
    "query": (2, paths.queries),
    "host": (5, heads.hosts),
    "bad host": (3, heads.bad_hosts),
    "authority": (4, heads.authorities),
    "forwarding": (6, heads.forwarding),
    "identity": (7, heads.identities),
    "hop by hop": (3, heads.hop_by_hop),
    "trailer": (2, heads.trailers),
    "upgrade": (3, heads.upgrades),
    "origin": (2, heads.origins),
    "expect, range": (2, heads.expectations),
    "credential": (4, heads.credentials),
    "head size": (1, heads.sizes),
    "smuggling": (6, framing.smuggling),
    "chunks": (3, framing.chunks),
    "line": (4, framing.lines),
    "slow": (1, framing.slow),
    "JSON twice": (3, bodies.twice),
    "model name": (4, bodies.names),
    "JSON shape": (3, bodies.shapes),
    "coding": (3, bodies.codings),
    "body size": (1, bodies.too_large),
    "h2 fields": (6, http2.fields),
    "h2 spoof": (3, http2.spoofs),
    "h2 flood": (1, floods.floods),
}
_ROUND: Final = tuple(kind for kind, (weight, _) in KINDS.items() for _ in range(weight))


def attack(seed: int, number: int, site: Site) -> Attack:
    """One attack. Only ports differ between two runs."""
    order = list(_ROUND)
    Random(seed).shuffle(order)
    kind = order[number % len(order)]
    dice = Random(f"{seed}:{number}")
    return Attack(number, kind, KINDS[kind][1](dice, site))
