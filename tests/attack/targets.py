"""What an attacker would like to reach, what it may hide behind, and bodies that do no harm if it gets there. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, Final

from tests.attack.traffic import Surface

NOBODY: Final = "no-such-model-000"  # a model that cannot exist: nothing happens even where a block is missing
FORBIDDEN: Final = "boss"  # exists; the attacker's key may not use it
CHAT: Final[dict[str, Any]] = {"model": "default", "messages": [{"role": "user", "content": "hello"}]}
PROMPT: Final[dict[str, Any]] = {"model": "default", "prompt": "hello"}
EMBED: Final[dict[str, Any]] = {"model": "embedding", "input": "hello"}
DIGEST: Final = "sha256:" + "0" * 64


@dataclass(frozen=True)
class Place:
    """A route and what a request for it looks like."""

    method: str
    path: str
    body: Any = None
    surface: Surface = "api"


BLOCKED_ENGINE: Final = (
    Place("POST", "/ollama/api/pull", {"model": NOBODY, "stream": False}),
    Place("POST", "/ollama/api/push", {"model": NOBODY, "stream": False}),
    Place("POST", "/ollama/api/create", {"model": NOBODY, "from": NOBODY}),
    Place("POST", "/ollama/api/copy", {"source": NOBODY, "destination": NOBODY}),
    Place("DELETE", "/ollama/api/delete", {"model": NOBODY}),
    Place("POST", f"/ollama/api/blobs/{DIGEST}", b""),
    Place("HEAD", f"/ollama/api/blobs/{DIGEST}"),
    Place("POST", "/ollama/api/show", {"model": NOBODY}),
    Place("GET", "/ollama/", None),
    Place("POST", "/ollama/v1/chat/completions", CHAT),
    Place("POST", "/api/pull", {"model": NOBODY}),
    Place("POST", "/v1/api/pull", {"model": NOBODY}),
    Place("POST", "/v1/key/generate", {"models": []}),
    Place("POST", "/key/generate", {"models": []}),
    Place("POST", "/v1/mcp-rest/test/connection", {"url": "http://<<decoy>>/"}),
    Place("POST", "/config/update", {"model": NOBODY}),
    Place("POST", "/model/new", {"model_name": NOBODY}),
    Place("POST", "/models/apply", {"url": "http://<<decoy>>/x.yaml"}),
    Place("POST", "/backends/apply", {"id": NOBODY}),
    Place("POST", "/v1/load_lora_adapter", {"lora_name": NOBODY, "lora_path": "/etc/passwd"}),
    Place("POST", "/v1/files", {"purpose": "x"}),
    Place("DELETE", f"/v1/models/{NOBODY}"),
    Place("POST", "/v1/audio/speech", {"model": NOBODY}),
)
BLOCKED_CHAT: Final = tuple(
    Place(method, path, body, "chat")
    for method, path, body in (
        ("POST", "/api/v1/functions/create", {"id": "x"}),
        ("POST", "/api/v1/functions/load/url", {"url": "http://<<decoy>>/x.py"}),
        ("POST", "/api/v1/tools/create", {"id": "x"}),
        ("POST", "/api/v1/tools/load/url", {"url": "http://<<decoy>>/x.py"}),
        ("POST", "/api/v1/skills/create", {"id": "x"}),
        ("POST", "/api/v1/pipelines/upload", {}),
        ("POST", "/api/v1/pipelines/add", {"url": "http://<<decoy>>/x.py"}),
        ("GET", "/api/v1/scim/v2/Users", None),
        ("POST", "/api/v1/scim/v2/Users", {"userName": "x"}),
        ("GET", "/docs", None),
        ("GET", "/openapi.json", None),
        ("POST", "/openai/config/update", {"OPENAI_API_BASE_URLS": ["http://<<decoy>>/"]}),
        ("POST", "/openai/chat/completions", CHAT),
        ("GET", "/openai/models", None),
        ("GET", "/api/v1/pipelines/list", None),
        ("POST", "/api/pipeline/filter", {}),
        ("GET", "/health/db", None),
    )
)
BLOCKED_OWN: Final = tuple(
    Place(method, path, body)
    for method, path, body in (
        ("GET", "/metrics", None),
        ("GET", "/live", None),
        ("GET", "/config/", None),
        ("POST", "/load", {}),
        ("POST", "/stop", {}),
        ("GET", "/id/x", None),
        ("GET", "/pki/ca/private-llm", None),
        ("GET", "/reverse_proxy/upstreams", None),
        ("GET", "/debug/pprof/heap", None),
        ("GET", "/debug/vars", None),
    )
)
BLOCKED: Final = (*BLOCKED_ENGINE, *BLOCKED_CHAT, *BLOCKED_OWN)

OPEN_ENGINE: Final = (
    Place("POST", "/v1/chat/completions", CHAT),
    Place("POST", "/v1/completions", PROMPT),
    Place("POST", "/v1/responses", {"model": "default", "input": "hello"}),
    Place("POST", "/v1/embeddings", EMBED),
    Place("POST", "/ollama/api/chat", CHAT | {"stream": False}),
    Place("POST", "/ollama/api/generate", PROMPT | {"stream": False}),
    Place("POST", "/ollama/api/embed", EMBED),
    Place("POST", "/ollama/api/embeddings", {"model": "embedding", "prompt": "hello"}),
    Place("GET", "/v1/models"),
    Place("GET", "/v1/models/default"),
    Place("GET", "/ollama/api/tags"),
    Place("GET", "/ollama/api/ps"),
    Place("GET", "/ollama/api/version"),
)
OPEN_CHAT: Final = tuple(
    Place(method, path, body, "chat")
    for method, path, body in (
        ("GET", "/", None),
        ("GET", "/auth", None),
        ("GET", "/c/0b3bd1c4-1111-4222-8333-444444444444", None),
        ("GET", "/static/favicon.png", None),
        ("GET", "/_app/version.json", None),
        ("GET", "/api/config", None),
        ("GET", "/api/models", None),
        ("GET", "/api/v1/auths/", None),
        ("GET", "/api/v1/users/user/settings", None),
        ("GET", "/api/v1/chats/", None),
        ("POST", "/api/v1/chats/new", {"chat": {}}),
        ("POST", "/api/chat/completions", CHAT),
    )
)
OPEN: Final = (*OPEN_ENGINE, *OPEN_CHAT)
WITH_BODY: Final = tuple(place for place in OPEN_ENGINE if place.body is not None)

# Folders of which anything below may be asked for: what a path may pretend to be under.
BEHIND: Final = {
    "api": ("/v1/models", "/ollama/api", "/v1/chat"),
    "chat": ("/static", "/_app", "/c", "/assets", "/api/v1/chats", "/api/v1/users", "/admin", "/cache", "/ws"),
}


def blocked(dice: Random) -> Place:
    """Anything that must not be reached."""
    return dice.choice(dice.choice((BLOCKED_ENGINE, BLOCKED_ENGINE, BLOCKED_CHAT, BLOCKED_OWN)))


def opened(dice: Random) -> Place:
    """Anything that may be reached, by the right credential."""
    return dice.choice(dice.choice((OPEN_ENGINE, OPEN_CHAT)))
