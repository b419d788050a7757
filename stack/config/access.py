"""Who may use the API, for what and how much. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from stack.config.strict import Strict, words
from stack.config.texts import ModelRef, Moment, Name
from stack.config.units import Duration, Size, mebibytes, seconds

CHAT_CONSUMER: Final = "chat"  # Open WebUI's own key: the chat is a consumer of the gateway like anyone
LOAD_CONSUMER: Final = "load"  # what `make load` comes as, for as long as it runs

# The gateway refuses a file with more as a whole, and nobody's key is known.
MOST_SECONDS: Final = 7 * 24 * 3600
MOST_MEBIBYTES: Final = 1024 * 1024


def _answer_time(text: str) -> str:
    if seconds(text) > MOST_SECONDS:
        raise ValueError("an answer may take at most 7d; leave it out for no limit")
    return text


def _body(text: str) -> str:
    if mebibytes(text) > MOST_MEBIBYTES:
        raise ValueError("a body may have at most 1TiB; leave it out for gateway.maxBody")
    return text


class Scope(StrEnum):
    """What a key opens at the gateway."""

    CHAT = "chat"
    EMBEDDINGS = "embeddings"
    NATIVE = "native"
    SHOW = "show"
    SERVICES = "services"
    ADMIN = "admin"


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What opens the gateway for one consumer, all secret but the time; one that has nothing cannot come in."""

    key: str | None = None
    previous: str | None = None
    """The key before, while a rotation lasts."""
    previous_until: str | None = None
    """Until when that one works, RFC 3339."""
    password_bcrypt: str | None = None
    """Hash of a password of its own choice."""


class Consumer(Strict):
    """Somebody with a key of their own."""

    name: Name
    """Its key is the Pulumi secret `private-llm:key-<name>` (`make key NAME=<name>` makes it)."""
    scopes: tuple[Annotated[Scope, words(Scope)], ...] = Field(
        default=(Scope.CHAT, Scope.EMBEDDINGS), min_length=1, strict=False
    )
    """What the key opens: `chat`, `embeddings`, `native` (Ollama's own API), `show` (its model details, which hold
    system prompts), `services` (services of your own), `admin` (the admin listener)."""
    models: tuple[ModelRef, ...] = Field(default=("*",), min_length=1, strict=False)
    """Models or aliases that it may use; `*` is all of them."""
    requests_per_minute: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Requests a minute on average before 429; unset is the rate of `gateway.limits.api`, and no limit for `chat`,
    whose people are limited one by one."""
    burst: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """Requests that may come at once on top of that; unset is the burst of `gateway.limits.api`."""
    concurrent_streams: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Answers that may run at the same time before 429; unset is no limit."""
    tokens_per_minute: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Tokens (prompt and answer) in any minute before 429; unset is no limit."""
    tokens_per_day: Annotated[int, Field(ge=1, le=1_000_000_000_000)] | None = None
    """Tokens (prompt and answer) in any 24 hours before 429; unset is no limit."""
    max_output_tokens: Annotated[int, Field(ge=1, le=1_048_576)] | None = None
    """Longest answer in tokens: requests for more, or for no certain length, get this; unset is no limit."""
    max_body: Annotated[Size, AfterValidator(_body)] | None = None
    """Largest request body, at most `gateway.maxBody`; unset is that."""
    max_duration: Annotated[Duration, AfterValidator(_answer_time)] | None = None
    """Longest time for one answer (at most 7d), which is then ended; unset is no limit."""
    expires: Moment | None = None
    """When the key stops working, with its time zone, for example 2027-01-31T00:00:00Z."""


def load_consumer(expires: str) -> Consumer:
    """Who `make load` is: all that may be measured, every model, no limit of its own; gone at a time, whatever happens.

    Raises pydantic.ValidationError for a time without a zone.
    """
    scopes = (Scope.CHAT, Scope.EMBEDDINGS, Scope.NATIVE)
    return Consumer.model_validate({"name": LOAD_CONSUMER, "scopes": scopes, "expires": expires})
