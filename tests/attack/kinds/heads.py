"""Headers that claim, confuse or overflow: Host, forwarding, identity, credentials, hop-by-hop, upgrades, origins."""

from __future__ import annotations

from random import Random
from typing import Final

from tests.attack import targets
from tests.attack.targets import Place
from tests.attack.traffic import CRLF, Http1, Move, Site, Step, one

EVIL: Final = "f0rged.example"


def _send(
    dice: Random, site: Site, what: str, *lines: str | bytes, place: Place | None = None, close: bool = True
) -> Move:
    place = place or targets.opened(dice)
    raw = [line.encode("latin-1") if isinstance(line, str) else line for line in lines]
    return Move(
        what=f"{what} on {place.path}",
        traffic=one(site.request(place.method, place.path, *raw, body=place.body, close=close)),
        surface=place.surface,
    )


def hosts(dice: Random, site: Site) -> Move:
    """A Host that is not ours, or reads like ours."""
    place = targets.opened(dice) if dice.random() < 0.7 else targets.blocked(dice)
    name, _, port = site.host.partition(":")
    host = dice.choice(
        (
            EVIL, f"{EVIL}:{port}", f"{name}.:{port}", f"{name}:{int(port) ^ 1}", f"{name}:0{port}", f"{name}:",
            f"{name}:{port}.{EVIL}", f"{name}.{EVIL}:{port}", f"{EVIL}/{site.host}", f"{site.host}/../{EVIL}",
            f"{site.host}?{EVIL}", f"{site.host}#{EVIL}", f"{EVIL}@{site.host}", f"{site.host}@{EVIL}",
            f"{site.host},{EVIL}", f"{site.host} {EVIL}", "", " ", "[::1]", f"[::1]:{port}", f"0.0.0.0:{port}",
            f"127.1:{port}", f"2130706433:{port}", f"0x7f.1:{port}", f"{name}%00.{EVIL}", f"{name}\\{EVIL}",
            f"LOCALHOST.{EVIL}:{port}", "ollama:11434", "localhost:11434", "<<decoy>>", "metadata.google.internal",
            "169.254.169.254", "gateway:8081", f"{site.host}:{port}", f"xn--{name}:{port}", f"{name}\t:{port}",
        )
    )  # fmt: skip
    return Move(
        what=f"Host {host!r} on {place.path}",
        traffic=one(site.request(place.method, place.path, body=place.body, host=host.encode())),
        surface=place.surface,
    )


def bad_hosts(dice: Random, site: Site) -> Move:
    """A Host with a path in it, so that frameworks behind compute another URL."""
    place = targets.opened(dice)
    hidden = targets.blocked(dice).path
    sign = dice.choice(("/", "?", "#", "\\", "%2f", ";", "@", "/?", "/#"))
    host = f"{site.host}{sign}{hidden.lstrip('/')}"
    return Move(
        what=f"Host {host!r} on {place.path}",
        traffic=one(site.request(place.method, place.path, body=place.body, host=host.encode())),
        surface=place.surface,
    )


