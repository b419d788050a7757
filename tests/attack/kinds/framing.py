"""Where one request ends and the next begins: lengths, chunks, line ends. A hidden second request is judged alone."""

from __future__ import annotations

from random import Random
from typing import Final

from tests.attack import targets
from tests.attack.targets import Place
from tests.attack.traffic import CRLF, ID, Http1, Move, Site, Step, one

_INNER: Final = ID + b": <<in>>"
_JSON: Final = b"Content-Type: application/json"


def _carriers(dice: Random) -> Place:
    return dice.choice((*targets.WITH_BODY, Place("POST", "/api/v1/chats/new", {"chat": {}}, "chat")))


def _hidden(dice: Random, site: Site) -> bytes:
    """A request without any credential, for a place that is blocked or that needs one."""
    place = targets.blocked(dice) if dice.random() < 0.5 else dice.choice(targets.OPEN_ENGINE)
    return site.request(place.method, place.path, body=place.body, mark=_INNER)


def smuggling(dice: Random, site: Site) -> Move:
    """Two lengths, or a length that is written oddly: what is body to one is a request to another."""
    place = _carriers(dice)
    inner = _hidden(dice, site)
    body = site.body(place.body)
    chunked = b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
    te = dice.choice(
        (
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding : chunked",
            b"Transfer-Encoding: xchunked",
            b"Transfer-Encoding:\tchunked",
            b"Transfer-Encoding: chunked, identity",
            b"Transfer-Encoding: identity, chunked",
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
            b"Transfer-Encoding: \x0bchunked",
            b"Transfer_Encoding: chunked",
            b"transfer-encoding: CHUNKED",
            b'Transfer-Encoding: "chunked"',
            b" Transfer-Encoding: chunked",
            b"X: y\nTransfer-Encoding: chunked",
            b"Transfer-Encoding:\r\n chunked",
            b"Transfer.Encoding: chunked",
            b"Transfer-Encoding: chunked;q=1",
            b"Transfer-Encoding: ",
        )
    )
    way = dice.randrange(7)
    if way == 0:  # the length covers all, the chunks end before
        data = chunked + inner
        lines = [b"Content-Length: %d" % len(data), te]
        what = f"CL+TE {te!r}"
    elif way == 1:  # the length covers the first bytes only, the chunks cover all
        data = b"%x\r\n" % len(inner) + inner + b"\r\n0\r\n\r\n"
        lines = [te, b"Content-Length: 4"]
        what = f"TE+CL {te!r}"
    elif way == 2:  # two lengths
        data = body + inner
        lengths = [b"Content-Length: %d" % len(body), b"Content-Length: %d" % len(data)]
        dice.shuffle(lengths)
        lines, what = lengths, "two lengths"
    elif way == 3:
        data = body + inner
        odd = dice.choice(
            (
                b"+%d",
                b"-%d",
                b"%d, %d",
                b"0x%x",
                b" %d ",
                b"%d.0",
                b"0%d",
                b"%d;x",
                b"\x0b%d",
                b"%d\x00",
                b"%de0",
                b"_%d",
            )
        )
        value = odd % ((len(body),) * odd.replace(b"%%", b"").count(b"%"))
        lines, what = [b"Content-Length: " + value], f"length {value!r}"
    elif way == 4:  # a second request behind a whole first one: pipelining is no crime, the second one is judged alone
        data = body + inner
        lines, what = [b"Content-Length: %d" % len(body)], "pipelined"
    elif way == 5:  # a body on GET, which some forget to read
        place = Place("GET", dice.choice(("/v1/models", "/api/config", "/", "/health")), None, "chat")
        data = inner
        lines, what = [b"Content-Length: %d" % len(inner)], f"GET with a body, {place.path}"
    else:  # the length hides in another header's value or name
        data = body + inner
        end = dice.choice((b"\n", b"\r", b"\r\r\n", b"\x00", b"\x85"))
        lines = [b"X-Odd: a" + end + b"Content-Length: %d" % len(data), b"Content-Length: %d" % len(body)]
        what = f"a length behind {end!r}"
    head = site.head(place.method, place.path, _JSON, *lines)
    return Move(what=f"{what} on {place.path}", traffic=one(head + data, wait=0.7), surface=place.surface)


