"""The gateway's configuration: what comes first, who is behind what, and that nothing else is reached."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from stack.gateway import addresses, admin_routes, api_routes, chat_table, headers
from tests.contracts.laws import Finding, finding
from tests.support.recorder import Plan

Tree = dict[str, Any]
ENGINES: Final = "{http.vars.llm_upstream}"
DOORS: Final = {"reverse_proxy", "llm_native", "llm_models"}
# Behind the gateway, where nobody else is: figures for Prometheus.
INNER: Final = "inner"
_BARE: Final[Tree] = {"routes": [{"handle": [{"handler": "none"}]}]}
LISTENERS: Final = {"https", "redirect", INNER, "admin"}


def _config(plan: Plan) -> Tree:
    found: Tree = json.loads(plan.file("gateway-config"))
    return found


def _servers(plan: Plan) -> dict[str, Tree]:
    found: dict[str, Tree] = _config(plan)["apps"]["http"]["servers"]
    return found


def _routes(tree: Any) -> Iterator[Tree]:
    """Every route, however deep, outer ones first."""
    if isinstance(tree, list):
        for part in tree:
            yield from _routes(part)
    elif isinstance(tree, dict):
        if "handle" in tree:
            yield tree
        for part in tree.values():
            yield from _routes(part)


def _flat(route: Tree) -> list[Tree]:
    """A route's handlers, those of the routes within it in their place."""
    found = []
    for handler in route["handle"]:
        found.append(handler)
        if handler["handler"] == "subroute":
            found += [inner for one in handler["routes"] for inner in _flat(one)]
    return found


def _kinds(route: Tree) -> list[str]:
    return [handler["handler"] for handler in _flat(route)]


def _paths(route: Tree) -> list[str]:
    return [path for match in route.get("match", []) for path in match.get("llm_path", [])]


def _doors(plan: Plan) -> Iterator[tuple[str, Tree]]:
    """(listener, route) of every route that names a path and leads to something."""
    for name, server in _servers(plan).items():
        for route in _routes(server["routes"]):
            if _paths(route) and DOORS & set(_kinds(route)):
                yield name, route


def _proxies(plan: Plan) -> Iterator[tuple[str, Tree]]:
    for name, server in _servers(plan).items():
        for route in _routes(server["routes"]):
            for handler in route["handle"]:
                if handler["handler"] == "reverse_proxy":
                    yield name, handler


def _dials(handler: Tree) -> list[str]:
    return [upstream["dial"] for upstream in handler.get("upstreams", [])]


def every_listener_starts_with_the_edge(plan: Plan) -> Iterator[Finding]:
    """On every listener the edge comes first: nothing before it reads the request; it knows our names and proxies."""
    for name, server in _servers(plan).items():
        first = server["routes"][0]
        kinds = _kinds(first)
        yield finding(name, kinds[-1:] == ["llm_edge"] and "match" not in first, f"starts with {kinds}")
        before = first["handle"][:-1]
        reads = [handler for handler in before if handler["handler"] != "headers" or "request" in handler]
        yield finding(name, not reads, f"has {reads} before the edge")
        edge = first["handle"][-1]
        trusted = list(plan.sample.platform.gateway.trusted_proxies) if name == "https" else []
        yield finding(name, edge.get("trusted_proxies", []) == trusted, "takes clients' addresses from others")
        yield finding(name, bool(edge.get("hosts")) or name == INNER, "answers under any name")
        yield finding(
            name, edge.get("proto") == ("https" if name in {"https", "admin"} else "http"), "says it is other"
        )


def listeners_are_those_of_the_configuration(plan: Plan) -> Iterator[Finding]:
    """There are no other listeners, each cuts off who stops sending or taking, and Caddy's administration is off."""
    yield finding("servers", set(_servers(plan)) <= LISTENERS, f"are {sorted(_servers(plan))}")
    for name, server in _servers(plan).items():
        for limit in ("read_header_timeout", "read_idle_timeout", "read_min_rate", "write_idle_timeout"):
            yield finding(f"{name} {limit}", bool(server.get(limit)), "is not set")
        # A model may take minutes to begin.
        yield finding(name, not {"read_timeout", "write_timeout", "write_min_rate"} & set(server), "cuts long answers")
        yield finding(name, server.get("max_header_bytes", 0) == 65536, "takes headers of any size")
        yield finding(name, server["automatic_https"] == {"disable": True}, "does more than is written")
    admin = _config(plan)["admin"]
    yield finding("admin API", admin == {"disabled": True, "config": {"persist": False}}, f"is {admin}")


