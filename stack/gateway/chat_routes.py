"""Which of the chat UI's own routes may be reached. Pure.

An allow-list, since Open WebUI answers 200 to any unknown path.
"""

from __future__ import annotations

from typing import Final

from stack.config import gateway as model
from stack.config.units import mebibytes
from stack.gateway import caddy, headers, limits
from stack.gateway.addresses import origins
from stack.gateway.answers import error, not_allowed, route
from stack.gateway.caddy import Match, Route

READ: Final = ["GET", "HEAD"]
ALL_METHODS: Final = [*READ, "POST", "PUT", "PATCH", "DELETE"]

# What the browser may load for the chat's pages: from the gateway itself, and nothing frames them. Their scripts and
# styles stand in the pages in part, they draw into blobs, and run WebAssembly (speech, Python in the browser).
CSP: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; frame-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)

# Files of the single-page application, the same for everybody: a cold page load takes hundreds of them, so they are not
# counted.
STATIC: Final = [
    "/_app/*",
    "/static/*",
    "/assets/*",
    "/favicon.png",
    "/favicon.ico",
    "/manifest.json",
    "/opensearch.xml",
    "/wasm/*",
    "/pyodide/*",
    "/themes/*",
    "/audio/*",
    "/sw.js",
    "/service-worker.js",
]

# Pages of the single-page application.
PAGES: Final = [
    "/",
    "/auth",
    "/c/*",
    "/s/*",
    "/home",
    "/home/*",
    "/channels/*",
    "/folders/*",
    "/notes",
    "/notes/*",
    "/workspace",
    "/workspace/*",
    "/playground",
    "/playground/*",
    "/admin",
    "/admin/*",
    "/error",
    "/watch",
    "/cache/*",
]

# Data of the application. Not among them, on purpose: functions, pipelines, tools and skills (they run code on the
# server), scim, the proxies to engines (/ollama, /openai), /docs and /openapi.json.
DATA: Final = [
    "/api/config",
    "/api/version",
    "/api/version/updates",
    "/api/changelog",
    "/api/usage",
    "/api/models",
    "/api/models/base",
    "/api/chat/completions",
    "/api/chat/completed",
    "/api/chat/actions/*",
    "/api/tasks",
    "/api/tasks/*",
    "/api/v1/auths/*",
    "/api/v1/users/*",
    "/api/v1/users",
    "/api/v1/chats/*",
    "/api/v1/chats",
    "/api/v1/channels/*",
    "/api/v1/notes/*",
    "/api/v1/models/*",
    "/api/v1/models",
    "/api/v1/knowledge/*",
    "/api/v1/prompts/*",
    "/api/v1/memories/*",
    "/api/v1/folders/*",
    "/api/v1/groups/*",
    "/api/v1/files/*",
    "/api/v1/files",
    "/api/v1/retrieval/*",
    "/api/v1/tasks/*",
    "/api/v1/configs/*",
    "/api/v1/evaluations/*",
    "/api/v1/utils/*",
    "/api/v1/analytics/*",
    "/api/v1/audio/config",
    "/api/v1/images/config",
]

# Lists that its pages ask for at every start. Reading them is harmless and refusing shows as errors; making or changing
# what is in them would run code on the server, and stays refused.
LISTS: Final = [
    *(f"/api/v1/{kind}/{end}" for kind in ("tools", "functions", "skills") for end in ("", "list")),
    "/api/v1/terminals/",
    "/api/events",
    "/api/events/webhooks",
]

# Where a password is tried, or an account made.
SIGN_IN: Final = [
    "/api/v1/auths/signin",
    "/api/v1/auths/signup",
    "/api/v1/auths/ldap",
    "/api/v1/auths/update/password",
]

SOCKET: Final = "/ws/*"


# Where API clients put keys: the chat UI knows its own cookie and sign-in token only.
KEY_HEADERS: Final = ["X-Api-Key", "Api-Key", "*-Api-Key", "*-Auth-Token", "*-Access-Token", "Proxy-Authorization"]


def render(settings: model.Gateway, upstream: str, *, own_keys: bool) -> list[Route]:
    """Routes of the chat UI; requests that match none of them fall through to 404.

    A key of the gateway is refused here. `own_keys`: the chat UI has API keys itself, which look the same.
    """
    refused = error(401, "wrong_credential", "API keys are for /v1. The chat has a sign-in of its own.")
    everything = [SOCKET, *STATIC, *PAGES, *LISTS, *DATA]
    keys = ["Basic *"] if own_keys else ["Basic *", "Bearer sk-*"]
    body = caddy.RequestBody(max_size=mebibytes(settings.max_upload) * 1024 * 1024)
    limit = limits.pages(settings.limits)
    pages: tuple[caddy.Headers, caddy.ReverseProxy] = (headers.policy(CSP), _proxy(upstream))
    return [
        route(Match(llm_path=everything, header={"Authorization": keys}), refused),
        *_socket(settings, upstream, limit),
        route(Match(method=READ, llm_path=STATIC), *pages),
        route(Match(method=READ, llm_path=[*PAGES, *LISTS]), limit, *pages),
        route(Match(method=["POST"], llm_path=SIGN_IN), limits.sign_in(settings.limits), body, *pages),
        route(Match(method=ALL_METHODS, llm_path=DATA), limit, body, *pages),
        route(Match(llm_path=[*STATIC, *PAGES, *LISTS]), *not_allowed(READ)),
        route(Match(llm_path=DATA), *not_allowed(ALL_METHODS)),
    ]


def _socket(settings: model.Gateway, upstream: str, limit: caddy.Limit) -> list[Route]:
    """The chat's socket, for its own pages alone: a browser says which page asks, and other programs need none."""
    ours: dict[str, list[str] | None] = {"Origin": list(origins(settings))}
    upgrade: dict[str, list[str] | None] = {**ours, "Upgrade": ["websocket", "WebSocket"]}
    # Where sockets are shut off, its pages ask again and again instead; a GET of their own then names no origin.
    polls: dict[str, list[str] | None] = {"Upgrade": None}
    return [
        route(Match(method=["GET"], llm_path=[SOCKET], header=upgrade), limit, _proxy(upstream, upgrade=True)),
        Route(
            match=[
                Match(method=["GET", "POST"], llm_path=[SOCKET], header={**polls, **ours}),
                Match(method=["GET"], llm_path=[SOCKET], header={**polls, "Origin": None}),
            ],
            handle=[limit, _proxy(upstream)],
            terminal=True,
        ),
        route(
            Match(method=["GET", "POST"], llm_path=[SOCKET]),
            error(403, "origin_not_allowed", "Only the chat's own pages may open its socket."),
        ),
        route(Match(llm_path=[SOCKET]), *not_allowed(["GET", "POST"])),
    ]


def _proxy(upstream: str, *, upgrade: bool = False) -> caddy.ReverseProxy:
    return caddy.ReverseProxy(
        upstreams=[caddy.Upstream(dial=upstream)],
        transport=caddy.Transport(dial_timeout="5s"),
        headers=caddy.ProxyHeaders(
            request=caddy.HeaderOps(delete=KEY_HEADERS if upgrade else [*KEY_HEADERS, "Upgrade"]),
            response=caddy.HeaderOps(delete=headers.OURS),
        ),
        stream_close_delay="30s" if upgrade else None,
    )
