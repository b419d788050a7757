"""One question through the gateway, as any client asks it: TLS verified, key from the stack's secrets, streamed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import requests

from ops import settings
from ops.errors import OpsError
from ops.pulumi import Pulumi, outputs

LIMIT: Final = (10, 600)  # seconds to connect, between two pieces of the answer (a model may have to load)


@dataclass(frozen=True)
class Answer:
    """What came, and how quickly (seconds since the request was sent)."""

    text: str
    tokens: int
    first_token_s: float
    total_s: float

    @property
    def rate(self) -> float:
        """Tokens a second after the first one."""
        span = self.total_s - self.first_token_s
        return (self.tokens - 1) / span if span > 0 and self.tokens > 1 else 0.0


def events(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The JSON events of a server-sent stream, until its end mark. Raises OpsError for an error event."""
    for line in lines:
        if not line.startswith(b"data:"):
            continue
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            return
        event: dict[str, Any] = json.loads(data)
        if "error" in event:
            raise OpsError(f"the model stopped with an error: {message(event)}")
        yield event


def message(body: Any) -> str:
    """The text in an OpenAI-shaped error."""
    error = body.get("error") if isinstance(body, dict) else None
    return str(error.get("message") if isinstance(error, dict) else error or body)


def refusal(status: int, text: str, model: str) -> str:
    """A gateway's answer in words, with what to do."""
    try:
        said = message(json.loads(text))
    except ValueError:
        said = text.strip()[:200]
    fixes = {
        401: "the gateway does not know this key: run `make up` (it writes the keys again)",
        403: f"consumer `default` may not do this: see its scopes and models in the configuration (model {model})",
        404: f"model {model} is not served: `make status` and the table of `make up` list the names",
        429: "too many requests at the same time: try again in a moment, or raise the consumer's limits",
        502: "the engine does not answer: `make status`, then `make logs S=ollama`",
        503: "the engine is not ready yet: try again in a moment, or `make logs S=ollama`",
        504: "the engine took too long: `make logs S=ollama`",
    }
    return (
        f"the gateway answered {status}: {said}\nfix: {fixes.get(status, '`make status`, then `make logs S=gateway`')}"
    )


def key(pulumi: Pulumi, consumer: str) -> str:
    """A consumer's API key. Raises OpsError with the names there are."""
    name = settings.key_name(consumer)
    known = settings.read(pulumi.file).names
    if name not in known:
        prefix = settings.key_name("")
        there = ", ".join(sorted(one.removeprefix(prefix) for one in known if one.startswith(prefix)))
        raise OpsError(
            f"there is no key for a consumer named {consumer}; there are: {there or 'none yet'}\n"
            f"fix: add it to consumers in {pulumi.file.name}, then `make up`"
        )
    return pulumi.call("config", "get", name).rstrip("\n")


def stream(pulumi: Pulumi, question: str, model: str, *, echo: bool = True) -> Answer:
    """Asks, printing tokens as they come. Raises OpsError in words."""
    url = (outputs(pulumi.export()).get("endpoints") or {}).get("api")
    if not url:
        raise OpsError(f"stack {pulumi.stack} is not up\nfix: `make up STACK={pulumi.stack}`")
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    headers = {"Authorization": f"Bearer {key(pulumi, 'default')}"}
    trust = str(settings.certificate_file(pulumi))
    started = time.monotonic()
    try:
        with requests.Session() as session:
            session.trust_env = False  # neither a proxy nor a ~/.netrc stands between this machine and its gateway
            answer = session.post(
                f"{api_base(str(url))}/chat/completions",
                json=body,
                headers=headers,
                stream=True,
                timeout=LIMIT,
                verify=trust,
            )
            if answer.status_code != requests.codes.ok:
                raise OpsError(refusal(answer.status_code, answer.text, model))
            return collect(events(answer.iter_lines(chunk_size=None)), started, echo=echo)
    except requests.exceptions.SSLError as trouble:
        raise OpsError(
            f"{url} does not show this stack's certificate: {trouble}\n"
            "fix: something else listens there (`make status`)?"
        ) from trouble
    except requests.exceptions.ConnectionError as trouble:
        raise OpsError(f"nothing answers at {url}\nfix: `make status`; `make up` starts what is stopped") from trouble
    except requests.exceptions.Timeout as trouble:
        raise OpsError(f"{url} gave no answer within {LIMIT[1]} s\nfix: `make logs S=ollama`") from trouble


def api_base(url: str) -> str:
    """The base URL that OpenAI clients take: it ends with /v1."""
    return f"{url.rstrip('/').removesuffix('/v1')}/v1"


def collect(stream_events: Iterable[dict[str, Any]], started: float, *, echo: bool) -> Answer:
    """Gathers the answer; tokens are counted by the server where it says so, else by pieces."""
    pieces: list[str] = []
    tokens, first = 0, 0.0
    for event in stream_events:
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            piece = delta.get("content") or delta.get("reasoning") or ""
            if piece:
                first = first or time.monotonic() - started
                pieces.append(piece)
                if echo:
                    sys.stdout.write(piece)
                    sys.stdout.flush()
        tokens = int((event.get("usage") or {}).get("completion_tokens") or tokens)
    if not pieces:
        raise OpsError("the model answered with nothing\nfix: ask again; `make logs S=ollama` shows what it did")
    return Answer("".join(pieces), tokens or len(pieces), first, time.monotonic() - started)
