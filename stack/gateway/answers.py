"""Routes that end the search, and the gateway's own refusals. Pure."""

from __future__ import annotations

from stack.gateway import caddy
from stack.gateway.caddy import Match, Route


def route(match: Match, *handlers: caddy.Handler) -> Route:
    """What matches is answered here and nowhere else."""
    return Route(match=[match], handle=list(handlers), terminal=True)


def error(status: int, code: str, message: str) -> caddy.LlmError:
    """A refusal in OpenAI's shape."""
    return caddy.LlmError(status=status, code=code, message=message)


def not_found() -> caddy.LlmError:
    """404."""
    return error(404, "not_found", "There is nothing at this address.")


def not_allowed(methods: list[str]) -> list[caddy.Handler]:
    """405, with the methods that are."""
    allow = caddy.Headers(response=caddy.HeaderOps(set={"Allow": [", ".join(methods)]}))
    return [allow, error(405, "method_not_allowed", "This method is not allowed here.")]
