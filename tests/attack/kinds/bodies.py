"""JSON that two readers could take for two things, other codings, and bodies beyond any limit."""

from __future__ import annotations

import gzip
import json
import zlib
from random import Random
from typing import Any, Final

from tests.attack import targets
from tests.attack.targets import FORBIDDEN, Place
from tests.attack.traffic import Http1, Move, Site, Step, one

MEBIBYTE: Final = 1024 * 1024


def _send(site: Site, place: Place, what: str, body: bytes, *lines: bytes) -> Move:
    return Move(
        what=f"{what} on {place.path}",
        traffic=one(site.request(place.method, place.path, *lines, body=body)),
        surface=place.surface,
    )


def _rest(place: Place) -> str:
    return json.dumps({k: v for k, v in place.body.items() if k != "model"})[1:-1]


def twice(dice: Random, site: Site) -> Move:
    """The model named more than once, or in a spelling that only some read: the allowed one and the forbidden one."""
    place = dice.choice(targets.WITH_BODY)
    good, bad = f'"{place.body["model"]}"', f'"{FORBIDDEN}"'
    other = dice.choice(
        (
            '"model"',
            '"Model"',
            '"MODEL"',
            '"mod\\u0065l"',
            '"\\u006dodel"',
            '"mODEL"',
            '"mo\\u0064el"',
            '"model "',
            '"model\\u0000"',
            '"\\u017fmodel"',
            '"name"',
            '"Name"',
            '"\uff4dodel"',
            '"model\\ud800"',
            '"moдel"',
        )
    )
    pairs = [f'"model": {good}', f"{other}: {bad}"]
    dice.shuffle(pairs)
    if dice.random() < 0.2:
        pairs.append(f'"model": {good}')
    body = "{" + ", ".join([*pairs, _rest(place)]) + "}"
    return _send(site, place, " ".join(pairs)[:90], body.encode())


NAMES: Final[tuple[Any, ...]] = (
    FORBIDDEN,
    f"{FORBIDDEN}:latest",
    f" {FORBIDDEN}",
    f"{FORBIDDEN} ",
    "secret:1b",
    "SECRET:1B",
    "Boss",
    "DEFAULT",
    "default ",
    "default\u0000",
    "default\n",
    "http://<<decoy>>/x",
    "https://f0rged.example/library/x",
    "registry.ollama.ai/library/secret:1b",
    "../secret:1b",
    "default/../secret:1b",
    "default:../../secret",
    "/etc/passwd",
    "file:///etc/passwd",
    "*",
    "",
    "a" * 300,
    ["default", FORBIDDEN],
    [FORBIDDEN],
    {"id": FORBIDDEN},
    {"default": 1},
    None,
    0,
    1e308,
    True,
    "default,boss",
    "default;boss",
    "default|boss",
    "{{boss}}",
    "{env.HOME}",
    "{http.vars.llm_upstream}",
    "library/secret:1b",
    "secret",
    "ﬀ",
    "default\u200b",
    "\uff44efault",
    "hf.co/x/y",
    "%62oss",
    "b\u043ess",
    "boss@sha256:" + "0" * 64,
)


def names(dice: Random, site: Site) -> Move:
    """Models by names that lead elsewhere."""
    place = dice.choice(targets.WITH_BODY)
    name = dice.choice(NAMES)
    return _send(site, place, f"model {name!r:.60}", json.dumps(place.body | {"model": name}).encode())


def shapes(dice: Random, site: Site) -> Move:
    """Not one plain JSON object: depth, numbers, tails, several documents, broken text."""
    place = dice.choice(targets.WITH_BODY)
    good = json.dumps(place.body)
    deep = dice.choice((70, 1_000, 20_000, 300_000))
    bad = json.dumps(place.body | {"model": FORBIDDEN})
    body = dice.choice(
        (
            good[:-1] + ', "x": ' + "[" * deep + "]" * deep + "}",
            good[:-1] + ', "x": ' + '{"a":' * deep + "1" + "}" * deep + "}",
            good + bad,
            good + "\n" + bad,
            bad + "\n" + good,
            f"[{good}, {bad}]",
            f"[{good}]",
            good + "\x00",
            "\x00" + good,
            good[:-1],
            good[:-1] + ",}",
            good.replace('"', "'"),
            good[:-1] + "} // x",
            "/* x */" + good,
            good[:-1] + ', "n": 1e999999}',
            good[:-1] + ', "n": ' + "9" * 100_000 + "}",
            good[:-1] + ', "n": -0, "m": NaN}',
            good[:-1] + ', "n": Infinity}',
            good[:-1] + ', "n": 0x10}',
            good[:-1] + ', "n": 01}',
            good[:-1] + ', "x": "\\ud800"}',
            good[:-1] + ', "x": "\\x41"}',
            good[:-1] + ', "x": "' + "\\u0000" * 1000 + '"}',
            good[:-1] + ', "__proto__": {"model": "boss"}}',
            good[:-1] + ', "options": {"model": "boss", "num_ctx": 1e9}}',
            good[:-1] + ', "max_tokens": -1}',
            good[:-1] + ', "max_tokens": 1e30}',
            good[:-1] + ', "stream": "true"}',
            good[:-1] + ', "stream": [true]}',
            good[:-1] + ', "n": 100000}',
            "null",
            '"model"',
            "1",
            "",
            "{}",
            "{",
            "[]",
            "model=boss",
            "a" * 100_000,
            "{" + ", ".join(f'"k{n}": {n}' for n in range(3000)) + ", " + good[1:],
            good[:-1] + ', "extra_body": {"model": "boss"}, "model_": "boss"}',
            good + " " * 50_000,
            f"data: {good}\n\n",
            f'{{"": {bad}, {good[1:]}',
        )
    )
    return _send(site, place, f"JSON {body[:50]!r} ({len(body)} bytes)", body.encode("utf-8", "surrogatepass"))


