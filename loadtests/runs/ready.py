"""Is there something to measure? The target is asked for its models and for one answer before any load is made.

What is wrong is one sentence with the way out of it: a run that only measures its own mistake is no run. It never has
the key in it, whatever a server says.

Runs under gevent, which must have patched the process: only then is the time for the list kept whatever comes.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import gevent
import numpy as np

from loadtests.analysis import metrics
from loadtests.client.secret import Secrets
from loadtests.client.stream import Client, Reply, Request
from loadtests.records import Outcome
from loadtests.target import Target
from loadtests.workload.prompts import Measured, Ruler, filler, ruler

LIST_S: Final = 10.0
LIST: Final = 4 << 20
"""Bytes of a list of models, more than any has."""
WARM_TOKENS: Final = 16
QUESTIONS: Final = (40, 160)
"""Words. The first answer may load the model; the last says how long one takes when nobody else asks. Both say how many
tokens a word is."""
SAID: Final = 160
"""Characters of what a server said."""
AGAIN: Final = 'run it after eval "$(make -s env)"'


class NotReady(Exception):
    """There is nothing to measure; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """What is known of a target before the load."""

    models: tuple[str, ...]
    loading_s: float
    """How much longer the first answer took: a model that was not in memory was loaded."""
    first_s: float
    """To the first token (or the whole answer, without tokens) when nobody else asks."""
    token_s: float
    """For each token after it; 0 without."""
    ruler: Ruler | None
    """How many tokens a word is for this model; None where the server does not say."""

    def answer_s(self, tokens: float) -> float:
        """How long an answer of so many tokens takes when nobody else asks (seconds)."""
        return self.first_s + tokens * self.token_s


def check(target: Target, *, embedding: bool = False, retrieves: bool = False, timeout: float = 120.0) -> Ready:
    """Asks for the list of models, then for short answers of the model (or embeddings).

    Args:
        target: where, and as whom.
        embedding: the load asks for vectors alone.
        retrieves: it asks for vectors too.
        timeout: of one answer (seconds).

    Raises:
        NotReady: what does not work, and what to do.
    """
    models = _models(target)
    model = target.embedding_model if embedding else target.model
    named = {model: "LOAD_EMBEDDING_MODEL=… (`make load` takes MODEL=…)" if embedding else "MODEL=…"}
    if retrieves and not embedding:
        named[target.embedding_model] = "LOAD_EMBEDDING_MODEL=…"
    for name, word in named.items():
        if name not in models:
            there = Secrets(target.key).said(", ".join(sorted(models))) or "none"
            raise NotReady(
                f"the model {name!r} is not there for this key; there are: {there}. "
                f"Name one with {word}, or add it to the stack"
            )
    with Client(target.url, key=target.key, ca=target.ca, total_s=timeout, idle_s=timeout) as client:
        replies = [_answer(client, target, model, words, embedding, timeout) for words in QUESTIONS]
    first, last = (reply.record for reply in replies)
    return Ready(
        models=tuple(models), loading_s=max(0.0, metrics.e2e(first) - metrics.e2e(last)),
        first_s=metrics.ttft(last) or metrics.e2e(last), token_s=metrics.tpot(last) or 0.0, ruler=_ruler(replies),
    )  # fmt: skip


def _ruler(replies: Sequence[Reply]) -> Ruler | None:
    counts = [reply.record.input_tokens for reply in replies]
    seen = [
        Measured(words, 1, count) for words, count in zip(QUESTIONS, counts, strict=True) if count
    ]  # fmt: skip
    try:
        return ruler(seen)
    except ValueError:
        return None


