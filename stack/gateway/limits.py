"""What one address may do, as the gateway's handlers read it. Pure."""

from __future__ import annotations

from typing import Final

from stack.config import gateway as model
from stack.config.units import seconds_text
from stack.gateway import caddy

READS: Final = 4  # the chat UI's reads, as many times as its other requests


def rate(settings: model.Rate) -> caddy.Rate:
    """A token bucket."""
    return caddy.Rate(events=settings.events, per=seconds_text(settings.per), burst=settings.burst)


def failures(settings: model.Limits, statuses: list[int] | None = None) -> caddy.Failures:
    """The bucket of answers that are failures, and the ban behind it."""
    return caddy.Failures(
        rate=rate(settings.failures),
        statuses=statuses,
        ban=seconds_text(settings.ban),
        longest_ban=seconds_text(settings.longest_ban),
    )


def addresses(settings: model.Limits, zone: str) -> caddy.Addresses:
    """For requests that have not shown a valid key."""
    return caddy.Addresses(zone=zone, rate=rate(settings.api), failures=failures(settings))


def pages(settings: model.Limits) -> caddy.Limit:
    """For the chat UI."""
    return caddy.Limit(zone="chat", rate=rate(settings.chat))


def reads(settings: model.Limits) -> caddy.Limit:
    """For what the chat UI's pages read: up to 28 questions each at once, and a team often shares one address."""
    chat = settings.chat
    many = chat.model_copy(update={"events": chat.events * READS, "burst": chat.burst * READS})
    return caddy.Limit(zone="chat_reads", rate=rate(many))


def static() -> caddy.Limit:
    """For the chat UI's static files: a page that is new to a browser asks for some two hundred at once."""
    return caddy.Limit(zone="static", rate=caddy.Rate(events=200, per="1s", burst=1000))


def services(settings: model.Limits) -> caddy.Limit:
    """For services of one's own that are open without a key."""
    return caddy.Limit(zone="services", rate=rate(settings.chat))


def sign_in(settings: model.Limits) -> caddy.Limit:
    """For attempts to sign in to the chat UI, which says 400 to a wrong password."""
    return caddy.Limit(zone="sign_in", rate=rate(settings.sign_in), failures=failures(settings, [400, 401, 403]))
