"""Which of the chat UI's own routes may be reached. Pure.

An allow-list, since Open WebUI answers 200 to any unknown path.
"""

from __future__ import annotations

from typing import Final

from stack.config import gateway as model
from stack.config.units import mebibytes
from stack.gateway import caddy
from stack.gateway.addresses import origins
from stack.gateway.caddy import Match, Route

ALL_METHODS: Final = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]

# Pages and files of the single-page application.
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
    "/_app/*",
    "/static/*",
    "/assets/*",
    "/favicon.png",
    "/favicon.ico",
    "/manifest.json",
    "/opensearch.xml",
    "/cache/*",
    "/wasm/*",
    "/pyodide/*",
    "/themes/*",
    "/audio/*",
    "/sw.js",
    "/service-worker.js",
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

SOCKET: Final = "/ws/*"


# Where API clients put keys: the chat UI knows its own cookie and sign-in token only.
KEY_HEADERS: Final = ["X-Api-Key", "Api-Key", "*-Api-Key", "*-Auth-Token", "*-Access-Token", "Proxy-Authorization"]


def render(settings: model.Gateway, upstream: str, *, own_keys: bool) -> list[Route]:
    """Routes of the chat UI; requests that match none of them fall through to 404.

    A key of the gateway is refused here. `own_keys`: the chat UI has API keys itself, which look the same.
    """
    refused = caddy.LlmError(
        status=401, code="wrong_credential", message="API keys are for /v1. The chat has a sign-in of its own."
    )
    everything = [SOCKET, *PAGES, *LISTS, *DATA]
    keys = ["Basic *"] if own_keys else ["Basic *", "Bearer sk-*"]
    body = caddy.RequestBody(max_size=mebibytes(settings.max_upload) * 1024 * 1024)
    return [
        Route(match=[Match(path=everything, header={"Authorization": keys})], handle=[refused], terminal=True),
        Route(
            match=[
                Match(path=[SOCKET], header={"Origin": origins(settings)}),
                Match(path=[SOCKET], negate=[Match(header={"Origin": ["*"]})]),
            ],
            handle=[_proxy(upstream, upgrade=True)],
            terminal=True,
        ),
        Route(match=[Match(method=["GET", "HEAD"], path=[*PAGES, *LISTS])], handle=[_proxy(upstream)], terminal=True),
        Route(match=[Match(method=ALL_METHODS, path=DATA)], handle=[body, _proxy(upstream)], terminal=True),
    ]


def _proxy(upstream: str, *, upgrade: bool = False) -> caddy.ReverseProxy:
    return caddy.ReverseProxy(
        upstreams=[caddy.Upstream(dial=upstream)],
        transport=caddy.Transport(dial_timeout="5s"),
        headers=caddy.ProxyHeaders(
            request=caddy.HeaderOps(delete=KEY_HEADERS if upgrade else [*KEY_HEADERS, "Upgrade"])
        ),
        stream_close_delay="30s" if upgrade else None,
    )