def authorities(dice: Random, site: Site) -> Move:
    """Absolute targets, several Hosts, none at all, old versions."""
    place = targets.opened(dice) if dice.random() < 0.6 else targets.blocked(dice)
    way = dice.randrange(8)
    body, path = place.body, place.path
    if way < 3:
        where = dice.choice((EVIL, site.host, "<<decoy>>", f"{EVIL}@{site.host}", f"{site.host}.", ""))
        target = f"{dice.choice(('http', 'https', 'HTTPS', 'ftp', 'file', 'ws'))}://{where}{path}"
        host = dice.choice((site.host, EVIL)).encode()
        data = site.request(place.method, target, body=body, host=host)
        what = f"{target} with Host {host.decode()}"
    elif way == 3:
        data = site.request(place.method, path, f"Host: {EVIL}".encode(), body=body)
        what = f"two Hosts on {path}"
    elif way == 4:
        data = site.request(place.method, path, f"Host: {site.host}".encode(), body=body, host=EVIL.encode())
        what = f"two Hosts, ours last, on {path}"
    elif way == 5:
        data = site.request(place.method, path, body=body)
        data = data.replace(f"Host: {site.host}\r\n".encode(), b"")
        what = f"no Host on {path}"
    elif way == 6:
        version = dice.choice(
            (b"HTTP/1.0", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/3", b"HTTP/1.1.1", b"ICY/1.1", b"")
        )
        data = site.request(
            place.method, path, body=body, version=version, host=dice.choice((site.host, EVIL)).encode()
        )
        what = f"version {version!r} on {path}"
    else:
        target = dice.choice(
            ("*", "<<decoy>>", f"{EVIL}:443", f"//{EVIL}{path}", f"@{EVIL}{path}", f"/{path}", path[1:])
        )
        data = site.request(dice.choice((place.method, "CONNECT", "OPTIONS")), target or "x", body=body)
        what = f"target {target!r}"
    return Move(what=what, traffic=one(data, wait=2), surface=place.surface)


FORWARDING: Final = (
    "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Server",
    "X-Forwarded-Scheme", "X-Forwarded-Ssl", "X-Forwarded-By", "X-Forwarded", "Forwarded-For", "Forwarded", "X-Real-IP",
    "True-Client-IP", "X-Client-IP", "Client-IP", "CF-Connecting-IP", "X-Cluster-Client-IP", "Fastly-Client-IP",
    "X-Originating-IP", "X-Remote-IP", "X-Remote-Addr", "X-Envoy-External-Address", "X-ProxyUser-IP", "Via",
)  # fmt: skip
IDENTITY: Final = (
    "X-Forwarded-Email", "X-Forwarded-User", "X-Forwarded-Groups", "X-Forwarded-Preferred-Username",
    "X-Forwarded-Access-Token", "Tailscale-User-Login", "Tailscale-User-Name", "Remote-User", "Remote-Email",
    "Remote-Groups", "Remote-Name", "X-Remote-User", "X-Webauth-User", "X-Webauth-Email", "X-Auth-Request-Email",
    "X-Auth-Request-User", "X-Authenticated-User", "X-User", "X-User-Email", "X-User-Id", "X-Consumer",
    "X-OpenWebUI-User-Email", "X-OpenWebUI-User-Role", "X-OpenWebUI-User-Id", "X-Authentik-Username",
    "X-Authentik-Email", "X-Ms-Client-Principal-Name", "X-Goog-Authenticated-User-Email", "Cf-Access-Jwt-Assertion",
    "Cf-Access-Authenticated-User-Email", "X-Amzn-Oidc-Identity", "Ssl-Client-Verify", "X-Ssl-Client-S-Dn",
)  # fmt: skip


def spelt(dice: Random, name: str) -> str:
    """The name as another server might still read it."""
    way = dice.randrange(8)
    if way == 0:
        return name
    if way == 1:
        return name.replace("-", "_")
    if way == 2:
        return name.replace("-", ".")
    if way == 3:
        return name.replace("-", dice.choice(("_", ".", "--", "__", "-_", "._")), 1)
    if way == 4:
        return "".join(dice.choice((sign.lower(), sign.upper())) for sign in name)
    if way == 5:
        return "".join(dice.choice("-_.") if sign == "-" else sign for sign in name).lower()
    if way == 6:
        return name.lower()
    return name + dice.choice(("_", ".", "-"))


def claim(name: str) -> str:
    """A value for it that must never be believed."""
    plain = name.lower()
    if plain.startswith(("forwarded",)) and plain != "forwarded-for":
        return f'for=203.0.113.66;host={EVIL};proto=http;by="f0rged"'
    if any(word in plain for word in ("-for", "-ip", "addr", "_for", ".for", "_ip", ".ip")):
        return "203.0.113.66"
    if "proto" in plain or "scheme" in plain:
        return "f0rged"
    return f"f0rged@{EVIL}"


def _spoof(dice: Random, site: Site, names: tuple[str, ...]) -> Move:
    name = dice.choice(names)
    lines = [f"{spelt(dice, name)}: {claim(name)}"]
    if dice.random() < 0.4:
        lines.append(f"{spelt(dice, name)}: {claim(name)}")
    if dice.random() < 0.2:
        other = dice.choice(names)
        lines.append(f"{spelt(dice, other)}: {claim(other)}")
    if dice.random() < 0.1:
        lines = [line.replace(": ", dice.choice((":", ":\t", ":   "))) for line in lines]
    return _send(dice, site, " + ".join(lines), *lines)


def forwarding(dice: Random, site: Site) -> Move:
    """Where a request says it comes from."""
    return _spoof(dice, site, FORWARDING)


def identities(dice: Random, site: Site) -> Move:
    """Who a request says has been recognised already."""
    return _spoof(dice, site, IDENTITY)


def hop_by_hop(dice: Random, site: Site) -> Move:
    """Connection names headers to be dropped on the way: the gateway's own must arrive all the same."""
    named = dice.choice(
        ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Host", "Authorization", "Content-Length",
         "Transfer-Encoding", "Content-Type", "X-Real-IP", "Cookie", "Upgrade")
    )  # fmt: skip
    lines = [
        f"{dice.choice(('Connection', 'connection', 'Proxy-Connection', 'Keep-Alive'))}: close, {spelt(dice, named)}"
    ]
    if dice.random() < 0.5 and named.startswith("X-"):
        lines.append(f"{named}: {claim(named)}")
    if dice.random() < 0.3:
        lines.append("TE: trailers, chunked;q=0.5")
    return _send(dice, site, " + ".join(lines), *lines, close=False)


