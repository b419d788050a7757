"""Paths that read differently to a gateway and to what is behind it, and methods nobody expects."""

from __future__ import annotations

from random import Random
from typing import Final

from tests.attack import targets
from tests.attack.targets import BEHIND, Place
from tests.attack.traffic import Move, Site, one


def _send(site: Site, place: Place, path: str | bytes, what: str, *lines: bytes) -> Move:
    shown = path if isinstance(path, str) else repr(path)
    return Move(
        what=f"{what}: {place.method} {shown}",
        traffic=one(site.request(place.method, path, *lines, body=place.body)),
        surface=place.surface,
    )


def _put_in(dice: Random, path: str, piece: str) -> str:
    """A slash of the path becomes something else."""
    slashes = [at for at, sign in enumerate(path) if sign == "/"]
    at = dice.choice(slashes)
    return path[:at] + piece + path[at + 1 :]


DOTS: Final = (
    "//", "///", "/./", "/././", "/x/../", "/x/%2e%2e/", "/%2e/", "/%2E/", "/x/.%2e/", "/x/%2e./", "/x/..%2f",
    "/x%2f..%2f", "/x/..%5c", "/x/..\\", "\\", "/\\", "\\/", "/x/..;/", "/.;/", "/;x/", "/x/..%00/", "/%c0%ae%c0%ae/",
    "/x/%c0%ae%c0%ae/", "/x/%u002e%u002e/", "/x/%252e%252e/", "/x/%ef%bc%8e%ef%bc%8e/", "/x/..%ef%bc%8f",
)  # fmt: skip


def dots(dice: Random, site: Site) -> Move:
    """Empty, dotted and climbing segments before a blocked word."""
    place = targets.blocked(dice)
    path = _put_in(dice, place.path, dice.choice(DOTS))
    if dice.random() < 0.3:
        path = _put_in(dice, path, dice.choice(DOTS))
    return _send(site, place, path, "odd segment")


CLIMBS: Final = ("/../", "/..%2f", "/%2e%2e/", "/.%2e/", "%2f..%2f", "/..%5c", "\\..\\", "/..;/", "/..//", "/%2e%2e%2f")


def climbing(dice: Random, site: Site) -> Move:
    """From an open folder into a blocked place, or from a blocked place to what looks open once it is cleaned."""
    place = targets.blocked(dice)
    climb = dice.choice(CLIMBS)
    if dice.random() < 0.5:
        behind = dice.choice(BEHIND[place.surface])
        path = behind + climb * behind.count("/") + place.path.lstrip("/")
        if dice.random() < 0.3:
            path = behind + "/x" + climb + climb * behind.count("/") + place.path.lstrip("/")
    else:
        cover = dice.choice(targets.OPEN_CHAT if place.surface == "chat" else targets.OPEN_ENGINE)
        last = cover.path.rpartition("/")[2]
        same = place.path.rpartition("/")[0] == cover.path.rpartition("/")[0]
        up = climb if same else climb * (place.path.count("/"))
        path = place.path + up + (last if same else cover.path.lstrip("/"))
        place = Place(cover.method, place.path, cover.body, place.surface)
    return _send(site, place, path, "climbs")


def _percent(dice: Random, path: str, chance: float, *, twice: bool = False) -> str:
    out = ""
    for sign in path:
        if sign != "/" and dice.random() < chance:
            code = f"{ord(sign):02x}"
            out += ("%25" if twice else "%") + (code.upper() if dice.random() < 0.5 else code)
        else:
            out += sign
    return out


def encoded(dice: Random, site: Site) -> Move:
    """Letters, slashes and percent signs in percent-encoding, once or twice, in both cases."""
    place = targets.blocked(dice)
    way = dice.randrange(7)
    path = place.path
    if way == 0:
        path = _percent(dice, path, 0.3)
    elif way == 1:
        path = _percent(dice, path, 1)
    elif way == 2:
        path = _put_in(dice, path, dice.choice(("%2f", "%2F", "/%2f", "%2f/", "%252f", "%5c", "%5C")))
    elif way == 3:
        path = _percent(dice, path, 0.3, twice=True)
    elif way == 4:
        path = "/%2f" + path.lstrip("/").replace("/", "%2f")
    elif way == 5:
        # An open place in letters that nobody writes so: what is compared is not what goes up.
        place = targets.opened(dice)
        path = _percent(dice, place.path, 0.2)
    else:
        prefix = "/ollama" if path.startswith("/ollama") else ""
        path = prefix + "/" + path.removeprefix(prefix).lstrip("/").replace("/", "%2f")
    return _send(site, place, path, "encoded")


