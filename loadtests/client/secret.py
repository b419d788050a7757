"""A server's words before anybody else sees them: without our secrets, on one line that can be written, not endless.

Some servers repeat the key that they refuse. Whoever speaks with one puts every word of the answer through this.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

HIDDEN: Final = "(the key)"
PART: Final = 8
"""Of a secret, so many characters in a row are hidden wherever they stand: a server may repeat half of it."""
LEAST: Final = 4
"""What is shorter is no secret ("x" for an engine that wants none), and stands in any text."""
LOOKED: Final = 4096
LENGTH: Final = 500


class Secrets:
    """What must never be repeated: a key, a session's token, a password."""

    def __init__(self, *secrets: str) -> None:
        self._parts = tuple(
            dict.fromkeys(
                one[at : at + PART] for one in secrets if len(one) >= LEAST for at in range(max(1, len(one) - PART + 1))
            )
        )

    def hidden(self, text: str) -> str:
        """The text with a mark in place of each secret, or part of one."""
        pieces, end = [], -1
        for low, high in sorted(spans for part in self._parts for spans in _places(text, part)):
            if low > end:
                pieces += [text[max(end, 0) : low], HIDDEN]
            end = max(end, high)
        return "".join((*pieces, text[max(end, 0) :]))

    def said(self, text: str) -> str:
        """The text as it may be kept and shown. What is cut off is cut off last: no secret is left in halves."""
        if not text:
            return ""
        text = writable(self.hidden(text[:LOOKED]))
        text = "".join(one if one.isprintable() else " " for one in text).strip()
        return text if len(text) <= LENGTH else text[: LENGTH - 1] + "…"


def writable(text: str) -> str:
    """Half characters (JSON can name them) as what can be encoded: two halves are one again, one alone is a mark."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _places(text: str, part: str) -> Iterator[tuple[int, int]]:
    at = text.find(part)
    while at >= 0:
        yield at, at + len(part)
        at = text.find(part, at + 1)
