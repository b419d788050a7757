"""The gateway's configuration: which request goes where, and everything else nowhere. Pure.

An allow-list by method and path: Caddy's Caddyfile would sort a deny rule behind the route it should stop, so this is
its native JSON, in which order is order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from stack.config import gateway as model
from stack.config.units import mebibytes
from stack.gateway import caddy, chat_routes
from stack.gateway.addresses import origin
from stack.gateway.caddy import Match, Route
from stack.parts import ServedModel

HTTPS_PORT: Final = 8443  # inside the container
HTTP_PORT: Final = 8080
INNER_PORT: Final = 8081  # never published: the chat's models, /live and /metrics
REALM: Final = "private-llm"

CONFIG_FOLDER: Final = "/etc/caddy"
CONFIG_FILE: Final = "caddy.json"
CONSUMERS_FOLDER: Final = "/run/consumers"
CONSUMERS_FILE: Final = "consumers.json"
CA_FOLDER: Final = "/etc/gateway-ca"
CA_FILE: Final = "root.crt"
CA_KEY_FOLDER: Final = "/run/gateway-ca-key"
CA_KEY_FILE: Final = "root.key"
AUTHORITY: Final = "private-llm"

# Seen in the raw request line, before any cleaning: a path that reads differently to us and to an upstream.
_ODD_PATH: Final = r"^[^?]*(//|\\|;|%2[eEfF5]|%5[cC]|%00|%3[bB]|/\.{1,2}(/|\?|$))"

# An upstream sees its own name: what the client called us has no say behind the gateway.
UPSTREAM_HOST: Final = "{http.reverse_proxy.upstream.hostport}"

# Longest wait for an answer to begin (a model may have to load and others to finish), and for an upstream to accept.
FIRST_BYTE: Final = "10m"
DIAL: Final = "5s"

# Claims about who or where a client is: only the gateway knows. Dots too: they become dashes behind some servers.
_FORGED: Final = [
    "Forwarded",
    "X-Real-Ip",
    "True-Client-Ip",
    "X-Original-*",
    "X-Rewrite-*",
    "X-Http-Method*",
    "X-Forwarded-Email",
    "X-Forwarded-User*",
    "X-Forwarded-Groups",
    "X-Forwarded-Preferred-Username",
    "X-Webauth-*",
    "X-Auth-Request-*",
    "Remote-*",
    "Remote.*",
    "X.*",
    "Tailscale-*",
    "Tailscale.*",
]


@dataclass(frozen=True, kw_only=True)
class Upstreams:
    """Addresses (`host:port`) of what the gateway forwards to."""

    engine: str
    chat: str | None
    chat_keys: bool = False
    """Whether the chat UI takes API keys of its own."""


def render(settings: model.Gateway, models: tuple[ServedModel, ...], upstreams: Upstreams) -> caddy.Config:
    """The whole Caddy configuration for one environment."""
    catalog = [
        caddy.CatalogModel(
            id=served.name,
            engine="ollama",
            upstream_name=served.name,
            role=str(served.role),
            aliases=list(served.aliases),
        )
        for served in models
    ]
    api = _Api(settings=settings, catalog=catalog, engines={"ollama": caddy.Engine(dial=upstreams.engine)})
    names = [*settings.hostnames, settings.address]
    return caddy.Config(
        logging=_logging(),
        apps=caddy.Apps(
            http=caddy.Http(
                servers={
                    "https": caddy.Server(
                        listen=[f":{HTTPS_PORT}"],
                        routes=_outer(settings, api, upstreams),
                        errors=caddy.ServerErrors(routes=[_security_headers(), *_error_routes()]),
                        tls_connection_policies=[caddy.ConnectionPolicy(default_sni=settings.hostnames[0])],
                        logs=caddy.ServerLogs(default_logger_name="access"),
                    ),
                    "redirect": caddy.Server(listen=[f":{HTTP_PORT}"], routes=_redirect(settings)),
                    "inner": caddy.Server(
                        listen=[f":{INNER_PORT}"],
                        routes=_inner(api),
                        errors=caddy.ServerErrors(routes=_error_routes()),
                        logs=caddy.ServerLogs(default_logger_name="access"),
                    ),
                }
            ),
            tls=caddy.Tls(
                certificates={"automate": names},
                automation=caddy.Automation(
                    policies=[caddy.AutomationPolicy(subjects=names, issuers=[caddy.InternalIssuer(ca=AUTHORITY)])]
                ),
            ),
            pki=caddy.Pki(
                certificate_authorities={
                    AUTHORITY: caddy.Authority(
                        name="Private LLM",
                        root=caddy.RootKeyPair(
                            certificate=f"{CA_FOLDER}/{CA_FILE}", private_key=f"{CA_KEY_FOLDER}/{CA_KEY_FILE}"
                        ),
                    )
                }
            ),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class _Api:
    """The model API, the same on both listeners."""

    settings: model.Gateway
    catalog: list[caddy.CatalogModel]
    engines: dict[str, caddy.Engine]

    def openai(self) -> list[Route]:
        """OpenAI's API below /v1."""
        return [
            _route(
                Match(method=["GET", "HEAD"], path=["/v1/models", "/v1/models/*"]),
                self._auth(None),
                caddy.LlmModels(models=self.catalog),
            ),
            self._forward(["/v1/chat/completions", "/v1/completions", "/v1/responses"], "chat"),
            self._forward(["/v1/embeddings"], "embeddings"),
            _route(
                Match(path=["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"]),
                _not_allowed(),
            ),
        ]

    def native(self) -> list[Route]:
        """Ollama's own API below /ollama: inference only, never model management."""
        strip = caddy.Rewrite(strip_path_prefix="/ollama")
        return [
            self._forward(
                [f"/ollama/api/{name}" for name in ("chat", "generate", "embed", "embeddings")], "native", strip
            ),
            _route(
                Match(method=["GET", "HEAD"], path=[f"/ollama/api/{name}" for name in ("tags", "ps", "version")]),
                self._auth("native"),
                strip,
                _proxy(self.engines["ollama"].dial),
            ),
        ]

    def health(self) -> Route:
        """Open to everybody, and tells nothing but yes or no."""
        return _route(
            Match(method=["GET", "HEAD"], path=["/health"]),
            caddy.LlmHealth(engines=self.engines, models=self.catalog),
        )

    def _auth(self, scope: str | None) -> caddy.Auth:
        return caddy.Auth(consumers_file=f"{CONSUMERS_FOLDER}/{CONSUMERS_FILE}", realm=REALM, scope=scope)

    def _forward(self, paths: list[str], scope: str, *before: caddy.Rewrite) -> Route:
        return _route(
            Match(method=["POST"], path=paths),
            self._auth(scope),
            *before,
            caddy.Llm(
                engines=self.engines, models=self.catalog, max_body=mebibytes(self.settings.max_body) * 1024 * 1024
            ),
            _proxy("{http.vars.llm_upstream}"),
        )


