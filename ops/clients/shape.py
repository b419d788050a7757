"""What a client is told, and what a description of an app consists of. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Context:
    """One stack as a client meets it."""

    api: str
    """OpenAI-compatible base URL, ends with /v1."""
    native: str
    """Ollama-compatible base URL, ends with /ollama."""
    key: str
    """Shell words that print the key, or say where it is."""
    chat: str
    """Name of the model that chats."""
    fast: str
    """Name of a smaller model for completions while typing; may be the same."""
    embedding: str | None
    """Name of the model that embeds, if there is one."""
    window: int
    """Tokens of context."""
    certificate: str | None
    """File of the authority to trust; None where systems know it already."""
    everywhere: bool
    """Whether the address can be reached from the internet."""


@dataclass(frozen=True)
class Step:
    """A file to write, or words to type."""

    where: str
    text: str


@dataclass(frozen=True, kw_only=True)
class App:
    """An app, and how it is told about a stack."""

    name: str
    title: str
    steps: Callable[[Context], Sequence[Step]]
    notes: Callable[[Context], Sequence[str]] = lambda _context: ()


def environment(context: Context, *names: str) -> Step:
    """The shell settings for programs that read the given variables: `key`, `base` and what trusts our authority."""
    values = {"OPENAI_API_KEY": context.key, "OPENAI_BASE_URL": context.api, "OPENAI_API_BASE": context.api}
    lines = [f'export {name}="{values[name]}"' for name in names]
    if context.certificate:
        lines.append(f'export SSL_CERT_FILE="{context.certificate}"')
    return Step("in the shell", "\n".join(lines))
