"""Where the load goes, and as whom: exactly what `make env` prints, and a key beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

EVAL: Final = 'run eval "$(make -s env)" first, or set it yourself'
KEY: Final = 'export OPENAI_API_KEY="$(make -s key)", or another one that you have'


@dataclass(frozen=True, kw_only=True)
class Target:
    """A deployment with an OpenAI-compatible API, and a key for it."""

    url: str
    """Its origin, https://localhost:8443 for example, or with a prefix; without the /v1 that clients are given."""
    key: str = field(repr=False)
    ca: Path | None = None
    """A file with the authority that signed its certificate; None: the system's."""
    model: str = "default"
    embedding_model: str = "embedding"


def from_environment(environment: Mapping[str, str]) -> Target:
    """The target that `OPENAI_BASE_URL`, `OPENAI_API_KEY`, `SSL_CERT_FILE`, `LOAD_MODEL`, `LOAD_EMBEDDING_MODEL` name.

    Raises:
        ValueError: a sentence for people: what is missing or wrong, and what to do.
    """
    given = {name: value.strip() for name, value in environment.items()}
    url = given.get("OPENAI_BASE_URL", "")
    if not url:
        raise ValueError(f"OPENAI_BASE_URL is not set, so nobody knows where the load should go: {EVAL}")
    key = given.get("OPENAI_API_KEY", "")
    if not key:
        raise ValueError(f"OPENAI_API_KEY is not set, and without a key every request is refused: {KEY}")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError("OPENAI_API_KEY has a space, a line break or a letter that no key has: copy it again")
    ca = Path(given["SSL_CERT_FILE"]) if given.get("SSL_CERT_FILE") else None
    if ca is not None and not ca.is_file():
        raise ValueError(f"SSL_CERT_FILE={ca} is no file: {EVAL}, or leave it out for a public certificate")
    return Target(
        url=origin(url), key=key, ca=ca, model=given.get("LOAD_MODEL") or Target.model,
        embedding_model=given.get("LOAD_EMBEDDING_MODEL") or Target.embedding_model,
    )  # fmt: skip


def origin(url: str) -> str:
    """An address without the /v1 at its end. Raises ValueError, in words, for one that cannot be asked."""
    wanted = "it should look like https://llm.example.com/v1"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"{url!r} is no address, its port is not a number from 1 to 65535: {wanted}") from None
    if parts.username or parts.password:
        raise ValueError(
            f"the address of {parts.hostname} has a user or password in it: leave it out, the key is enough"
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or any(one.isspace() for one in url):
        raise ValueError(f"{url!r} is no address: {wanted}")
    if parts.query or parts.fragment:
        raise ValueError(f"{url!r} has more than a path behind the name: {wanted}")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1').rstrip('/')}"