def _plain() -> list[Route]:
    """What no listener takes: odd paths are refused, forged identities removed."""
    return [
        _route(
            Match(vars_regexp={"{http.request.uri}": {"pattern": _ODD_PATH}}),
            _error(400, "invalid_path", "The path is not in its plain form."),
        ),
        Route(handle=[caddy.Headers(request=caddy.HeaderOps(delete=_FORGED))]),
    ]


def _outer(settings: model.Gateway, api: _Api, upstreams: Upstreams) -> list[Route]:
    hosts = Match(host=[*settings.hostnames, settings.address])
    return [
        _security_headers(),
        _route(
            Match(negate=[hosts]), _error(421, "misdirected_request", "This gateway does not answer to that host name.")
        ),
        *_plain(),
        api.health(),
        *api.openai(),
        *api.native(),
        _route(Match(path=["/v1", "/v1/*", "/ollama", "/ollama/*", "/live", "/metrics"]), _not_found()),
        *(chat_routes.render(settings, upstreams.chat, own_keys=upstreams.chat_keys) if upstreams.chat else []),
        Route(handle=[_not_found()]),
    ]


def _inner(api: _Api) -> list[Route]:
    return [
        *_plain(),
        # Asked every few seconds: they would be most of the log.
        _route(
            Match(method=["GET", "HEAD"], path=["/live"]), caddy.Unlogged(), caddy.Static(status_code="200", body="ok")
        ),
        _route(Match(method=["GET"], path=["/metrics"]), caddy.Unlogged(), caddy.Metrics()),
        *api.openai(),
        Route(handle=[_not_found()]),
    ]


def _redirect(settings: model.Gateway) -> list[Route]:
    where = origin(settings.hostnames[0], settings.https_port)
    return [
        Route(
            handle=[
                caddy.Static(status_code="308", headers={"Location": [where + "{http.request.uri}"], "Server": []})
            ],
        )
    ]


def _security_headers() -> Route:
    return Route(
        handle=[
            caddy.Headers(
                response=caddy.HeaderOps(
                    deferred=True,
                    set={
                        "X-Content-Type-Options": ["nosniff"],
                        "X-Frame-Options": ["DENY"],
                        "Referrer-Policy": ["strict-origin-when-cross-origin"],
                    },
                    delete=["Server", "Via", "X-Powered-By", "Access-Control-*"],
                )
            )
        ]
    )


def _error_routes() -> list[Route]:
    """Failures of handlers (an upstream that is gone, a body too large) in the same shape as every other error."""
    status = "{http.error.status_code}"
    gone = caddy.LlmError(
        status=status, code="unavailable", message="The chat cannot be reached right now. Try again soon."
    )
    return [
        _route(
            Match(
                vars_regexp={status: {"pattern": "^50[234]$"}},
                negate=[Match(path=["/v1/*", "/ollama/*"])],
            ),
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


def _proxy(dial: str) -> caddy.ReverseProxy:
    return caddy.ReverseProxy(
        upstreams=[caddy.Upstream(dial=dial)],
        transport=caddy.Transport(dial_timeout=DIAL, response_header_timeout=FIRST_BYTE),
        headers=caddy.ProxyHeaders(
            request=caddy.HeaderOps(delete=["Authorization", "Cookie"], set={"Host": [UPSTREAM_HOST]})
        ),
    )


def _route(match: Match, *handlers: caddy.Handler) -> Route:
    return Route(match=[match], handle=list(handlers), terminal=True)


def _error(status: int, code: str, message: str) -> caddy.LlmError:
    return caddy.LlmError(status=status, code=code, message=message)


def _not_found() -> caddy.LlmError:
    return _error(404, "not_found", "There is nothing at this address.")


def _not_allowed() -> caddy.LlmError:
    return _error(405, "method_not_allowed", "This method is not allowed here.")
