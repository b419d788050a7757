"""What a browser sent, as good requests for the attack suite (tests/attack/good/README.md): without any secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from tests.support.live.browser import Browser

_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_LEFT_OUT: Final = {"host", "content-length", "connection", "accept-encoding"}
_STATIC_PER_FOLDER: Final = 3  # of hundreds that differ in their names alone


def good_requests(browser: Browser, secrets: Mapping[str, str]) -> list[dict[str, Any]]:
    """Each kind of request once, in the order it was first sent. `secrets`: text -> what stands for it.

    Raises AssertionError when a secret is left.
    """
    kept: dict[str, dict[str, Any]] = {}
    folders: dict[str, int] = {}
    token = ""
    for sent in browser.wire.values():
        if "request" not in sent or "headers" not in {*sent, *sent["request"]}:
            continue
        url = sent.get("url", sent["request"].get("url", "")).replace("wss://", "https://")
        if not url.startswith(browser.url):
            continue
        headers = sent.get("headers") or sent["request"]["headers"]
        row = _row(url.removeprefix(browser.url), sent["request"], headers)
        if (found := headers.get("authorization", "")).startswith("Bearer "):
            token = found.removeprefix("Bearer ")
        path = _ID.sub("id", row["target"].partition("?")[0])
        if sent.get("type") not in {"Document", "Fetch", "XHR", None}:
            folder = path.rpartition("/")[0]
            folders[folder] = folders.get(folder, 0) + 1
            if folders[folder] > _STATIC_PER_FOLDER:
                continue
        kept.setdefault(_name(row["method"], path), row)
    words = {
        **({token: "{session}"} if token else {}),
        **secrets,
        browser.url: "{origin}",
        browser.url.partition("://")[2]: "{host}",
    }
    rows = [{"id": name, **_replaced(row, words)} for name, row in kept.items()]
    left = [row["id"] for row in rows for word in words if word in str(row)]
    assert not left, f"a secret is left in {left}"
    return rows


def _name(method: str, path: str) -> str:
    words = re.sub(r"[^A-Za-z0-9]+", "-", path).strip("-") or "page"
    return f"browser-{method.lower()}-{words}"


def _row(target: str, request: Mapping[str, Any], sent: Mapping[str, str]) -> dict[str, Any]:
    """HTTP/1.1's `Host` for HTTP/2's `:authority`; a socket's handshake keeps its `Connection`."""
    socket = any(name.lower() == "upgrade" for name in sent)
    headers = [
        [name, value]
        for name, value in sent.items()
        if not name.startswith(":") and name.lower() not in (_LEFT_OUT - {"connection"} if socket else _LEFT_OUT)
    ]
    row: dict[str, Any] = {
        "method": request.get("method", "GET"),
        "target": target,
        "headers": [["Host", "{host}"], *headers],
    }
    kind = next((value for name, value in sent.items() if name.lower() == "content-type"), "")
    if boundary := re.match(r"multipart/form-data; boundary=(\S+)", kind):
        # The browser does not show what it reads from files.
        part = 'Content-Disposition: form-data; name="file"; filename="note.txt"\r\nContent-Type: text/plain'
        row["body"] = f"--{boundary[1]}\r\n{part}\r\n\r\nA note.\r\n--{boundary[1]}--\r\n"
    elif "postData" in request:
        row["body"] = request["postData"]
    return row


def _replaced(value: Any, words: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(inner, words) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replaced(inner, words) for inner in value]
    for word, placeholder in words.items():
        value = value.replace(word, placeholder)
    return value
