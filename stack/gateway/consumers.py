"""The consumers file: who may use the API. It holds hashes of the keys, never a key. Pure.

Kept apart from the gateway's configuration: the gateway follows changes of this file by itself, so that a new key or
limit touches nobody else's stream.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from stack.config.access import Consumer
from stack.parts import ServedModel

FORMAT = 1


def render(consumers: Sequence[Consumer], keys: Mapping[str, str], models: Sequence[ServedModel]) -> str:
    """The file's text; `keys` maps each consumer's name to its key."""
    entries = [_consumer(consumer, keys[consumer.name], models) for consumer in consumers]
    return json.dumps({"version": FORMAT, "consumers": entries}, indent=2)


def _allowed(names: Sequence[str], models: Sequence[ServedModel]) -> list[str]:
    """The models' own names: who may use a model by one of its names may use it by all of them."""
    return ["*"] if "*" in names else [m.name for m in models if not {m.name, *m.aliases}.isdisjoint(names)]


def _consumer(consumer: Consumer, key: str, models: Sequence[ServedModel]) -> dict[str, object]:
    return {
        "name": consumer.name,
        "keys": [{"sha256": hashlib.sha256(key.encode()).hexdigest(), "expires": None}],
        "scopes": [str(scope) for scope in consumer.scopes],
        "models": _allowed(consumer.models, models),
        "requests_per_minute": consumer.requests_per_minute,
        "concurrent_streams": consumer.concurrent_streams,
        "expires": consumer.expires.isoformat() if consumer.expires else None,
    }
