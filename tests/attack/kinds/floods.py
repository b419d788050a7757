"""HTTP/2 frames that cost the server more than the client, or stand where none belongs: bounded here."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.attack import targets
from tests.attack.kinds.http2 import frame, move, usual_fields
from tests.attack.traffic import Fields, Head, Move, Site, Step

Frames = tuple[Head | Step, ...]
FIELD: Final = b"\x00\x03x-a\x01b"  # one header field, not to be remembered
# A long field is put into the table once and then named by one byte each.
BOMB: Final = b"\x40\x03x-a\x7f\xa1\x1e" + b"b" * 4000 + b"\xbe" * 12_000


def _each(fields: Fields, count: int, then: Callable[[int], Frame]) -> Frames:
    """Requests on streams of their own, each followed by a frame."""
    return tuple(step for n in range(1, 2 * count, 2) for step in (Head(n, fields), frame(then(n))))


FLOODS: Final[dict[str, Callable[[Fields], Frames]]] = {
    "CONTINUATION flood": lambda _: (
        frame(HeadersFrame(1, FIELD)),
        frame(ContinuationFrame(1, FIELD * 100), times=3000),
    ),
    "rapid reset": lambda fields: _each(fields, 600, lambda n: RstStreamFrame(n, error_code=8)),
    "reset by a window of 0": lambda fields: _each(fields, 300, lambda n: WindowUpdateFrame(n, 0)),
    "reset by late data": lambda fields: _each(fields, 300, lambda n: DataFrame(n, b"late", flags=["END_STREAM"])),
    "600 streams left open": lambda fields: tuple(Head(n, fields, end=False) for n in range(1, 1200, 2)),
    "SETTINGS flood": lambda _: (frame(SettingsFrame(0, {3: 100}), times=5000),),
    "PING flood": lambda _: (frame(PingFrame(0, b"12345678"), times=5000),),
    "empty DATA flood": lambda fields: (Head(1, fields, end=False), frame(DataFrame(1, b""), times=5000)),
    "window overflow": lambda fields: (Head(1, fields), frame(WindowUpdateFrame(0, 2**31 - 1), times=2)),
    "a stream that depends on itself": lambda fields: (
        frame(PriorityFrame(3, depends_on=3, stream_weight=1), times=2000),
        Head(1, fields),
    ),
    "HPACK bomb": lambda _: (frame(HeadersFrame(1, BOMB, flags=["END_HEADERS", "END_STREAM"])),),
    "500 KB of fields": lambda fields: (
        Head(1, (*fields, *((b"x-%d" % n, b"a" * 1000) for n in range(500))), pieces=60),
    ),
}
MISPLACED: Final[tuple[bytes, ...]] = (
    *(
        one.serialize()
        for one in (
            ContinuationFrame(1, FIELD),
            DataFrame(1, b"x"),
            PushPromiseFrame(1, 2, FIELD, flags=["END_HEADERS"]),
            HeadersFrame(2, FIELD, flags=["END_HEADERS"]),
            RstStreamFrame(7),
            WindowUpdateFrame(9, 5),
        )
    ),
    b"\xff\xff\xff\x01\x05\x00\x00\x00\x01",
    b"\x00\x00\x05\x04\x00\x00\x00\x00\x00hello",
    b"\x00\x00\x00\x77\xff\x00\x00\x00\x01",
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x00\x00\x01\x01\x0d\x00\x00\x00\x01\xff",
    b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\xff\xff\xff\xff",
)


def floods(dice: Random, site: Site) -> Move:
    """One flood, or one frame where none belongs."""
    place = targets.opened(dice)
    fields = usual_fields(site, place)
    if dice.random() < 0.25:
        odd = dice.choice(MISPLACED)
        return move(f"frame {odd[:12]!r} out of place", place, (Step(odd), Head(1, fields)))
    name = dice.choice(list(FLOODS))
    return move(name, place, FLOODS[name](fields))
