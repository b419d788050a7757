"""The gateway's configuration: which request goes where, and everything else nowhere. Pure.

An allow-list by method and path: Caddy's Caddyfile would sort a deny rule behind the route it should stop, so this is
its native JSON, in which order is order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stack.config import gateway as model
from stack.config.gateway import AdminListener, Exposure
from stack.config.model import Upstream
from stack.config.services import OwnService
from stack.gateway import addresses, admin_routes, caddy, chat_routes, headers, places, service_routes, tls
from stack.gateway.addresses import authority, origin
from stack.gateway.answers import not_found, route
from stack.gateway.api_routes import PATHS, Api
from stack.gateway.caddy import Match, Route
from stack.gateway.upstreams import catalog
from stack.parts import ServedModel


@dataclass(frozen=True, kw_only=True)
class Upstreams:
    """Addresses (`host:port`) of what the gateway forwards to."""

    engines: dict[str, caddy.Engine]
    elsewhere: Sequence[Upstream] = ()
    """Those of the engines that run elsewhere."""
    services: Sequence[OwnService] = ()
    chat: str | None = None
    chat_keys: bool = False
    """Whether the chat UI takes API keys of its own."""
    grafana: str | None = None
    prometheus: str | None = None


def render(settings: model.Gateway, models: tuple[ServedModel, ...], upstreams: Upstreams) -> caddy.Config:
    """The whole Caddy configuration for one environment."""
    api = Api(
        settings=settings,
        catalog=catalog(models),
        engines=upstreams.engines,
        elsewhere=upstreams.elsewhere,
        zone="api",
    )
    certificates, authorities = tls.render(settings)
    servers = {
        "https": _https(settings, api, upstreams),
        "redirect": _server(places.HTTP_PORT, _redirect(settings)),
        "inner": _server(places.INNER_PORT, _inner(replace(api, zone="inner"), upstreams.services)),
    }
    if settings.admin is AdminListener.LOCAL:
        servers["admin"] = _admin(settings, replace(api, zone="admin"), upstreams)
    return caddy.Config(
        logging=_logging(),
        apps=caddy.Apps(
            http=caddy.Http(http_port=places.HTTP_PORT, https_port=places.HTTPS_PORT, servers=servers),
            tls=certificates,
            pki=authorities,
        ),
    )


def _server(
    port: int, routes: list[Route], *, sni: str | None = None, before_errors: Sequence[Route] = ()
) -> caddy.Server:
    security = routes[0].handle[:-1]
    return caddy.Server(
        listen=[f":{port}"],
        routes=routes,
        errors=caddy.ServerErrors(routes=[Route(handle=security), *before_errors, *_error_routes()]),
        tls_connection_policies=[caddy.ConnectionPolicy(default_sni=sni)] if sni else None,
        logs=caddy.ServerLogs(default_logger_name="access"),
    )


def _front(edge: caddy.Edge, *, public: bool = False) -> Route:
    """First on every listener: headers of the answer, whatever it will be, and then nothing comes before the edge."""
    return Route(handle=[*headers.security(public=public), edge])


def _https(settings: model.Gateway, api: Api, upstreams: Upstreams) -> caddy.Server:
    names = addresses.names(settings)
    cors = headers.cors(settings.cors.origins, PATHS)
    hosts = [authority(name, settings.https_port) for name in names]
    edge = caddy.Edge(hosts=hosts, proto="https", trusted_proxies=list(settings.trusted_proxies) or None)
    pages = chat_routes.render(settings, upstreams.chat, own_keys=upstreams.chat_keys) if upstreams.chat else []
    blank = chat_routes.blank(settings) if upstreams.chat else []
    beside_chat = bool(upstreams.chat and {*addresses.api_names(settings)} & {*addresses.chat_names(settings)})
    own = service_routes.render(api, upstreams.services, beside_chat=beside_chat)
    routes = [
        _front(edge, public=settings.exposure is Exposure.PUBLIC),
        *cors,
        *api.health(),
        *_below(addresses.chat_names(settings), names, blank),
        *_below(addresses.api_names(settings), names, [*api.openai(), *api.native()]),
        api.nothing_else(),
        *_below(addresses.api_names(settings), names, own),
        *_below(addresses.chat_names(settings), names, pages),
        Route(handle=[not_found()]),
    ]
    return _server(
        places.HTTPS_PORT,
        routes,
        sni=settings.hostnames[0],
        before_errors=[*cors, *service_routes.gone(upstreams.services)],
    )


def _below(some: list[str], names: list[str], routes: list[Route]) -> list[Route]:
    """These routes under some of the names alone."""
    if not routes or set(some) == set(names):
        return routes
    return [Route(match=[Match(host=some)], handle=[caddy.Subroute(routes=routes)])]


def _inner(api: Api, services: Sequence[OwnService]) -> list[Route]:
    return [
        _front(caddy.Edge(proto="http")),
        # Asked every few seconds: they would be most of the log.
        route(
            Match(method=["GET", "HEAD"], llm_path=["/live"]),
            caddy.Vars(log_skip=True),
            caddy.Static(status_code="200", body="ok"),
        ),
        route(Match(method=["GET"], llm_path=["/metrics"]), caddy.Vars(log_skip=True), caddy.Metrics()),
        *service_routes.scrapes(services),
        *api.openai(),
        Route(handle=[not_found()]),
    ]


def _redirect(settings: model.Gateway) -> list[Route]:
    names = addresses.names(settings)
    return [
        _front(caddy.Edge(hosts=[authority(name, settings.http_port) for name in names], proto="http")),
        *(
            route(
                Match(host=[name]),
                caddy.Static(
                    status_code="308", headers={"Location": [origin(name, settings.https_port) + "{http.request.uri}"]}
                ),
            )
            for name in names
        ),
        Route(handle=[not_found()]),
    ]


def _admin(settings: model.Gateway, api: Api, upstreams: Upstreams) -> caddy.Server:
    hosts = [authority(name, settings.admin_port) for name in addresses.ADMIN]
    pages = admin_routes.render(settings, api, grafana=upstreams.grafana, prometheus=upstreams.prometheus)
    return _server(places.ADMIN_PORT, [_front(caddy.Edge(hosts=hosts, proto="https")), *pages], sni=addresses.ADMIN[0])


def _error_routes() -> list[Route]:
    """Failures of handlers (an upstream that is gone, a body too large) in the same shape as every other error."""
    status = "{http.error.status_code}"
    gone = caddy.LlmError(
        status=status, code="unavailable", message="The chat cannot be reached right now. Try again soon."
    )
    return [
        route(
            Match(vars_regexp={status: {"pattern": "^50[234]$"}}, negate=[Match(llm_path=PATHS)]),
            gone,
        ),
        Route(handle=[caddy.LlmError(status=status)]),
    ]


def _logging() -> caddy.Logging:
    # Caddy hides Authorization and Cookie only, and takes the request as it came: keys in other headers or in the query
    # would stand in the log.
    silent = {
        "format": "filter",
        "wrap": {"format": "json"},
        "fields": {
            "request>headers": {"filter": "delete"},
            "resp_headers": {"filter": "delete"},
            "request>uri": {"filter": "regexp", "regexp": r"\?.*", "value": "?…"},
        },
    }
    return caddy.Logging(
        logs={
            "default": caddy.Log(exclude=["http.log.access.access"], encoder=silent),
            "access": caddy.Log(include=["http.log.access.access"], encoder=silent),
        }
    )
