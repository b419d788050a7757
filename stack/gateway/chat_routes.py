"""Routes of the chat UI: what its table allows, for its own pages, counted by address. Pure."""

from __future__ import annotations

import json
from typing import Final

from stack.config import gateway as model
from stack.config.units import mebibytes
from stack.gateway import caddy, chat_table, headers, limits
from stack.gateway.addresses import origins
from stack.gateway.answers import error, not_allowed, route
from stack.gateway.caddy import Match, Route

READ: Final = ["GET", "HEAD"]

# What the browser may load for the chat's pages: from the gateway itself, and nothing frames them. `'self'` covers the
# socket (wss) too. Each word beyond that opens something that Open WebUI does:
_POLICY: Final = {
    "default-src": "'self'",
    # Inline: the start of each page stands in it, and other versions have other hashes. WebAssembly: Python and speech
    # in the browser. Blobs: scripts that these make for themselves.
    "script-src": "'self' 'unsafe-inline' 'wasm-unsafe-eval' blob:",
    "worker-src": "'self' blob:",
    "style-src": "'self' 'unsafe-inline'",  # drawn elements carry their place and colour
    # Pictures, sounds and letters that the page makes or that stand in a chat.
    "img-src": "'self' data: blob:",
    "media-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "connect-src": "'self' data: blob:",  # it reads its own blobs back by a request
    "frame-src": "'self' blob:",  # documents and drawings are shown in frames of its own
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
CSP: Final = "; ".join(f"{name} {sources}" for name, sources in _POLICY.items())

# Credentials that are not the chat's own: all but a lone Bearer token (pages that have none send the bare word), and
# that too with a key of ours. Patterns have no "not" here, and one that says what is right would take a second
# Authorization header along with a right one.
_NOT_BEARER: Final = "|".join(f"{'bearer'[:at]}([^{letter}]|$)" for at, letter in enumerate("bearer"))
FOREIGN: Final = rf"(?i)^({_NOT_BEARER}|bearer[^ ]|bearer .*[\s,;])"
FOREIGN_OR_KEY: Final = rf"{FOREIGN}|(^|[\s,;=])sk-"


def render(settings: model.Gateway, upstream: str, *, own_keys: bool) -> list[Route]:
    """Routes of the chat UI; requests that match none of them fall through to 404.

    Credentials that are not the chat's own are refused here. `own_keys`: it has API keys itself, which look like ours.
    """
    refused = error(401, "wrong_credential", "API keys are for /v1. The chat has a sign-in of its own.")
    data = chat_table.data()
    static, pages = list(chat_table.STATIC), list(chat_table.PAGES)
    everything = [
        chat_table.SOCKET,
        *static,
        *pages,
        *chat_table.BLANK,
        *(path for paths in data.values() for path in paths),
    ]
    foreign = {"Authorization": {"pattern": FOREIGN if own_keys else FOREIGN_OR_KEY}}
    body = caddy.RequestBody(max_size=mebibytes(settings.max_upload) * 1024 * 1024)
    limit, reads = limits.pages(settings.limits), limits.reads(settings.limits)
    answer: tuple[caddy.Headers, caddy.ReverseProxy] = (headers.policy(CSP), _proxy(upstream))
    return [
        route(Match(llm_path=everything, header_regexp=foreign), refused),
        *_socket(settings, upstream, limit),
        route(Match(method=READ, llm_path=static), limits.static(), *answer),
        route(Match(method=READ, llm_path=pages), limit, *answer),
        route(
            Match(method=["POST"], llm_path=list(chat_table.SIGN_IN)), limits.sign_in(settings.limits), body, *answer
        ),
        *(
            route(Match(method=["GET"], llm_path=paths), reads, *answer)
            for methods, paths in data.items()
            if "GET" in methods
        ),
        *(
            route(Match(method=changing, llm_path=paths), limit, body, *answer)
            for methods, paths in data.items()
            if (changing := [method for method in methods if method != "GET"])
        ),
        route(Match(llm_path=[*static, *pages, *chat_table.BLANK]), *not_allowed(READ)),
        *(route(Match(llm_path=paths), *not_allowed(list(methods))) for methods, paths in data.items()),
    ]


def blank(settings: model.Gateway) -> list[Route]:
    """What the gateway answers itself to the chat's pages; before the API, as it has some of these paths."""
    return [
        route(
            Match(method=READ, llm_path=[path]),
            limits.reads(settings.limits),
            caddy.Static(status_code="200", headers={"Content-Type": ["application/json"]}, body=json.dumps(content)),
        )
        for path, content in chat_table.BLANK.items()
    ]


def _socket(settings: model.Gateway, upstream: str, limit: caddy.Limit) -> list[Route]:
    """The chat's socket, for its own pages alone: a browser says which page asks, and other programs need none."""
    ours: dict[str, list[str] | None] = {"Origin": list(origins(settings))}
    upgrade: dict[str, list[str] | None] = {**ours, "Upgrade": ["websocket", "WebSocket"]}
    # Where sockets are shut off, its pages ask again and again instead; a GET of their own then names no origin.
    polls: dict[str, list[str] | None] = {"Upgrade": None}
    return [
        route(
            Match(method=["GET"], llm_path=[chat_table.SOCKET], header=upgrade), limit, _proxy(upstream, upgrade=True)
        ),
        Route(
            match=[
                Match(method=["GET", "POST"], llm_path=[chat_table.SOCKET], header={**polls, **ours}),
                Match(method=["GET"], llm_path=[chat_table.SOCKET], header={**polls, "Origin": None}),
            ],
            handle=[limit, _proxy(upstream)],
            terminal=True,
        ),
        route(
            Match(method=["GET", "POST"], llm_path=[chat_table.SOCKET]),
            error(403, "origin_not_allowed", "Only the chat's own pages may open its socket."),
        ),
        route(Match(llm_path=[chat_table.SOCKET]), *not_allowed(["GET", "POST"])),
    ]


def _proxy(upstream: str, *, upgrade: bool = False) -> caddy.ReverseProxy:
    return caddy.ReverseProxy(
        upstreams=[caddy.Upstream(dial=upstream)],
        transport=caddy.Transport(dial_timeout="5s"),
        headers=caddy.ProxyHeaders(
            request=caddy.HeaderOps(delete=headers.KEY_HEADERS if upgrade else [*headers.KEY_HEADERS, "Upgrade"]),
            response=caddy.HeaderOps(delete=headers.OURS),
        ),
        stream_close_delay="30s" if upgrade else None,
    )
