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
    llm_path: list[str] | None = None
    """Ours, instead of Caddy's `path`: case counts, and a pattern is a path or a prefix that ends in `/*`."""
    method: list[str] | None = None
    vars: dict[str, list[str]] | None = None
    """Variable -> its values."""
    vars_regexp: dict[str, dict[str, str]] | None = None
    header: dict[str, list[str] | None] | None = None
    """Name -> its values; `*` is any, null is none at all."""
    header_regexp: dict[str, dict[str, str]] | None = None
    negate: list[Match] | None = Field(default=None, alias="not")


class Answer(Caddy):
    """An answer with these headers (null: without) and this status (`4` is all of 400 to 499)."""

    status_code: list[int] | None = None
    headers: dict[str, list[str] | None] | None = None


class HeaderOps(Caddy):
    """Changes of headers."""

    add: dict[str, list[str]] | None = None
    set: dict[str, list[str]] | None = None
    delete: list[str] | None = None
    deferred: bool | None = None
    require: Answer | None = None


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
    """Changes the request's path for what comes after."""

    handler: Literal["rewrite"] = "rewrite"
    strip_path_prefix: str | None = None
    uri: str | None = None


class RequestBody(Caddy):
    """Largest body, in bytes."""

    handler: Literal["request_body"] = "request_body"
    max_size: int


class Metrics(Caddy):
    """Serves Caddy's and our metrics."""

    handler: Literal["metrics"] = "metrics"


class Vars(Caddy):
    """Sets variables of the request: `log_skip` keeps it out of the access log, `llm_pinned` names its model."""

    handler: Literal["vars"] = "vars"
    log_skip: bool | None = None
    llm_pinned: str | None = None


class Upstream(Caddy):
    """`host:port`, or a placeholder that a handler before has filled."""

    dial: str


class UpstreamTls(Caddy):
    """TLS to an upstream: its certificate is checked against the system's authorities and its name, always."""


class Transport(Caddy):
    """Times in nanoseconds-as-text (Caddy's duration strings)."""

    protocol: Literal["http"] = "http"
    dial_timeout: str
    response_header_timeout: str | None = None
    tls: UpstreamTls | None = None


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


class Edge(Caddy):
    """Ours, first on every listener: plain paths, our own host names, no forged headers, one client address.

    Without `hosts` every name is answered.
    """

    handler: Literal["llm_edge"] = "llm_edge"
    hosts: list[str] | None = None
    trusted_proxies: list[str] | None = None
    proto: Literal["http", "https"]


class Rate(Caddy):
    """A token bucket of `events` + `burst`, refilled with `events` in each `per`."""

    events: int
    per: str
    burst: int


class Failures(Caddy):
    """Answers with these statuses have a bucket of their own; when it is empty the address is banned."""

    rate: Rate
    statuses: list[int] | None = None
    ban: str
    longest_ban: str


class Limit(Caddy):
    """Ours: what one address may do in this zone (images/gateway)."""

    handler: Literal["llm_limit"] = "llm_limit"
    zone: str
    rate: Rate
    failures: Failures | None = None


class Addresses(Caddy):
    """What one address may do before it has shown a valid key."""

    zone: str
    rate: Rate
    failures: Failures


class Auth(Caddy):
    """Ours: who is asking, and may they use this scope (images/gateway)."""

    handler: Literal["llm_auth"] = "llm_auth"
    consumers_file: str
    realm: str
    scope: str | None = None
    addresses: Addresses
    keep_cookies: bool | None = None


class Engine(Caddy):
    """Identical engines, where each listens, and how many requests they may have at the same time (0: any).

    `tls` and `key_file` are for what the handlers ask themselves; requests go through a `ReverseProxy`.
    """

    instances: list[str]
    kind: Literal["ollama", "openai"]
    max_in_flight: int = 0
    tls: bool | None = None
    key_file: str | None = None


class CatalogModel(Caddy):
    """A model, its other names and its limits over all consumers."""

    id: str
    engine: str
    upstream_name: str
    role: str
    aliases: list[str]
    fallback: str | None = None
    max_in_flight: int | None = None
    requests_per_minute: int | None = None


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


class LlmNative(Caddy):
    """Ours: Ollama's own lists, of what this consumer may use."""

    handler: Literal["llm_native"] = "llm_native"
    engines: dict[str, Engine]
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
    | Vars
    | ReverseProxy
    | Edge
    | Limit
    | Auth
    | Llm
    | LlmModels
    | LlmNative
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
    """A listener.

    No time bounds a whole answer: only a client that stops sending its request, or stops taking what is there for it,
    is cut. A request's body has 10 s and one more for each 500 bytes that came.
    """

    listen: list[str]
    routes: list[Route]
    errors: ServerErrors | None = None
    automatic_https: AutomaticHttps = AutomaticHttps()
    protocols: list[str] = ["h1", "h2"]
    tls_connection_policies: list[ConnectionPolicy] | None = None
    read_header_timeout: str = "10s"
    read_idle_timeout: str = "10s"
    read_min_rate: int = 500
    write_idle_timeout: str = "1m"
    idle_timeout: str = "5m"
    max_header_bytes: int = 65536
    """Four times what `llm_edge` lets pass: that one's refusal is an answer in the usual shape, this one's is not."""
    logs: ServerLogs | None = None


class Http(Caddy):
    """The HTTP app."""

    http_port: int
    """The ports that a certificate authority's questions arrive at."""
    https_port: int
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


class AcmeIssuer(Caddy):
    """Issues from an authority that checks who answers under a name. `ca` is its directory."""

    module: Literal["acme"] = "acme"
    ca: str
    email: str | None = None


class AutomationPolicy(Caddy):
    """Who issues for which names."""

    subjects: list[str]
    issuers: list[Annotated[InternalIssuer | AcmeIssuer, Field(discriminator="module")]]


class Automation(Caddy):
    """Certificate policies."""

    policies: list[AutomationPolicy]


class CertificateFiles(Caddy):
    """A certificate and its key, as PEM files."""

    certificate: str
    key: str


class Certificates(Caddy):
    """Names to get certificates for, and certificates that are there."""

    automate: list[str] | None = None
    load_files: list[CertificateFiles] | None = None


class Tls(Caddy):
    """The TLS app."""

    certificates: Certificates
    automation: Automation | None = None


class Apps(Caddy):
    """The apps that run."""

    http: Http
    tls: Tls
    pki: Pki | None = None


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
