"""The verdict: may this have reached a server behind the gateway, and does it carry what it must not? Pure.

The rules are written down here a second time, on purpose: a mistake in the gateway's own lists must not excuse itself.
Status codes play no part.
"""

from __future__ import annotations

import base64
import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import unquote

from tests.attack.traffic import ID, Credential, Listener
from tests.attack.upstream import Seen

Verdict = Literal["bypass", "spoofed"]

# Method and path -> the scope that opens it. An engine must see nothing else.
ENGINE: Final = {
    ("POST", "/v1/chat/completions"): "chat",
    ("POST", "/v1/completions"): "chat",
    ("POST", "/v1/responses"): "chat",
    ("POST", "/v1/embeddings"): "embeddings",
    ("POST", "/api/chat"): "native",
    ("POST", "/api/generate"): "native",
    ("POST", "/api/embed"): "native",
    ("POST", "/api/embeddings"): "native",
    ("POST", "/api/show"): "show",
    ("GET", "/api/tags"): "native",
    ("GET", "/api/ps"): "native",
    ("GET", "/api/version"): "native",
    ("HEAD", "/api/tags"): "native",
    ("HEAD", "/api/ps"): "native",
    ("HEAD", "/api/version"): "native",
}
# What the gateway asks in its own name, for its health and its lists.
OWN: Final = {("GET", path) for path in ("/api/tags", "/api/ps", "/api/version", "/v1/models")}

_READ: Final = "GET|HEAD"
_ANY: Final = "GET|HEAD|POST|PUT|PATCH|DELETE"
_DATA: Final = (
    "auths|users|chats|channels|notes|models|knowledge|prompts|memories|folders|groups|files|retrieval|tasks|configs|"
    "evaluations|utils|analytics"
)
_PAGES: Final = (
    "c|s|home|channels|folders|notes|workspace|playground|admin|_app|static|assets|cache|wasm|pyodide|themes|audio"
)
CHAT: Final = tuple(
    (re.compile(methods), re.compile(pattern))
    for methods, pattern in (
        (_READ, rf"/|/auth|/error|/watch|/(home|notes|workspace|playground|admin)|/({_PAGES})/.*"),
        (_READ, r"/favicon\.(png|ico)|/manifest\.json|/opensearch\.xml|/(sw|service-worker)\.js"),
        (_READ, r"/api/v1/(tools|functions|skills)/(list)?|/api/v1/terminals/|/api/events(/webhooks)?"),
        (_ANY, rf"/api/v1/({_DATA})(/.*)?|/api/v1/(audio|images)/config"),
        (_ANY, r"/api/(config|version(/updates)?|changelog|usage|models(/base)?|tasks(/.*)?)"),
        (_ANY, r"/api/chat/(completions|completed|actions/.*)"),
        ("GET", r"/ws/.*"),
    )
)
# Never, whatever a list says: it runs code on the server, or hands out its engines and users.
NEVER: Final = re.compile(
    r"/(ollama|openai|docs|redoc|openapi\.json|metrics)(/|$)|/api/v1/(pipelines|scim)(/|$)|"
    r"/api/v1/(tools|functions|skills)/(?!(list)?$)|/api/pipeline"
)

# Names by which back ends recognise a client or its user, dots and underscores read as dashes.
CLAIMS: Final = re.compile(
    r"(x-)?forwarded(-.*)?|x-real-ip|true-client-ip|(x-)?client-ip|cf-.*|x-cluster-client-ip|fastly-client-ip|"
    r"x-originating-ip|x-remote-.*|x-envoy-.*|x-proxyuser-ip|tailscale-.*|remote-.*|x-webauth-.*|x-auth-request-.*|"
    r"x-authenticated-.*|x-user(-.*)?|x-consumer|x-openwebui-.*|x-authentik-.*|x-ms-client-.*|x-goog-authenticated-.*|"
    r"x-amzn-oidc-.*|(x-)?ssl-client-.*|x-original-.*|x-rewrite-.*|x-http-method.*|x-method-override"
)
FORGED: Final = ("f0rged", "203.0.113.")
CARRIERS: Final = {"x-a", "x-odd", "origin"}
"""Headers in which a forged text is believed by nobody: those that only hide others, and a page's own origin."""
LARGEST_HEAD: Final = 24 * 1024
LARGEST_BODY: Final = {"engine": 1024 * 1024 + 4096, "chat": 4 * 1024 * 1024 + 4096}