TAILS: Final = (
    "/",
    "//",
    ";x",
    ";/..",
    ";jsessionid=1",
    "%00",
    "%00.png",
    "%20",
    "%09",
    "\\",
    "%252c",
    "%256c",
    "#f",
    "%23",
    "%3f",
    "%0d%0a",
    "%0a",
    ".json",
    "/.",
    "/..",
    "/..;/",
    "~",
    "%7e",
    "?",
    "??",
    "?/../x",
    "&",
    "%26",
    ",",
    "%3b",
    "/index.html",
    "%ff",
    "%",
    "%2",
    "%zz",
    "\x7f",
    "\x80",
    "/favicon.png",
    ".css",
    "*",
)


def tails(dice: Random, site: Site) -> Move:
    """Something behind a blocked word, or behind an open one."""
    place = targets.blocked(dice) if dice.random() < 0.7 else targets.opened(dice)
    return _send(site, place, place.path + dice.choice(TAILS), "tail")


def case(dice: Random, site: Site) -> Move:
    """Other letters than the route has."""
    place = targets.blocked(dice) if dice.random() < 0.5 else targets.opened(dice)
    way = dice.randrange(4)
    if way == 0:
        path = place.path.upper()
    elif way == 1:
        path = place.path.title()
    elif way == 2:
        letters = [at for at, sign in enumerate(place.path) if sign.isalpha()] or [0]
        at = dice.choice(letters)
        path = place.path[:at] + place.path[at].swapcase() + place.path[at + 1 :]
    else:
        # Letters that fold onto ASCII: the Kelvin sign, the long s.
        path = place.path.replace("k", "%e2%84%aa").replace("s", "%c5%bf", 1)
    if path == place.path:
        path = path.rstrip("/") + "/X"
    return _send(site, place, path, "case")


METHODS: Final = (
    "GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "post", "Post", "POSTS", "FOO", "PROPFIND",
    "MKCOL", "COPY", "MOVE", "LOCK", "SEARCH", "M-SEARCH", "PURGE", "DEBUG", "TRACK", "PRI", "get", "delete", "P" * 300,
    "GET\t", "(GET)", "POST\x00", "'POST'",
)  # fmt: skip


def methods(dice: Random, site: Site) -> Move:
    """A method that a route does not have."""
    place = targets.opened(dice) if dice.random() < 0.6 else targets.blocked(dice)
    method = dice.choice([m for m in METHODS if m != place.method])
    body = place.body if dice.random() < 0.5 else None
    return Move(
        what=f"method {method[:20]!r} on {place.path}",
        traffic=one(site.request(method, place.path, body=body), wait=2),
        surface=place.surface,
    )


OVERRIDES: Final = (
    "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X_HTTP_METHOD_OVERRIDE", "X.HTTP.Method.Override",
    "X-Original-URL", "X-Rewrite-URL", "X-Original-URI", "X_Original_URL", "X.Rewrite.Url", "X-Original-Method",
    "X-Forwarded-Uri", "X-Forwarded-Prefix", "X-Forwarded-Path", "X-Original-Host", "X--Original--Url",
)  # fmt: skip


def overrides(dice: Random, site: Site) -> Move:
    """An open route, and a header that asks for another method or address."""
    place = targets.opened(dice)
    name = dice.choice(OVERRIDES)
    lower = name.lower()
    value = "DELETE" if "method" in lower else "f0rged.example" if "host" in lower else "/f0rged/api/pull"
    line = f"{dice.choice((name, name.lower(), name.upper(), name.swapcase()))}: {value}".encode()
    return Move(
        what=f"{line.decode()} on {place.path}",
        traffic=one(site.request(place.method, place.path, line, body=place.body)),
        surface=place.surface,
    )


def queries(dice: Random, site: Site) -> Move:
    """Keys and paths in the query."""
    place = targets.opened(dice) if dice.random() < 0.7 else targets.blocked(dice)
    query = dice.choice(
        (
            "key=sk-guessed", "api_key=sk-guessed", "access_token=sk-guessed", "apikey=<<key>>", "key=<<key>>",
            "token=<<key>>", "model=boss", "path=/api/pull", "x=/../../api/pull", "_method=DELETE", "a;b=c", "%00",
            "x=" + "a" * 6000, "&".join(f"p{n}=1" for n in range(500)), "?x", "x=%zz", "url=http://<<decoy>>/",
        )
    )  # fmt: skip
    return _send(site, place, f"{place.path}?{query}", "query")
