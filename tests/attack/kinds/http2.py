"""HTTP/2 header blocks as no library would send them: fields that are no fields, and forged ones."""

from __future__ import annotations

from random import Random
from typing import Final

from hyperframe.frame import DataFrame, Frame

from tests.attack import targets
from tests.attack.kinds.heads import FORWARDING, IDENTITY, claim, spelt
from tests.attack.targets import CHAT, Place
from tests.attack.traffic import Fields, Head, Http2, Move, Site, Step

EVIL: Final = b"f0rged.example"
_MARK: Final = ((b"<<auth>>", b""), (b"attack-id", b"<<id>>"))


def usual_fields(site: Site, place: Place, *more: tuple[bytes, bytes], **pseudo: bytes) -> Fields:
    """The fields of a request in order, apart from the pseudo-headers that are given and what is added."""
    first = {
        b":method": place.method.encode(),
        b":scheme": b"https",
        b":authority": site.host.encode(),
        b":path": place.path.encode("latin-1"),
    } | {b":" + name.encode(): value for name, value in pseudo.items()}
    kind = ((b"content-type", b"application/json"),) if place.body is not None else ()
    return (*first.items(), *_MARK, *kind, *more)


def with_body(site: Site, place: Place, fields: Fields, stream: int = 1) -> tuple[Head | Step, ...]:
    """A head with these fields and the place's body."""
    if place.body is None:
        return (Head(stream, fields),)
    return Head(stream, fields, end=False), frame(DataFrame(stream, site.body(place.body), flags=["END_STREAM"]))


def frame(*frames: Frame, times: int = 1) -> Step:
    """Frames as bytes."""
    return Step(b"".join(frame.serialize() for frame in frames), times=times)


def move(what: str, place: Place, frames: tuple[Head | Step, ...], wait: float = 2) -> Move:
    """One connection with these frames."""
    return Move(what=f"h2 {what} on {place.path}", traffic=Http2(frames, wait), surface=place.surface)


