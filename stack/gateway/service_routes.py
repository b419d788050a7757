"""Routes of services of one's own: each below its path, with the gateway's keys, limits and headers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from stack.config.services import OwnService
from stack.config.units import mebibytes
from stack.gateway import caddy, headers, limits
from stack.gateway.answers import not_allowed, not_found, route
from stack.gateway.api_routes import Api
from stack.gateway.caddy import Match, Route
from stack.gateway.upstreams import DIAL, FIRST_BYTE
from stack.shape import Endpoint

METHODS: Final = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
CONSUMER: Final = "X-Consumer"  # tells the service who asks

# Only below the gateway's own policies does a page of a service stand; where the chat has the same origin, such a page
# could read what the browser keeps for the chat, so it gets an origin that is nobody's.
ALONE: Final = "frame-ancestors 'none'"
BESIDE_CHAT: Final = f"{ALONE}; sandbox allow-downloads allow-forms allow-popups allow-scripts"

# The cookies of this origin are the chat's: a service neither sees nor sets them. An underscore or a dot is a dash to
# some servers.
_KEPT_BACK: Final = ["Authorization", *headers.KEY_HEADERS, "Cookie", "Upgrade", "X_*", "X.*"]
_KEPT_FROM_CLIENTS: Final = ["Set-Cookie", *(name for name in headers.OURS if name != headers.CSP)]


def address(service: OwnService) -> str:
    """`host:port` on the network that it shares with the gateway."""
    return Endpoint(host=service.name, port=service.port).address


def paths(service: OwnService) -> list[str]:
    """All that leads to it: a prefix matches neither itself nor itself with a / behind."""
    return _all_of(service.path)


def metrics_path(service: OwnService) -> str:
    """Where Prometheus reads a service at the inner listener: it shares no network with it."""
    return f"/services/{service.name}/metrics"


def render(api: Api, services: Sequence[OwnService], *, beside_chat: bool) -> list[Route]:
    """Where each service is; its figures are for the inner listener alone. `beside_chat`: it shares an origin."""
    return [one for service in services for one in _of(api, service, BESIDE_CHAT if beside_chat else ALONE)]


def scrapes(services: Sequence[OwnService]) -> list[Route]:
    """Figures of the services that have them, at the inner listener."""
    return [
        route(
            Match(method=["GET"], llm_path=[metrics_path(service)]),
            caddy.Vars(log_skip=True),
            caddy.Rewrite(uri=service.metrics),
            caddy.ReverseProxy(
                upstreams=[caddy.Upstream(dial=address(service))],
                transport=caddy.Transport(dial_timeout=DIAL, response_header_timeout=DIAL),
                headers=caddy.ProxyHeaders(
                    request=caddy.HeaderOps(delete=["Authorization", "Cookie", "Upgrade", CONSUMER])
                ),
            ),
        )
        for service in services
        if service.metrics
    ]


def gone(services: Sequence[OwnService]) -> list[Route]:
    """What is said while a service cannot be reached."""
    if not services:
        return []
    status = "{http.error.status_code}"
    return [
        route(
            Match(
                vars_regexp={status: {"pattern": "^50[234]$"}},
                llm_path=[path for service in services for path in paths(service)],
            ),
            caddy.LlmError(
                status=status, code="unavailable", message="This service cannot be reached right now. Try again soon."
            ),
        )
    ]


def _all_of(path: str) -> list[str]:
    return [path, f"{path}/", f"{path}/*"]


def _of(api: Api, service: OwnService, policy: str) -> list[Route]:
    body = mebibytes(api.settings.max_body) * 1024 * 1024
    return [
        *([route(Match(llm_path=_all_of(f"{service.path}{service.metrics}")), not_found())] if service.metrics else []),
        route(
            Match(method=METHODS, llm_path=paths(service)),
            limits.services(api.settings.limits) if service.public else api.auth("services"),
            caddy.RequestBody(max_size=body),
            caddy.Rewrite(strip_path_prefix=service.path),
            _proxy(service, policy),
        ),
        route(Match(llm_path=paths(service)), *not_allowed(METHODS)),
    ]


def _proxy(service: OwnService, policy: str) -> caddy.ReverseProxy:
    told = {"X-Forwarded-Prefix": [service.path]}
    if not service.public:
        told[CONSUMER] = ["{http.vars.llm_consumer}"]
    return caddy.ReverseProxy(
        upstreams=[caddy.Upstream(dial=address(service))],
        transport=caddy.Transport(dial_timeout=DIAL, response_header_timeout=FIRST_BYTE),
        headers=caddy.ProxyHeaders(
            request=caddy.HeaderOps(delete=[*_KEPT_BACK, *([CONSUMER] if service.public else [])], set=told),
            response=caddy.HeaderOps(delete=_KEPT_FROM_CLIENTS, add={headers.CSP: [policy]}),
        ),
    )