def codings(dice: Random, site: Site) -> Move:
    """Another charset, another media type, another content coding: the model is readable only to some."""
    place = dice.choice(targets.WITH_BODY)
    bad = json.dumps(place.body | {"model": FORBIDDEN}).encode()
    good = json.dumps(place.body).encode()
    text = bad.decode()
    kind = b"Content-Type: "
    body, lines = dice.choice(
        (
            (text.encode("utf-16"), (kind + b"application/json; charset=utf-16",)),
            (text.encode("utf-16-le"), (kind + b"application/json",)),
            (text.encode("utf-32"), (kind + b"application/json",)),
            (text.encode("utf-7"), (kind + b"application/json; charset=utf-7",)),
            (b"\xef\xbb\xbf" + bad, (kind + b"application/json",)),
            (b"\xef\xbb\xbf" + good, (kind + b"application/json",)),
            (text.encode("cp037"), (kind + b"application/json; charset=ibm037",)),
            (good.replace(b"hello", b"\xff\xfe\xc0\xaf"), (kind + b"application/json",)),
            (b'{"mod\xc0\xa5l": "boss", ' + good[1:], (kind + b"application/json",)),
            (bad, (kind + b"text/plain",)),
            (bad, (kind + b"application/x-www-form-urlencoded",)),
            (bad, (kind + b"application/x-ndjson",)),
            (bad, (kind + b"application/json, text/plain",)),
            (bad, (kind + b"application/json", kind + b"text/plain")),
            (good, (kind + b"text/plain", kind + b"application/json")),
            (bad, (kind + b"APPLICATION/JSON;;charset=x",)),
            (bad, (kind,)),
            (bad, (kind + b"application/json\x00",)),
            (
                b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nboss\r\n--x--\r\n',
                (kind + b"multipart/form-data; boundary=x",),
            ),
            (gzip.compress(bad, mtime=0), (kind + b"application/json", b"Content-Encoding: gzip")),
            (gzip.compress(b"\0" * 10 * MEBIBYTE, mtime=0), (kind + b"application/json", b"Content-Encoding: gzip")),
            (gzip.compress(good, mtime=0), (kind + b"application/json", b"Content-Encoding: identity, gzip")),
            (gzip.compress(good, mtime=0), (kind + b"application/json", b"Content-Encoding: x-gzip")),
            (
                gzip.compress(good, mtime=0),
                (kind + b"application/json", b"Content-Encoding: identity", b"Content-Encoding: gzip"),
            ),
            (gzip.compress(good, mtime=0), (kind + b"application/json",)),
            (zlib.compress(bad), (kind + b"application/json", b"Content-Encoding: deflate")),
            (bad, (kind + b"application/json", b"Content-Encoding: br")),
            (bad, (kind + b"application/json", b"content_encoding: gzip")),
        )
    )
    shown = " ".join(line.decode("latin-1") for line in lines)
    return _send(site, place, f"{shown} {body[:20]!r}", body, *lines)


def too_large(dice: Random, site: Site) -> Move:
    """Bodies over the limit (1 MiB on the API here, 4 MiB on the chat), announced or not, and some that never come."""
    place = dice.choice((*targets.WITH_BODY, Place("POST", "/api/v1/chats/new", {"chat": {}}, "chat")))
    limit = MEBIBYTE if place.surface == "api" else 4 * MEBIBYTE
    start = site.body(place.body)[:-1] + b', "x": "'
    piece = b"a" * 65536
    count = (limit + MEBIBYTE) // len(piece)
    kind = b"Content-Type: application/json"
    steps: tuple[Step, ...]
    way = dice.randrange(4)
    if way == 0:
        length = len(start) + count * len(piece) + 2
        head = site.head(place.method, place.path, kind, b"Content-Length: %d" % length, b"Connection: close")
        steps = (Step(head + start), Step(piece, times=count), Step(b'"}'))
        what = f"{length} bytes, announced"
    elif way == 1:
        head = site.head(place.method, place.path, kind, b"Transfer-Encoding: chunked", b"Connection: close")
        chunk = b"%x\r\n" % len(piece) + piece + b"\r\n"
        steps = (
            Step(head + b"%x\r\n" % len(start) + start + b"\r\n"),
            Step(chunk, times=count),
            Step(b'2\r\n"}\r\n0\r\n\r\n'),
        )
        what = "chunks over the limit"
    elif way == 2:
        length = dice.choice((10**11, 2**63 - 1, 2**63, 2**64, 10**30))
        head = site.head(place.method, place.path, kind, b"Content-Length: %d" % length)
        steps = (Step(head + start),)
        what = f"{length} bytes announced, few sent"
    else:
        head = site.head(place.method, place.path, kind, b"Transfer-Encoding: chunked", b"Connection: close")
        size = dice.choice((b"7fffffffffffffff", b"ffffffffffffffff", b"10000000000000000", b"fffffff"))
        steps = (Step(head + size + b"\r\n" + start),)
        what = f"a chunk of 0x{size.decode()} bytes, few sent"
    return Move(what=f"{what}, on {place.path}", traffic=Http1(steps, wait=0.5), surface=place.surface)