def fields(dice: Random, site: Site) -> Move:
    """Pseudo-headers missing, doubled, misplaced or hiding another request; line ends in names and values."""
    place = targets.opened(dice) if dice.random() < 0.7 else targets.blocked(dice)
    base = usual_fields(site, place)
    secret = targets.blocked(dice)
    hidden = f"{secret.method} {secret.path} HTTP/1.1\r\n"
    injected = f" HTTP/1.1\r\nHost: {site.host}\r\nAttack-Id: <<in>>\r\n\r\n{hidden}".encode()

    def changed(**pseudo: bytes) -> Fields:
        return usual_fields(site, place, **pseudo)

    def added(name: bytes, value: bytes) -> Fields:
        return (*base, (name, value))

    def without(name: bytes) -> Fields:
        return tuple(field for field in base if field[0] != name)

    path = place.path.encode("latin-1")
    what, odd = dice.choice(
        (
            ("no :path", without(b":path")),
            ("no :method", without(b":method")),
            ("no :scheme", without(b":scheme")),
            ("no :authority", without(b":authority")),
            ("two :path", ((b":path", secret.path.encode()), *base)),
            ("two :path, ours first", (*base[:4], (b":path", secret.path.encode()), *base[4:])),
            ("two :method", (*base[:4], (b":method", b"DELETE"), *base[4:])),
            ("two :authority", (*base[:4], (b":authority", EVIL), *base[4:])),
            ("evil :authority", changed(authority=EVIL)),
            ("userinfo in :authority", changed(authority=EVIL + b"@" + site.host.encode())),
            ("path in :authority", changed(authority=site.host.encode() + b"/" + EVIL)),
            ("comma in :authority", changed(authority=site.host.encode() + b"," + EVIL)),
            ("another host", added(b"host", EVIL)),
            ("host alone", tuple(f for f in added(b"host", EVIL) if f[0] != b":authority")),
            ("two hosts", (*base, (b"host", site.host.encode()), (b"host", EVIL))),
            (":path absolute", changed(path=b"https://" + site.decoy.encode() + path)),
            (":path without slash", changed(path=path[1:] or b"x")),
            (":path empty", changed(path=b"")),
            (":path *", changed(path=b"*")),
            (":path with spaces", changed(path=path + b" HTTP/1.1")),
            (":path with a second request", changed(path=path + injected)),
            (":path with fragment", changed(path=path + b"#/../x")),
            (":path double slash", changed(path=b"/" + path)),
            (":path climbs", changed(path=path + b"/../.." + secret.path.encode())),
            (":path raw bytes", changed(path=path + b"\xff\x00")),
            (
                ":method with a request",
                changed(method=place.method.encode() + b" " + secret.path.encode() + b" HTTP/1.1\r\nX: y\r\n\r\n"),
            ),
            (":method lower", changed(method=place.method.lower().encode())),
            (":method CONNECT", changed(method=b"CONNECT")),
            ("extended CONNECT", ((b":protocol", b"websocket"), *changed(method=b"CONNECT"))),
            (":scheme file", changed(scheme=b"file")),
            (":scheme with host", changed(scheme=b"https://" + EVIL + b"/x")),
            (":scheme http", changed(scheme=b"http")),
            ("unknown pseudo", ((b":x", b"y"), *base)),
            (":status in a request", ((b":status", b"200"), *base)),
            ("pseudo last", (*base[1:], base[0])),
            ("upper case name", added(b"X-Forwarded-For", b"203.0.113.66")),
            ("line end in a value", added(b"x-a", b"b\r\nRemote-User: f0rged")),
            ("bare LF in a value", added(b"x-a", b"b\nRemote-User: f0rged")),
            ("bare CR in a value", added(b"x-a", b"b\rRemote-User: f0rged")),
            ("NUL in a value", added(b"x-a", b"b\x00f0rged")),
            ("a request in a value", added(b"x-a", b"b\r\n\r\nGET /api/pull HTTP/1.1\r\nX: " + b"y")),
            ("line end in a name", added(b"x-a: b\r\nremote-user", b"f0rged")),
            ("colon in a name", added(b"remote-user: f0rged", b"x")),
            ("space in a name", added(b"remote-user ", b"f0rged")),
            ("empty name", added(b"", b"f0rged")),
            ("transfer-encoding", added(b"transfer-encoding", b"chunked")),
            ("transfer-encoding odd", added(b"transfer-encoding", b"identity")),
            ("connection", added(b"connection", b"close, x-forwarded-for")),
            ("keep-alive", added(b"keep-alive", b"timeout=5")),
            ("upgrade", added(b"upgrade", b"h2c")),
            ("te", added(b"te", b"gzip")),
            ("http2-settings", added(b"http2-settings", b"AAMAAABk")),
            ("length too small", added(b"content-length", b"1")),
            ("length too large", added(b"content-length", b"100000")),
            ("two lengths", (*base, (b"content-length", b"0"), (b"content-length", b"50"))),
            ("odd length", added(b"content-length", b"+5")),
            ("many cookies", (*base, *((b"cookie", b"c=%d" % n) for n in range(500)))),
            ("spread over frames", base),
        )
    )
    frames = with_body(site, place, odd)
    if what == "spread over frames":
        first = frames[0]
        assert isinstance(first, Head)
        frames = (Head(1, first.fields, first.end, pieces=30), *frames[1:])
    return move(what, place, frames)


def spoofs(dice: Random, site: Site) -> Move:
    """Forged headers of every spelling, in heads and in trailers."""
    place = targets.opened(dice)
    name = dice.choice((*FORWARDING, *IDENTITY))
    field = (spelt(dice, name).lower().encode(), claim(name).encode())
    if dice.random() < 0.25 and place.body is not None:
        announced = ((b"trailer", field[0]),) if dice.random() < 0.5 else ()
        frames = (
            Head(1, usual_fields(site, place, *announced), end=False),
            frame(DataFrame(1, site.body(place.body))),
            Head(1, (field, *(((b":path", b"/api/pull"),) if dice.random() < 0.3 else ()))),
        )
        return move(f"trailer {field}", place, frames)
    return move(
        f"{field}", place, with_body(site, place, usual_fields(site, place, field, *([field] * dice.randrange(2))))
    )


def usual(site: Site) -> Http2:
    """A request in order, for checking that the sender itself is right."""
    place = Place("POST", "/v1/chat/completions", CHAT)
    return Http2(with_body(site, place, usual_fields(site, place)))