@dataclass(frozen=True)
class Finding:
    """One thing that must not have been seen."""

    verdict: Verdict
    why: str


@dataclass(frozen=True, kw_only=True)
class Right:
    """What a credential opens."""

    scopes: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    """Names as the engine knows them."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What is true of the gateway that is attacked."""

    rights: Mapping[Credential, Right]
    hosts: frozenset[str]
    origins: frozenset[str]
    keys: frozenset[str]
    """Every key of the gateway: none may be seen behind it."""
    client: str = "127.0.0.1"

    def credentials(self) -> set[str]:
        """The keys as they are and as Basic would carry them (base64 has three phases)."""
        out = set(self.keys)
        for key in self.keys:
            for ahead in range(3):
                coded = base64.b64encode(b" " * ahead + key.encode()).decode()
                out.add(coded[4:-4])
        return out


def identity(seen: Seen) -> tuple[int, Credential, bool] | None:
    """Attack number, credential and whether it is the hidden second request; None when it bears no mark."""
    marks = [value for name, value in seen.fields if name.lower() == ID.decode().lower()]
    found = re.match(r"([nvwNVW])(\d{5})\b", marks[0]) if marks else None
    if not found:
        return None
    return int(found[2]), Credential(found[1].lower()), found[1].isupper()


def judge(seen: Seen, rules: Rules, listener: Listener = "https") -> list[Finding]:
    """Everything wrong with one request that reached a server behind the gateway."""
    return [*_bypasses(seen, rules), *(_spoofs(seen, rules, listener) if seen.upstream != "decoy" else ())]


def readings(target: str) -> set[str]:
    """The paths that servers may make of a target: as it is, decoded once and twice, and each of them cleaned."""
    path = target.partition("?")[0]
    out = {path}
    for text in (path, unquote(path), unquote(unquote(path))):
        bare = re.sub(r";[^/]*", "", text.replace("\\", "/").partition("#")[0])
        for one in {text, bare}:
            clean = re.sub("/+", "/", posixpath.normpath(one or "/"))
            out |= {one, clean + "/" if one.endswith("/") and clean != "/" else clean}
    return out


def _bypasses(seen: Seen, rules: Rules) -> Iterator[Finding]:
    def bypass(why: str) -> Finding:
        return Finding("bypass", f"{seen.upstream} saw {why}")

    who = identity(seen)
    line = f"{seen.method} {seen.target[:120]}"
    if seen.upstream == "decoy":
        yield bypass(line)
        return
    for fault in seen.faults:
        if fault not in ("cut", "it never ended"):
            yield bypass(fault)
    if len(seen.head) > LARGEST_HEAD:
        yield bypass(f"a head of {len(seen.head)} bytes")
    if len(seen.body) > LARGEST_BODY[seen.upstream]:
        yield bypass(f"a body of {len(seen.body)} bytes")
    if seen.values("Upgrade") and not seen.target.startswith("/ws/"):
        yield bypass(f"an upgrade on {line}")
    if seen.upstream == "engine":
        yield from (bypass(why) for why in _engine(seen, rules, who))
    else:
        yield from (bypass(why) for why in _chat(seen, rules))


def _engine(seen: Seen, rules: Rules, who: tuple[int, Credential, bool] | None) -> Iterator[str]:
    line = f"{seen.method} {seen.target[:120]}"
    if who is None and (seen.method, seen.target) in OWN and not seen.body:
        return
    if who is None:
        yield f"{line} from nobody knows whom"
        return
    _, credential, hidden = who
    right = Right() if hidden else rules.rights[credential]
    for path in readings(seen.target):
        scope = ENGINE.get((seen.method, path))
        if scope is None:
            yield f"{line} (read as {path}), which is no route"
            return
        if scope not in right.scopes:
            yield f"{line} without the scope {scope}"
            return
    if seen.method == "POST" and "cut" not in seen.faults:
        yield from _models(seen, right)


