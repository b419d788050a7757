"""The consumers file: who may use the API. It holds hashes of keys and passwords, never one of them. Pure.

Kept apart from the gateway's configuration: the gateway follows changes of this file by itself, so that a new key or
limit touches nobody else's stream.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from math import ceil

from stack.config.access import CHAT_CONSUMER, LOAD_CONSUMER, MOST_MEBIBYTES, MOST_SECONDS, Consumer, Credentials
from stack.config.gateway import Rate
from stack.config.units import mebibytes, seconds
from stack.parts import ServedModel

FORMAT = 1
MOST = 100_000  # requests a minute that the file can say, and a configuration for one consumer
MANY = {CHAT_CONSUMER, LOAD_CONSUMER}  # those behind whom many people stand: the usual rate is one person's
# Least and most of each number; beyond them the gateway refuses the file as a whole.
BOUNDS = {
    "requests_per_minute": (1, MOST),
    "burst": (0, MOST),
    "concurrent_streams": (1, 100_000),
    "tokens_per_minute": (1, 1_000_000_000_000),
    "tokens_per_day": (1, 1_000_000_000_000),
    "max_output_tokens": (1, 1_000_000_000_000),
    "max_body": (1, MOST_MEBIBYTES * 1024 * 1024),
    "max_duration": (1, MOST_SECONDS),
}


def render(
    consumers: Sequence[Consumer],
    credentials: Mapping[str, Credentials],
    models: Sequence[ServedModel],
    *,
    default: Rate,
) -> str:
    """The file's text; `default` is the rate of consumers that name none of their own, except `MANY`."""
    entries = [_consumer(consumer, credentials[consumer.name], models, default) for consumer in consumers]
    return json.dumps({"version": FORMAT, "consumers": entries}, indent=2)


def _allowed(names: Sequence[str], models: Sequence[ServedModel]) -> list[str]:
    """The models' own names: who may use a model by one of its names may use it by all of them."""
    return ["*"] if "*" in names else [m.name for m in models if not {m.name, *m.aliases}.isdisjoint(names)]


def _rate(consumer: Consumer, default: Rate) -> tuple[int | None, int | None]:
    """Requests a minute, and how many more at once. The people behind the chat are limited one by one, not together."""
    if consumer.requests_per_minute is None and consumer.name in MANY:
        return None, None
    return (
        consumer.requests_per_minute or min(default.a_minute, MOST),
        default.burst if consumer.burst is None else consumer.burst,
    )


def _key(key: str, expires: str | None) -> dict[str, str | None]:
    return {"sha256": hashlib.sha256(key.encode()).hexdigest(), "expires": expires}


def _consumer(
    consumer: Consumer, credentials: Credentials, models: Sequence[ServedModel], default: Rate
) -> dict[str, object]:
    keys = [_key(credentials.key, None)] if credentials.key else []
    # Without an end the one before would open the gateway for ever. A rotation that was interrupted has one key twice.
    if credentials.previous and credentials.previous_until and credentials.previous != credentials.key:
        keys.append(_key(credentials.previous, credentials.previous_until))
    requests, burst = _rate(consumer, default)
    return {
        "name": consumer.name,
        "keys": keys,
        "password_bcrypt": credentials.password_bcrypt,
        "scopes": [str(scope) for scope in consumer.scopes],
        "models": _allowed(consumer.models, models),
        "requests_per_minute": requests,
        "burst": burst,
        "concurrent_streams": consumer.concurrent_streams,
        "tokens_per_minute": consumer.tokens_per_minute,
        "tokens_per_day": consumer.tokens_per_day,
        "max_output_tokens": consumer.max_output_tokens,
        "max_body": mebibytes(consumer.max_body) * 1024 * 1024 if consumer.max_body else None,
        "max_duration": ceil(seconds(consumer.max_duration)) if consumer.max_duration else None,
        "expires": consumer.expires.isoformat() if consumer.expires else None,
    }
