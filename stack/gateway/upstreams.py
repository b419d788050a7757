"""The engines behind the gateway: what each is, what it serves, how it is reached. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from stack.config.model import OWN_ENGINE, Platform, Upstream
from stack.gateway import caddy, headers, places
from stack.gateway.caddy import Match, Route
from stack.parts import ServedModel
from stack.shape import Endpoint

# Longest wait for an answer to begin (a model may have to load and others to finish), and for an upstream to accept.
FIRST_BYTE: Final = "10m"
DIAL: Final = "5s"


def engines(platform: Platform, own: Sequence[Endpoint]) -> dict[str, caddy.Engine]:
    """Engine's name -> where its instances listen and what they take; `own` are the platform's, none without models."""
    found = {}
    if own:
        found[OWN_ENGINE] = caddy.Engine(
            instances=[endpoint.address for endpoint in own],
            kind="ollama",
            max_in_flight=platform.engine.slots,
        )
    for upstream in platform.upstreams:
        found[upstream.name] = caddy.Engine(
            instances=list(upstream.addresses),
            kind=upstream.kind.value,
            max_in_flight=upstream.slots,
            tls=upstream.encrypted or None,
            key_file=key_file(upstream.name) if upstream.key else None,
        )
    return found


def catalog(models: Sequence[ServedModel]) -> list[caddy.CatalogModel]:
    """What clients may ask for."""
    return [
        caddy.CatalogModel(
            id=served.name,
            engine=served.engine,
            upstream_name=served.name,
            role=str(served.role),
            aliases=list(served.aliases),
            fallback=served.fallback,
            max_in_flight=served.concurrent_requests,
            requests_per_minute=served.requests_per_minute,
        )
        for served in models
    ]


def proxy(elsewhere: Sequence[Upstream]) -> caddy.ReverseProxy | caddy.Subroute:
    """Forwards to the engine that was chosen; those that want TLS or a key have a way of their own.

    A key is read from its file at each request: it stands in no configuration, and a new one needs no restart.
    """
    apart = [upstream for upstream in elsewhere if upstream.encrypted or upstream.key]
    if not apart:
        return _proxy()
    routes = [
        Route(match=[Match(vars={"llm_engine": [upstream.name]})], handle=[_proxy(upstream)], terminal=True)
        for upstream in apart
    ]
    return caddy.Subroute(routes=[*routes, Route(handle=[_proxy()])])


def key_folder(upstream: str) -> str:
    """Where the gateway finds an engine's key: each in a folder, which is a volume, of its own."""
    return f"{places.ENGINE_KEYS_FOLDER}/{upstream}"


def key_file(upstream: str) -> str:
    """The file with an engine's key."""
    return f"{key_folder(upstream)}/{places.ENGINE_KEY_FILE}"


def _proxy(upstream: Upstream | None = None) -> caddy.ReverseProxy:
    # An upstream sees its own name: what the client called us has no say behind the gateway.
    host = "{http.reverse_proxy.upstream.hostport}"
    dropped, added = ["Cookie", "Upgrade"], {}
    if upstream and all(address.endswith(":443") for address in upstream.addresses):
        host = "{http.reverse_proxy.upstream.host}"
    if upstream and upstream.key:
        added["Authorization"] = [f"Bearer {{file.{key_file(upstream.name)}}}"]
    else:
        dropped = ["Authorization", *dropped]
    return caddy.ReverseProxy(
        upstreams=[caddy.Upstream(dial="{http.vars.llm_upstream}")],
        transport=caddy.Transport(
            dial_timeout=DIAL,
            response_header_timeout=FIRST_BYTE,
            tls=caddy.UpstreamTls() if upstream and upstream.encrypted else None,
        ),
        headers=caddy.ProxyHeaders(
            request=caddy.HeaderOps(delete=dropped, set={"Host": [host], **added}),
            response=caddy.HeaderOps(delete=headers.OURS),
        ),
    )
