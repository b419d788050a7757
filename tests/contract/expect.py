"""What every answer of the gateway keeps, whoever gave it."""

from __future__ import annotations

from typing import Final

import requests

from tests.contract.target import Answer

SECURE: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "X-XSS-Protection": "0",
}
TELLING: Final = ("Server", "Via", "X-Powered-By")
TYPES: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def hardened(answer: requests.Response | Answer) -> None:
    """The security headers are there, and nothing tells what stands behind."""
    assert {name: answer.headers.get(name) for name in SECURE} == SECURE
    assert "frame-ancestors 'none'" in answer.headers.get("Content-Security-Policy", "")
    assert [name for name in TELLING if answer.headers.get(name)] == []


def refused(answer: requests.Response | Answer, status: int, code: str | None = None) -> dict[str, str]:
    """An error that a client of OpenAI's API can read; returns it."""
    got = answer.status if isinstance(answer, Answer) else answer.status_code
    body = answer.body if isinstance(answer, Answer) else answer.content
    assert got == status, f"{got} instead of {status}: {body[:400]!r}"
    assert answer.headers.get("Content-Type") == "application/json", body[:400]
    assert "no-store" in answer.headers.get("Cache-Control", "")
    error: dict[str, str] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].strip()
    assert error["type"] == TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    if code:
        assert error["code"] == code, error
    if status == 429:
        assert int(answer.headers["Retry-After"]) >= 1
    hardened(answer)
    return error
