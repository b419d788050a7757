"""Who changes its name instead of its pace: a limit by address must not care what a request says of itself."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Final

from tests.attack import wire
from tests.attack.kinds.heads import FORWARDING, claim, spelt
from tests.attack.targets import Place
from tests.attack.traffic import Credential, one
from tests.attack.wire import Answer
from tests.attack.world import World, attacked, fill

EVENTS: Final = 10
BURST: Final = 5
TRIES: Final = 60
_TIGHT: Final = {"events": EVENTS, "per": "10m", "burst": BURST}
LIMITS: Final = {"limits": {"api": _TIGHT, "chat": _TIGHT, "signIn": _TIGHT}}

# Each has a limit of its own.
DOORS: Final = {
    "the API": Place("POST", "/v1/chat/completions", {"model": "default"}),
    "the chat": Place("POST", "/api/v1/chats/new", {"chat": {}}, "chat"),
    "the sign-in": Place("POST", "/api/v1/auths/signin", {"email": "a@b.example", "password": "x"}, "chat"),
}


def evaded(folder: Path, seed: int) -> dict[str, int]:
    """Door -> how many requests were answered beyond its limit, each with another claim and another guessed key."""
    with attacked(folder, LIMITS) as world:
        return {
            name: max(0, _answered(world, place, Random(f"{seed}:{name}")) - EVENTS - BURST)
            for name, place in DOORS.items()
        }


def _answered(world: World, place: Place, dice: Random) -> int:
    return sum(429 not in _try(world, place, dice, number).statuses for number in range(TRIES))


def _try(world: World, place: Place, dice: Random, number: int) -> Answer:
    name = dice.choice(FORWARDING)
    value = claim(name).replace("203.0.113.66", f"203.0.113.{dice.randrange(1, 255)}")
    lines = [f"{spelt(dice, name)}: {value}".encode(), b"X-Request-Id: %d" % number]
    if place.surface == "api":
        lines.append(b"Authorization: Bearer sk-guess-%d" % number)
    raw = world.site.request(place.method, place.path, *lines, body=place.body)
    return wire.send(one(raw), fill(number, place.surface, Credential.NONE), world.h1["https"], world.h2)
