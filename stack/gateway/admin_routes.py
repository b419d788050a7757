"""The listener for administrators, on this machine alone: Grafana and Prometheus, for keys of scope `admin`. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from stack.config import gateway as model
from stack.config.gateway import AdminListener
from stack.gateway import caddy, headers
from stack.gateway.addresses import ADMIN, origin
from stack.gateway.answers import error, not_found, route
from stack.gateway.api_routes import Api
from stack.gateway.caddy import Match, Route
from stack.gateway.upstreams import DIAL

GRAFANA: Final = "/grafana"
PROMETHEUS: Final = "/prometheus"

# A browser sends this machine's cookies to all its ports, the chat's too; Grafana has one of its own, Prometheus none.
_KEPT_BACK: Final = ["Authorization", "Upgrade"]

# Their pages run scripts that stand in the page itself; nothing comes from elsewhere, and nobody frames them.
CSP: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)


def render(settings: model.Gateway, api: Api, *, grafana: str | None, prometheus: str | None) -> list[Route]:
    """The pages that are there; a browser signs in by Basic with a consumer's name and key."""
    sites: list[str] = [origin(name, settings.admin_port) for name in ADMIN]
    foreign = error(403, "origin_not_allowed", "Pages of other sites may not do this.")
    auth = api.auth("admin").model_copy(update={"keep_cookies": True})
    first = GRAFANA if grafana else PROMETHEUS
    return [
        # A browser that has signed in sends the password along with whatever another site's page asks for.
        route(Match(header={"Origin": ["*"]}, negate=[Match(header={"Origin": list(sites)})]), foreign),
        route(Match(header={"Sec-Fetch-Site": ["cross-site"]}, negate=[Match(method=["GET", "HEAD"])]), foreign),
        route(Match(llm_path=["/"]), caddy.Static(status_code="302", headers={"Location": [f"{first}/"]})),
        *(_pages(GRAFANA, grafana, auth, _KEPT_BACK, keep_path=True) if grafana else []),
        *(_pages(PROMETHEUS, prometheus, auth, [*_KEPT_BACK, "Cookie"], keep_path=False) if prometheus else []),
        Route(handle=[not_found()]),
    ]


def shown(settings: model.Gateway, pages: Iterable[str]) -> dict[str, str]:
    """Name of each page -> where the listener shows it, without a `/` at the end."""
    if settings.admin is not AdminListener.LOCAL:
        return {}
    here = origin(ADMIN[0], settings.admin_port)
    paths = {"grafana": GRAFANA, "prometheus": PROMETHEUS}
    return {name: f"{here}{paths[name]}" for name in pages}


def _pages(path: str, upstream: str, auth: caddy.Auth, kept_back: list[str], *, keep_path: bool) -> list[Route]:
    strip = [] if keep_path else [caddy.Rewrite(strip_path_prefix=path)]
    proxy = caddy.ReverseProxy(
        upstreams=[caddy.Upstream(dial=upstream)],
        transport=caddy.Transport(dial_timeout=DIAL),
        headers=caddy.ProxyHeaders(
            request=caddy.HeaderOps(delete=kept_back), response=caddy.HeaderOps(delete=headers.OURS)
        ),
    )
    return [
        route(Match(llm_path=[path]), caddy.Static(status_code="302", headers={"Location": [f"{path}/"]})),
        route(Match(llm_path=[f"{path}/", f"{path}/*"]), auth, headers.policy(CSP), *strip, proxy),
    ]