def every_search_ends(plan: Plan) -> Iterator[Finding]:
    """What no route names gets 404: Caddy would answer 200 to it; an error never goes out bare."""
    for name, server in _servers(plan).items():
        last = server["routes"][-1]
        (answer, *_) = last["handle"]
        good = "match" not in last and answer.get("status") == 404
        yield finding(name, good, "has no end: it answers 200 to whatever is left")
        errors = server.get("errors", _BARE)["routes"]
        first = [h for h in errors[0]["handle"] if h["handler"] == "headers"]
        yield finding(f"{name} errors", len(first) == 3 and "match" not in errors[0], "have no security headers")
        yield finding(f"{name} errors", errors[-1]["handle"][-1]["handler"] == "llm_error", "have a form of their own")


def paths_are_matched_to_the_letter(plan: Plan) -> Iterator[Finding]:
    """No route uses Caddy's own matcher of paths, which ignores case where an upstream does not."""
    for name, server in _servers(plan).items():
        matches = [match for route in _routes(server) for match in route.get("match", [])]
        loose = [match for match in matches if any(word.startswith("path") for word in json.loads(json.dumps(match)))]
        yield finding(name, bool(matches) and not loose, f"has {loose[:1]}")


def engines_are_behind_a_key_and_the_meter(plan: Plan) -> Iterator[Finding]:
    """A request reaches an engine after `llm_auth` and `llm` alone, and without the credentials it came with."""
    instances = {
        address
        for server in _servers(plan).values()
        for route in _routes(server)
        for handler in route["handle"]
        for engine in handler.get("engines", {}).values()
        for address in engine["instances"]
    }
    yield finding("engines", bool(instances), "are nowhere")
    for name, proxy in _proxies(plan):
        straight = sorted(instances & set(_dials(proxy)))
        yield finding(f"{name} proxy", not straight, f"goes to {straight} past the meter")
        if ENGINES in _dials(proxy):
            request = proxy["headers"]["request"]
            gone = {*request["delete"], *request.get("set", {})}
            yield finding(f"{name} proxy", {"Authorization", "Cookie"} <= gone, "passes credentials on")
            own = request.get("set", {}).get("Authorization", [])
            yield finding(f"{name} proxy", all(text.startswith("Bearer {file./run/") for text in own), f"has {own}")
    for name, route in _doors(plan):
        kinds = _kinds(route)
        if any(ENGINES in _dials(handler) for handler in _flat(route)) or "llm_native" in kinds:
            who = f"{name} {_paths(route)}"
            yield finding(who, kinds[0] == "llm_auth", f"asks for the key after {kinds[0]}")
            metered = "llm_native" in kinds or "llm" in kinds[: kinds.index("reverse_proxy")]
            yield finding(who, metered, "is not metered")


def every_door_has_a_limit(plan: Plan) -> Iterator[Finding]:
    """Behind every door an address is limited, or shows a key first; but for figures, inside."""
    for name, route in _doors(plan):
        limits = [
            h for h in _flat(route) if h["handler"] == "llm_limit" or (h["handler"] == "llm_auth" and h["addresses"])
        ]
        yield finding(f"{name} {_paths(route)[:3]}", bool(limits) or name == INNER, "has no limit")
        methods = all(match.get("method") for match in route["match"])
        yield finding(f"{name} {_paths(route)[:3]}", methods or name == "admin", "takes any method")


