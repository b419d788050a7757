"""Requests that real clients have sent: each one must pass. Pure but for reading the files."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.attack.traffic import CRLF, ID

FOLDER: Final = Path(__file__).with_name("good")
_LEFT_OUT: Final = {"content-length", "transfer-encoding", "connection"}


@dataclass(frozen=True, kw_only=True)
class Good:
    """One recorded request; placeholders are still in it."""

    id: str
    source: str
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | None

    def raw(self, values: dict[str, str], mark: bytes) -> bytes:
        """The request as it goes over the wire, for one answer on a connection of its own."""
        upgrade = any(name.lower() == "upgrade" for name, _ in self.headers)
        lines = [f"{self.method} {filled(self.target, values)} HTTP/1.1".encode()]
        lines += [
            f"{name}: {filled(value, values)}".encode()
            for name, value in self.headers
            if name.lower() not in _LEFT_OUT or (upgrade and name.lower() == "connection")
        ]
        if not any(name.lower() == "host" for name, _ in self.headers):
            lines.append(f"Host: {values['host']}".encode())
        lines += [] if upgrade else [b"Connection: close"]
        body = b"" if self.body is None else filled(self.body.decode("latin-1"), values).encode("latin-1")
        if self.body is not None:
            lines.append(b"Content-Length: %d" % len(body))
        return CRLF.join([*lines, ID + b": " + mark, b"", b""]) + body


def filled(text: str, values: dict[str, str]) -> str:
    """The text with `{host}` and the like replaced; other braces stay."""
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def load(folder: Path = FOLDER) -> list[Good]:
    """All recorded requests. Raises ValueError with the file that is not as README.md says."""
    out: list[Good] = []
    for file in sorted(folder.glob("*.json")):
        tree = json.loads(file.read_text())
        try:
            assert tree["version"] == 1, "version is not 1"
            out += [_read(one, tree["source"]) for one in tree["requests"]]
        except (KeyError, TypeError, AssertionError) as trouble:
            raise ValueError(f"{file.name}: not as {folder.name}/README.md says: {trouble!r}") from None
    twice = {one.id for one in out if sum(other.id == one.id for other in out) > 1}
    if twice:
        raise ValueError(f"good requests with the same id: {', '.join(sorted(twice))}")
    return out


def _read(one: dict[str, Any], source: str) -> Good:
    known = {"id", "method", "target", "headers", "body", "body_base64", "note"}
    assert set(one) <= known, f"{one['id']} has {sorted(set(one) - known)}"
    coded = base64.b64decode(one["body_base64"]) if "body_base64" in one else None
    return Good(
        id=one["id"],
        source=source,
        method=one["method"],
        target=one["target"],
        headers=tuple((name, value) for name, value in one["headers"]),
        body=one["body"].encode() if one.get("body") is not None else coded,
    )
