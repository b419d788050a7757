"""The consumers file: who may use the API. It holds hashes of the keys, never a key. Pure.

Kept apart from the gateway's configuration: the gateway follows changes of this file by itself, so that a new key or
limit touches nobody else's stream.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from stack.config.model import Consumer

FORMAT = 1


def render(consumers: Sequence[Consumer], keys: Mapping[str, str]) -> str:
    """The file's text; `keys` maps each consumer's name to its key."""
    return json.dumps(
        {"version": FORMAT, "consumers": [_consumer(consumer, keys[consumer.name]) for consumer in consumers]}, indent=2
    )


def _consumer(consumer: Consumer, key: str) -> dict[str, object]:
    return {
        "name": consumer.name,
        "keys": [{"sha256": hashlib.sha256(key.encode()).hexdigest(), "expires": None}],
        "scopes": [str(scope) for scope in consumer.scopes],
        "models": list(consumer.models),
        "requests_per_minute": consumer.requests_per_minute,
        "concurrent_streams": consumer.concurrent_streams,
        "expires": consumer.expires.isoformat() if consumer.expires else None,
    }
