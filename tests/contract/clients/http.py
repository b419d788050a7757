"""HTTP/2 and HTTP/1.1 by a plain client, chosen by TLS' own negotiation."""

from __future__ import annotations

import asyncio
import time

import httpx

from clients.given import KEY, OWN, URL, on_fakes

SENT = {"Authorization": f"Bearer {KEY}"}
HELLO = {"model": "default", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 16}


def _client(*, http2: bool) -> httpx.Client:
    """Paced where the gateway is not the suite's own."""
    return httpx.Client(http2=http2, headers=SENT, event_hooks={"request": [lambda _: time.sleep(0 if OWN else 0.25)]})


def speaks_http_2() -> None:
    with _client(http2=True) as client:
        answer = client.get(f"{URL}/v1/models")
        assert (answer.status_code, answer.http_version) == (200, "HTTP/2")


def speaks_http_1_1() -> None:
    with _client(http2=False) as client:
        answer = client.get(f"{URL}/v1/models")
        assert (answer.status_code, answer.http_version) == (200, "HTTP/1.1")


def refuses_over_http_2_as_over_http_1_1() -> None:
    with _client(http2=True) as client:
        answer = client.get(f"{URL}/v1/files")
        assert (answer.status_code, answer.http_version) == (404, "HTTP/2")
        assert answer.json()["error"]["code"] == "not_found"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert client.get(f"{URL}/v1/models", headers={"Host": "evil.example"}).status_code == 421


def streams_over_http_2() -> None:
    with _client(http2=True) as client:
        with client.stream("POST", f"{URL}/v1/chat/completions", json=HELLO | {"stream": True}) as answer:
            lines = [line for line in answer.iter_lines() if line]
        assert answer.http_version == "HTTP/2"
        assert lines[-1] == "data: [DONE]"


@on_fakes
def runs_many_streams_on_one_connection() -> None:
    async def main() -> None:
        async with httpx.AsyncClient(http2=True, headers=SENT) as client:
            asked = [client.post(f"{URL}/v1/chat/completions", json=HELLO) for _ in range(16)]
            answers = await asyncio.gather(*asked)
        assert {(answer.status_code, answer.http_version) for answer in answers} == {(200, "HTTP/2")}

    asyncio.run(main())