def trailers(dice: Random, site: Site) -> Move:
    """Headers that come after the body, when all checks are done."""
    place = dice.choice((*targets.WITH_BODY, Place("POST", "/api/v1/chats/new", {"chat": {}}, "chat")))
    names = [dice.choice((*FORWARDING, *IDENTITY, "Authorization", "Cookie", "Host", "Content-Length", "X-Api-Key"))]
    names.append(dice.choice(FORWARDING))
    body = site.body(place.body)
    tail = b"".join(f"{name}: {claim(name)}\r\n".encode() for name in names)
    announced = [f"Trailer: {', '.join(names)}".encode()] if dice.random() < 0.8 else []
    head = site.head(
        place.method, place.path, *announced, b"Content-Type: application/json", b"Transfer-Encoding: chunked",
        b"Connection: close",
    )  # fmt: skip
    data = head + b"%x\r\n" % len(body) + body + b"\r\n0\r\n" + tail + CRLF
    return Move(what=f"trailers {names} on {place.path}", traffic=one(data), surface=place.surface)


SOCKET: Final = Place("GET", "/ws/socket.io/?EIO=4&transport=websocket", surface="chat")


def upgrades(dice: Random, site: Site) -> Move:
    """Another protocol: on routes that have none, from pages that are not ours, or without asking who it is."""
    way = dice.randrange(4)
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    lines = [
        f"Connection: {dice.choice(('Upgrade', 'upgrade', 'keep-alive, Upgrade'))}",
        "Sec-WebSocket-Version: 13",
        key,
    ]
    if way == 0:
        place = targets.opened(dice)
        lines.append(f"Upgrade: {dice.choice(('websocket', 'WebSocket', 'WEBSOCKET', 'websocket, h2c'))}")
    elif way == 1:
        place = targets.opened(dice) if dice.random() < 0.5 else targets.blocked(dice)
        lines = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"]
    elif way == 2:
        place = SOCKET
        origin = dice.choice(
            (f"https://{EVIL}", "null", f"http://{site.host}", f"https://{site.host}.{EVIL}", f"https://{EVIL}/{site.host}",
             "https://localhost", f"{site.origin}/", f"{site.origin} {site.origin}", "file://", f"https://{EVIL}@{site.host}")
        )  # fmt: skip
        lines += ["Upgrade: websocket", f"Origin: {origin}"]
        if dice.random() < 0.2:
            lines.append(f"Origin: {site.origin}")
    else:
        place = Place(dice.choice(("POST", "PUT", "DELETE", "TRACE")), SOCKET.path, {}, "chat")
        lines += ["Upgrade: websocket", f"Origin: {site.origin}"]
    return Move(
        what=" + ".join(line for line in lines if line.startswith(("Upgrade", "Origin")))
        + f" on {place.method} {place.path}",
        traffic=one(
            site.request(place.method, place.path, *(line.encode() for line in lines), body=place.body, close=False),
            wait=1,
        ),
        surface=place.surface,
    )


def origins(dice: Random, site: Site) -> Move:
    """A page of another origin asks whether it may."""
    place = targets.opened(dice)
    origin = dice.choice(
        (f"https://{EVIL}", "null", f"http://{site.host}", f"https://{site.host}.{EVIL}", "https://localhost")
    )
    lines = [f"Origin: {origin}"]
    if dice.random() < 0.6:
        method = dice.choice(("POST", "GET", "DELETE", "PUT"))
        lines += [
            f"Access-Control-Request-Method: {method}",
            "Access-Control-Request-Headers: authorization, content-type",
        ]
        if dice.random() < 0.3:
            lines.append("Access-Control-Request-Private-Network: true")
        place = Place("OPTIONS", place.path, None, place.surface)
    return _send(dice, site, f"{place.method} from {origin}", *lines, place=place)