def chunks(dice: Random, site: Site) -> Move:
    """Chunks whose size or end is odd."""
    place = _carriers(dice)
    body = site.body(place.body)
    inner = _hidden(dice, site)
    size = b"%x" % len(body)
    pieces = dice.choice(
        (
            size + b"\n" + body + b"\r\n0\r\n\r\n",
            size + b"\r" + body + b"\r\n0\r\n\r\n",
            size + b" \r\n" + body + b"\r\n0\r\n\r\n",
            b"+" + size + b"\r\n" + body + b"\r\n0\r\n\r\n",
            b"-1\r\n" + body,
            b"0x" + size + b"\r\n" + body + b"\r\n0\r\n\r\n",
            size + b";a=b\r\n" + body + b"\r\n0;x\r\n\r\n",
            size + b";\n" + body + b"\r\n0\r\n\r\n",
            b"g\r\n" + body,
            b"f" * 40 + b"\r\n" + body,
            size + b"\r\n" + body + b"0\r\n\r\n",
            size + b"\r\n" + body + b"\n0\n\n",
            size + b';x="\r\n' + inner + b'"\r\n',
            b"0" * 500 + size + b"\r\n" + body + b"\r\n0\r\n\r\n",
            size + b";" + b"a" * 20_000 + b"\r\n" + body + b"\r\n0\r\n\r\n",
            b"\r\n" + size + b"\r\n" + body + b"\r\n0\r\n\r\n",
            size + b"\r\n" + body + b"\r\n0\r\n" + inner,
            b"1\r\n{\r\n" * 3000,
            size + b"\r\n" + body + b"XX0\r\n\r\n",
            size + b"\r\n" + body + b"\r\n00000000000000000\r\n\r\n",
        )
    )
    head = site.head(place.method, place.path, _JSON, b"Transfer-Encoding: chunked")
    return Move(
        what=f"chunks {pieces[:24]!r} on {place.path}",
        traffic=one(head + pieces + inner, wait=0.7),
        surface=place.surface,
    )


def lines(dice: Random, site: Site) -> Move:
    """Folded lines, bare line ends, NUL and names that are no names."""
    place = targets.opened(dice)
    odd = dice.choice(
        (
            b"X-A: b\r\n X-Forwarded-For: 203.0.113.66",
            b"X-A: b\r\n\tc",
            b"X-A: b\nX-Forwarded-For: 203.0.113.66",
            b"X-A: b\rRemote-User: f0rged",
            b"X-A: b\x00c",
            b"X A: b",
            b"X-A : b",
            b": b",
            b"X-A",
            b"X-A\x00: b",
            b"X\xff: b",
            b"(X): b",
            b"X-A: \x01\x02",
            b"X-A: \x7f",
            b" X-First: folded",
            b"X-Forwarded-For\x00: 203.0.113.66",
            b"X-Forwarded-For : 203.0.113.66",
            b"X-Forwarded-For\t: 203.0.113.66",
            b"\x0bX-Forwarded-For: 203.0.113.66",
            b"X-A: b\r\n\r\nGET /api/v1/functions/create HTTP/1.1\r\nHost: x",
            b"X-A: b\xe2\x80\xa8Remote-User: f0rged",
            b"Remote-User:f0rged",
            b"Remote-User:\xa0f0rged",
            b"X-A: \r\n \r\n Remote-User: f0rged",
        )
    )
    way = dice.randrange(6)
    data = site.request(place.method, place.path, odd, body=place.body)
    what = f"line {odd[:40]!r}"
    if way == 0:
        data, what = data.replace(CRLF, b"\n"), what + ", bare LF"
    elif way == 1:
        data, what = CRLF * dice.choice((1, 2, 50)) + data, what + ", empty lines first"
    elif way == 2:
        gap = dice.choice((b"  ", b"\t", b"\x0b", b"\x0c", b"\x00", b"\xa0"))
        data, what = data.replace(b" ", gap, 1), what + f", {gap!r} in the request line"
    return Move(what=f"{what} on {place.path}", traffic=one(data, wait=1), surface=place.surface)


def slow(dice: Random, site: Site) -> Move:
    """Heads and bodies that come a byte at a time, and readers that do not read: the gateway must end them."""
    place = _carriers(dice)
    body = site.body(place.body)
    way = dice.randrange(3)
    if way == 0:
        steps = [Step(site.head(place.method, place.path)[:-2]), Step(b"X-a: b\r\n", pause=1, times=40)]
        what = "a header line each second"
    elif way == 1:
        length = b"Content-Length: %d" % (len(body) + 100)
        steps = [Step(site.head(place.method, place.path, _JSON, length)), Step(b" ", pause=1, times=60)]
        what = "a body byte each second"
    else:
        steps = [Step(site.head(place.method, place.path)[:20]), Step(b"", pause=1, times=40)]
        what = "half a request line, then nothing"
    return Move(what=f"{what} on {place.path}", traffic=Http1(tuple(steps), wait=1), surface=place.surface, slow=True)
