"""The part of Caddy's native JSON that we write, as typed models: a misspelt field fails here, not in production.

Field names are Caddy's own (https://caddyserver.com/docs/json/). Pure.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Caddy(BaseModel):
    """Base: closed and frozen; unset fields are left out of the JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Match(Caddy):
    """All given fields must hold."""

    host: list[str] | None = None
    path: list[str] | None = None
    method: list[str] | None = None
    vars_regexp: dict[str, dict[str, str]] | None = None
    header: dict[str, list[str]] | None = None
    negate: list[Match] | None = Field(default=None, alias="not")


class HeaderOps(Caddy):
    """Changes of headers."""

    set: dict[str, list[str]] | None = None
    delete: list[str] | None = None
    deferred: bool | None = None


class Headers(Caddy):
    """Changes the headers of the answer (and of the request)."""

    handler: Literal["headers"] = "headers"
    request: HeaderOps | None = None
    response: HeaderOps | None = None


class Static(Caddy):
    """A fixed answer."""

    handler: Literal["static_response"] = "static_response"
    status_code: str
    headers: dict[str, list[str]] | None = None
    body: str | None = None


class Rewrite(Caddy):
    """Changes the request's path before it goes up."""

    handler: Literal["rewrite"] = "rewrite"
    strip_path_prefix: str


class RequestBody(Caddy):
    """Largest body, in bytes."""

    handler: Literal["request_body"] = "request_body"
    max_size: int


class Metrics(Caddy):
    """Serves Caddy's and our metrics."""

    handler: Literal["metrics"] = "metrics"


class Unlogged(Caddy):
    """Keeps a request out of the access log (Caddy's `vars` handler and its name for that)."""

    handler: Literal["vars"] = "vars"
    log_skip: bool = True


class Upstream(Caddy):
    """`host:port`, or a placeholder that a handler before has filled."""

    dial: str


class Transport(Caddy):
    """Times in nanoseconds-as-text (Caddy's duration strings)."""

    protocol: Literal["http"] = "http"
    dial_timeout: str
    response_header_timeout: str | None = None


class ProxyHeaders(Caddy):
    """Changes on the way up and on the way back."""

    request: HeaderOps | None = None
    response: HeaderOps | None = None


class ReverseProxy(Caddy):
    """Forwards to an upstream, never holding an answer back."""

    handler: Literal["reverse_proxy"] = "reverse_proxy"
    upstreams: list[Upstream]
    transport: Transport
    headers: ProxyHeaders | None = None
    flush_interval: int = -1
    stream_close_delay: str | None = None


class Auth(Caddy):
    """Ours: who is asking, and may they use this scope (images/gateway)."""

    handler: Literal["llm_auth"] = "llm_auth"
    consumers_file: str
    realm: str
    scope: str | None = None


class Engine(Caddy):
    """Where an engine listens."""

    dial: str


class CatalogModel(Caddy):
    """A model and its other names."""

    id: str
    engine: str
    upstream_name: str
    role: str
    aliases: list[str]


class Llm(Caddy):
    """Ours: reads the request once, finds the engine for its model, meters the answer (images/gateway)."""

    handler: Literal["llm"] = "llm"
    engines: dict[str, Engine]
    models: list[CatalogModel]
    max_body: int


class LlmModels(Caddy):
    """Ours: the list of models that this consumer may use."""

    handler: Literal["llm_models"] = "llm_models"
    models: list[CatalogModel]


class LlmHealth(Caddy):
    """Ours: 200 when an alias can answer, else 503."""

    handler: Literal["llm_health"] = "llm_health"
    engines: dict[str, Engine]
    models: list[CatalogModel]


class LlmError(Caddy):
    """Ours: an error in OpenAI's shape."""

    handler: Literal["llm_error"] = "llm_error"
    status: int | str
    code: str | None = None
    message: str | None = None


class Subroute(Caddy):
    """Routes within a route; the first terminal match wins."""

    handler: Literal["subroute"] = "subroute"
    routes: list[Route]


Handler = Annotated[
    Headers
    | Static
    | Rewrite
    | RequestBody
    | Metrics
    | Unlogged
    | ReverseProxy
    | Auth
    | Llm
    | LlmModels
    | LlmHealth
    | LlmError
    | Subroute,
    Field(discriminator="handler"),
]


class Route(Caddy):
    """Handlers for the requests that match; no match is all of them."""

    match: list[Match] | None = None
    handle: list[Handler]
    terminal: bool | None = None


class ServerErrors(Caddy):
    """What answers when a handler failed."""

    routes: list[Route]


class AutomaticHttps(Caddy):
    """Off: listeners, redirects and certificates are all spelt out."""

    disable: bool = True


class ServerLogs(Caddy):
    """Which logger takes the access log."""

    default_logger_name: str


class ConnectionPolicy(Caddy):
    """TLS settings; `default_sni` is for clients that connect by address."""

    default_sni: str


class Server(Caddy):
    """A listener."""

    listen: list[str]
    routes: list[Route]
    errors: ServerErrors | None = None
    automatic_https: AutomaticHttps = AutomaticHttps()
    protocols: list[str] = ["h1", "h2"]
    tls_connection_policies: list[ConnectionPolicy] | None = None
    read_header_timeout: str = "10s"
    idle_timeout: str = "5m"
    max_header_bytes: int = 16384
    logs: ServerLogs | None = None


class Http(Caddy):
    """The HTTP app."""

    servers: dict[str, Server]
    metrics: dict[str, Any] = {}


class RootKeyPair(Caddy):
    """PEM files of the root certificate and its key."""

    certificate: str
    private_key: str
    format: str = "pem_file"


class Authority(Caddy):
    """A certificate authority."""

    name: str
    root: RootKeyPair
    install_trust: bool = False


class Pki(Caddy):
    """The certificate app."""

    certificate_authorities: dict[str, Authority]


class InternalIssuer(Caddy):
    """Issues from our own authority."""

    module: Literal["internal"] = "internal"
    ca: str


class AutomationPolicy(Caddy):
    """Who issues for which names."""

    subjects: list[str]
    issuers: list[InternalIssuer]


class Automation(Caddy):
    """Certificate policies."""

    policies: list[AutomationPolicy]


class Tls(Caddy):
    """The TLS app."""

    certificates: dict[str, list[str]]
    automation: Automation


class Apps(Caddy):
    """The apps that run."""

    http: Http
    tls: Tls
    pki: Pki


class Admin(Caddy):
    """Caddy's admin API: off, since writing its configuration is as good as root."""

    disabled: bool = True
    config: dict[str, bool] = {"persist": False}


class Log(Caddy):
    """A logger."""

    include: list[str] | None = None
    exclude: list[str] | None = None
    writer: dict[str, str] = {"output": "stdout"}
    encoder: dict[str, Any] = {"format": "json"}
    level: str = "INFO"


class Logging(Caddy):
    """All loggers."""

    logs: dict[str, Log]


class Config(Caddy):
    """The whole file."""

    admin: Admin = Admin()
    logging: Logging
    storage: dict[str, str] = {"module": "file_system", "root": "/data"}
    apps: Apps

    def to_json(self) -> str:
        """The file's text, the same for the same configuration."""
        return self.model_dump_json(exclude_none=True, by_alias=True, indent=2)