def expectations(dice: Random, site: Site) -> Move:
    """Expect and Range: announced, odd and many."""
    place = dice.choice((*targets.WITH_BODY, *targets.OPEN_CHAT))
    line = dice.choice(
        (
            "Expect: 100-continue",
            "Expect: 200-ok",
            "Expect: 100-continue, 100-continue",
            "Expect:",
            "expect: 100-CONTINUE",
            "Expect: 100-continue\r\nExpect: x",
            "Range: bytes=0-18446744073709551615",
            "Range: bytes=-1,0-,1-2,3-",
            "Range: bytes=" + ",".join(f"{n}-{n + 1}" for n in range(0, 1200, 2)),
            "Range: bytes=9-1",
            "If-Range: x\r\nRange: bytes=0-",
            "Max-Forwards: 0",
            "If-Modified-Since: f",
            "If-Match: *",
        )
    )
    if line.startswith("Expect: 100") and place.body is not None and dice.random() < 0.5:
        # The head alone: a server that waits must not wait for ever, one that forwards must not forward half.
        data = site.head(
            place.method, place.path, line.encode(), b"Content-Type: application/json", b"Content-Length: 100000"
        )
        traffic = Http1((Step(data, 0.2), Step(site.body(place.body))), wait=0.5)
        return Move(what=f"{line}, short body, on {place.path}", traffic=traffic, surface=place.surface)
    return _send(dice, site, line[:60], *line.split("\r\n"), place=place)


def credentials(dice: Random, site: Site) -> Move:
    """Guessed, doubled, hidden and misplaced credentials, and the gateway's own key where the chat could see it."""
    place = targets.opened(dice)
    line = dice.choice(
        (
            "Authorization: Bearer sk-guessed",
            "Authorization: Bearer <<key>>",
            "authorization: Basic ZGVmYXVsdDp3cm9uZw==",
            "X-Api-Key: <<key>>",
            "x_api_key: <<key>>",
            "X.Api.Key: <<key>>",
            "Api-Key: <<key>>",
            "Proxy-Authorization: Bearer <<key>>",
            "X-Authorization: Bearer <<key>>",
            "Authorization_: Bearer <<key>>",
            "Authorization.: Bearer <<key>>",
            "X-Auth-Token: <<key>>",
            "X-Goog-Api-Key: <<key>>",
            "Cookie: token=x; api_key=<<key>>",
            "Cookie: <<key>>",
            "X-Forwarded-Authorization: Bearer <<key>>",
            "Authorization: Bearer sk-' OR 1=1 --",
            "Authorization: Bearer " + "a" * 4000,
            "Authorization: Basic !!!",
            "Authorization: Digest username=x",
            "Authorization: Bearer",
            "Authorization:",
            "Authorization: Bearer <<key>>, Bearer x",
            "Authorization: Bearer\t<<key>>",
            "Authorization: bearer  <<key>>",
            "Authorization: Negotiate YII",
            "X-LiteLLM-Key: <<key>>",
            "Sec-WebSocket-Protocol: openai-insecure-api-key.<<key>>",
            "Referer: https://x/?key=<<key>>",
            "X-Amz-Security-Token: <<key>>",
        )
    )
    return _send(dice, site, line[:70], line, place=place)


def sizes(dice: Random, site: Site) -> Move:
    """Long targets, long headers and many of them."""
    place = targets.opened(dice)
    way = dice.randrange(6)
    lines: list[str] = []
    path = place.path
    if way == 0:
        length = dice.choice((20_000, 64_000, 300_000, 2_000_000))
        lines, what = [f"X-Long: {'a' * length}"], f"a header of {length} bytes"
    elif way == 1:
        count = dice.choice((300, 2_000, 20_000))
        lines, what = [f"X-{n}: 1" for n in range(count)], f"{count} headers"
    elif way == 2:
        length = dice.choice((9_000, 40_000, 1_000_000))
        path, what = f"{path}?{'a' * length}", f"a target of {length} bytes"
    elif way == 3:
        lines, what = [f"Cookie: {'; '.join(f'c{n}=v' for n in range(4000))}"], "4000 cookies"
    elif way == 4:
        lines, what = ["X-Same: 1"] * 3000, "one header 3000 times"
    else:
        lines, what = [f"{'X' * dice.choice((5_000, 70_000))}: 1"], "a long header name"
    return Move(
        what=f"{what} on {place.path}",
        traffic=one(site.request(place.method, path, *(line.encode() for line in lines), body=place.body)),
        surface=place.surface,
    )