def _models(target: Target) -> list[str]:
    secrets = Secrets(target.key)
    try:
        status, body = _get(target, f"{urlsplit(target.url).path.rstrip('/')}/v1/models")
    except (OSError, http.client.HTTPException) as error:
        raise NotReady(f"{target.url} {_unreachable(error, secrets)}") from None
    if len(body) > LIST:
        raise NotReady(
            f"{target.url} has no OpenAI-compatible API: GET /v1/models answered more than {LIST >> 20} MiB; "
            "check the address"
        )
    said = _said(body, secrets)
    refused = {
        401: f"does not accept the key in OPENAI_API_KEY (401): {AGAIN}; `make keys` shows which keys are valid",
        403: f"refuses this key (403: {said}): `make keys` shows what it may do",
        429: f"is at a limit already (429: {said}): wait, or use a key without limits, as `make load` does",
    }
    try:
        if status == 200:
            return [str(one["id"]) for one in json.loads(body)["data"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    usual = f"has no OpenAI-compatible API: GET /v1/models answered {status} with {said}; check the address"
    raise NotReady(f"{target.url} {refused.get(status, usual)}")


def _unreachable(error: Exception, secrets: Secrets) -> str:
    """What to say of an address that gave no answer: the most special error first."""
    match error:
        case ssl.SSLCertVerificationError():
            return (
                f"has a certificate that is not accepted ({error.verify_message}): SSL_CERT_FILE must name the "
                f"authority that signed it; {AGAIN}, which sets it"
            )
        case ssl.SSLError():
            return f"does not speak TLS ({error.reason or error}): is the port right, or is it http://?"
        case socket.gaierror():
            return "has a name that nobody here knows: check the address, or the name service"
        case TimeoutError():
            return f"did not answer within {LIST_S:g} s: is the address right, and does a firewall let it through?"
        case ConnectionRefusedError():
            return "refuses connections, nothing listens there: is the stack up (`make status`), and the port right?"
    said = secrets.said(str(error))[:SAID] or type(error).__name__
    return f"does not answer as an API does ({said}): is it https:// in place of http://, or another program's port?"


def _get(target: Target, path: str) -> tuple[int, bytes]:
    parts = urlsplit(target.url)
    host = parts.hostname or ""
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=target.ca)
        connection = http.client.HTTPSConnection(host, parts.port, timeout=LIST_S, context=context)
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=LIST_S)
    # The connection's own limit is one of silence: a byte a second would never end.
    with closing(connection), gevent.Timeout(LIST_S, TimeoutError):
        connection.request("GET", path, headers={"Authorization": f"Bearer {target.key}"})
        answer = connection.getresponse()
        return answer.status, answer.read(LIST + 1)


def _answer(client: Client, target: Target, model: str, words: int, embedding: bool, timeout: float) -> Reply:
    # New words in every run: the server may have kept those of the last one.
    text = filler(words, np.random.default_rng())
    content: dict[str, Any] = {"input": [text]}
    if not embedding:
        content = {
            "messages": [{"role": "user", "content": text}], "max_tokens": WARM_TOKENS,
            "stream": True, "stream_options": {"include_usage": True},
        }  # fmt: skip
    path = "/v1/embeddings" if embedding else "/v1/chat/completions"
    body = json.dumps({"model": model, **content}).encode()
    reply = client.ask(Request(path=path, body=body, model=model, vectors=1 if embedding else None))
    record = reply.record
    if record.outcome is Outcome.OK:
        return reply
    said = record.error[:SAID]
    why = {
        Outcome.LIMIT: f"hit a limit (429): wait, or use a key without limits, as `make load` does. {said}",
        Outcome.TIMEOUT: f"got no answer within {timeout:g} s: the engine hangs, or TIMEOUT=… is too short for it",
        Outcome.TRUNCATED: f"was cut off ({said}): see `make logs`",
    }  # fmt: skip
    usual = f"failed ({record.status or 'no answer'}: {said or 'nothing'}): see `make logs`"
    raise NotReady(f"the first short question to {model!r} {why.get(record.outcome, usual)}")


def _said(body: bytes, secrets: Secrets) -> str:
    """A server's words, short enough for a line."""
    try:
        text = str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        text = body.decode(errors="replace")
    return secrets.said(text)[:SAID] or "nothing"