def _models(seen: Seen, right: Right) -> Iterator[str]:
    """Every model that any reader could find in the body."""
    try:
        document = json.loads(seen.body.decode(), object_pairs_hook=_Pairs, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        yield f"a body that is no JSON: {seen.body[:60]!r}"
        return
    if not isinstance(document, _Pairs):
        yield f"a body that is no object: {seen.body[:60]!r}"
        return
    names = {"model", "name"} if seen.target == "/api/show" else {"model"}
    found = [value for name, value in document.pairs if name.casefold() in names]
    for model in found:
        if not isinstance(model, str) or model not in right.models:
            yield f"the model {model!r:.80}, which this key may not use"
    if not found:
        yield f"no model in {seen.body[:60]!r}"
    if any(name.lower() == "content-encoding" and value.lower() != "identity" for name, value in seen.fields):
        yield "a coded body"


@dataclass(frozen=True)
class _Pairs:
    pairs: list[tuple[str, Any]]


def _chat(seen: Seen, rules: Rules) -> Iterator[str]:
    line = f"{seen.method} {seen.target[:120]}"
    for path in sorted(readings(seen.target)):
        if not any(methods.fullmatch(seen.method) and pattern.fullmatch(path) for methods, pattern in CHAT):
            yield f"{line} (read as {path}), which is no route"
            return
        if NEVER.match(path.lower()):
            yield f"{line} (read as {path}), which must never be reached"
            return
    if seen.target.startswith("/ws/") and any(origin not in rules.origins for origin in seen.values("Origin")):
        yield f"a socket opened by {seen.values('Origin')}"


def _spoofs(seen: Seen, rules: Rules, listener: Listener) -> Iterator[Finding]:
    def spoofed(why: str) -> Finding:
        return Finding("spoofed", f"{seen.upstream} saw {why}")

    text = seen.head.decode("latin-1")
    for credential in rules.credentials():
        if credential in text:
            yield spoofed("a key of the gateway")
            break
    if identity(seen) is None:
        return  # the gateway's own question
    truth = {
        "x-forwarded-for": {rules.client},
        "x-forwarded-proto": {"http" if listener == "inner" else "https"},
        "x-forwarded-host": rules.hosts,
    }
    for name, value in seen.fields:
        plain = re.sub(r"[-_.]+", "-", name.lower()).strip("-")
        if name.lower() in truth and value in truth[name.lower()]:
            continue
        if CLAIMS.fullmatch(plain) or (name.lower() not in CARRIERS and any(mark in value for mark in FORGED)):
            yield spoofed(f"{name}: {value[:80]}")
    if any(mark in seen.line[0].decode("latin-1") + seen.target for mark in FORGED):
        yield spoofed(f"a forged target {seen.target[:80]}")
    for name, least in (("Host", 1), ("X-Forwarded-For", 1), ("X-Forwarded-Proto", 1), ("X-Forwarded-Host", 0)):
        count = len(seen.values(name))
        if not least <= count <= 1:
            yield spoofed(f"{name} {count} times")
    if not set(seen.values("Host")) <= rules.hosts:
        yield spoofed(f"Host: {seen.values('Host')}")


def leaks(data: bytes, rules: Rules) -> list[Finding]:
    """What must not stand in an answer: the gateway's own pages, a key, a licence for foreign pages."""
    out = []
    if any(mark in data for mark in (b"# HELP ", b'"apps":', b"heap profile:", b'"cmdline"')):
        out.append(Finding("bypass", "the gateway told of itself"))
    if any(key.encode() in data for key in rules.keys):
        out.append(Finding("spoofed", "a key came back in an answer"))
    for allowed in re.findall(rb"(?i)access-control-allow-origin: *([^\r\n]+)", data):
        if allowed.decode("latin-1") not in rules.origins:
            out.append(Finding("bypass", f"pages of {allowed.decode('latin-1')} may read answers"))
    return out


def count(findings: Iterable[Finding], verdict: Verdict) -> int:
    """How many findings are of a verdict."""
    return sum(finding.verdict == verdict for finding in findings)
