"""A stack as the clients' configurations are rendered for in tests."""

from __future__ import annotations

from typing import Final

from ops.clients.shape import Context

CONTEXT: Final = Context(
    api="https://localhost:8443/v1",
    native="https://localhost:8443/ollama",
    key="$(make -s key)",
    chat="default",
    fast="fast",
    embedding="embedding",
    window=4096,
    certificate="/home/ann/bundle.pem",
    everywhere=False,
)