def only_declared_paths_lead_somewhere(plan: Plan) -> Iterator[Finding]:
    """Only what the rooms declare leads to an upstream: model management, functions and pipelines never do."""
    own = plan.sample.platform.services
    declared = {
        "https": {
            *api_routes.DOORS,
            *chat_table.STATIC,
            *chat_table.PAGES,
            *chat_table.SIGN_IN,
            chat_table.SOCKET,
            *(path for paths in chat_table.data().values() for path in paths),
            *(path for service in own for path in (service.path, f"{service.path}/", f"{service.path}/*")),
        },
        INNER: {*api_routes.DOORS, *(f"/services/{service.name}/metrics" for service in own)},
        "admin": {f"{page}/{end}" for page in (admin_routes.GRAFANA, admin_routes.PROMETHEUS) for end in ("", "*")},
        "redirect": set[str](),
    }
    for name, route in _doors(plan):
        more = sorted(set(_paths(route)) - declared[name])
        yield finding(f"{name} {_paths(route)[:3]}", not more, f"leads to {more}")


def upstreams_do_not_speak_for_us(plan: Plan) -> Iterator[Finding]:
    """No upstream says who may read an answer, frame it or run it, nor what it is made of."""
    kept = {"Access-Control-*", "Server", "Via", "X-Powered-By", "Strict-Transport-Security", "X-Frame-Options"}
    for name, proxy in _proxies(plan):
        deleted = set(proxy["headers"].get("response", {}).get("delete", []))
        yield finding(
            f"{name} {_dials(proxy)}", name == INNER or kept <= deleted, f"passes {sorted(kept - deleted)} on"
        )


def other_origins_are_those_of_the_configuration(plan: Plan) -> Iterator[Finding]:
    """Pages of listed origins alone may read answers, by their own name, and never with the browser's cookies."""
    text = plan.file("gateway-config")
    yield finding("configuration", "Allow-Credentials" not in text, "lets other origins use cookies")
    listed = list(plan.sample.platform.gateway.cors.origins)
    for name, server in _servers(plan).items():
        for route in _routes(server):
            for handler in route["handle"]:
                told = handler.get("response", {}).get("set", {}).get("Access-Control-Allow-Origin")
                if told is None and "Access-Control-Allow-Methods" not in handler.get("headers", {}):
                    continue
                asked = [match.get("header", {}).get("Origin") for match in route.get("match", [])]
                yield finding(
                    f"{name} CORS", asked == [listed] and bool(listed), f"is for {asked}, listed are {listed}"
                )
                yield finding(f"{name} CORS", told in (None, ["{http.request.header.Origin}"]), f"says {told}")
    yield finding("CORS", bool(listed) == ("Access-Control-Allow-Origin" in text), "is not as configured")


def every_answer_has_its_headers(plan: Plan) -> Iterator[Finding]:
    """Security headers are set where nothing can answer without them; HTTPS alone only where it is public."""
    gateway = plan.sample.platform.gateway
    for name, server in _servers(plan).items():
        for part in (server["routes"][0], server.get("errors", _BARE)["routes"][0]):
            wanted = headers.security(public=gateway.exposure == "public" and name == "https")
            texts = [handler.model_dump(exclude_none=True, by_alias=True) for handler in wanted]
            yield finding(name, part["handle"][: len(texts)] == texts, "has other headers")


def names_are_those_of_the_configuration(plan: Plan) -> Iterator[Finding]:
    """The public listeners answer under the configured names and ports, and redirect to the same name."""
    gateway, servers = plan.sample.platform.gateway, _servers(plan)
    for name, port in (("https", gateway.https_port), ("redirect", gateway.http_port)):
        hosts = servers[name]["routes"][0]["handle"][-1].get("hosts")
        wanted = [addresses.authority(host, port) for host in addresses.names(gateway)]
        yield finding(name, hosts == wanted, f"answers to {hosts}, configured are {wanted}")
    for route in servers["redirect"]["routes"][1:-1]:
        ((host,),), (answer,) = [match["host"] for match in route["match"]], route["handle"]
        wanted_url = [addresses.origin(host, gateway.https_port) + "{http.request.uri}"]
        yield finding(f"redirect of {host}", answer["headers"]["Location"] == wanted_url, "leads elsewhere")
