"""Whether the platform really answers, as a client meets it: TLS verified, with a key."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import requests

from ops import ask, settings
from ops.progress import Say
from ops.pulumi import Pulumi
from stack.config.model import Platform

PATIENCE: Final = 10.0  # seconds for the gateway to call itself healthy
PAUSE: Final = 0.5  # seconds between two questions
START: Final = 300.0  # seconds for a container that Pulumi found running, but only just, to become healthy
LIMIT: Final = (3, 10)  # seconds to connect, to answer
CONSUMER: Final = "default"


def started(look: Callable[[], Sequence[Mapping[str, Any]]], say: Say, patience: float = START) -> None:
    """Waits for containers that are still starting: `pulumi up` waits for those it makes, not for those it starts.

    `look` gives the stack's containers as `docker ps` shows them. What is unhealthy in the end is for others to tell.
    """
    until, told = time.monotonic() + patience, False
    while names := [str(row["Names"]) for row in look() if "health: starting" in str(row.get("Status"))]:
        if not told:
            say(f"waiting for {', '.join(names)} to start...")
            told = True
        if time.monotonic() > until:
            return
        time.sleep(PAUSE)


def trouble(pulumi: Pulumi, platform: Platform, urls: Mapping[str, Any], say: Say) -> str | None:
    """What is wrong with a platform that was just deployed, with what to do; None when it answers."""
    health, api = str(urls.get("health") or ""), str(urls.get("api") or "")
    if not health or not api:
        return "the stack has no addresses\nfix: `make up` again"
    if reason := out_of_reach(pulumi, health):
        say(f"not checked from here: {reason}")
        return None
    with requests.Session() as session:
        session.trust_env = False  # neither a proxy nor a ~/.netrc stands between this machine and its gateway
        session.verify = str(settings.certificate_file(pulumi))
        if said := wait(session, health, PATIENCE):
            return said
        if not usable(platform):
            return None
        session.headers["Authorization"] = f"Bearer {ask.key(pulumi, CONSUMER)}"
        return models(session, f"{ask.api_base(api)}/models")


def out_of_reach(pulumi: Pulumi, url: str) -> str | None:
    """Why the gateway cannot be asked from this machine although all may be well, or None."""
    host = urlsplit(url).hostname or ""
    if pulumi.tools.docker.remote:
        return f"Docker is on another machine ({pulumi.tools.docker.host})"
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return f"this machine does not know the name {host}"
    return None


def usable(platform: Platform) -> bool:
    """Whether the configuration has the consumer that asks, and it has not expired."""
    return any(
        consumer.name == CONSUMER and (consumer.expires is None or consumer.expires > datetime.now(UTC))
        for consumer in platform.consumers
    )


def wait(session: requests.Session, url: str, patience: float) -> str | None:
    """Asks until the answer is 200; what is wrong when it is not after `patience` seconds."""
    until = time.monotonic() + patience
    while True:
        said = once(session, url)
        if said is None or time.monotonic() > until:
            return said
        time.sleep(PAUSE)


def once(session: requests.Session, url: str) -> str | None:
    """What is wrong with one answer, or None."""
    try:
        answer = session.get(url, timeout=LIMIT)
    except requests.exceptions.SSLError as error:
        return f"{url} does not show this stack's certificate: {error}\nfix: see what else listens there"
    except requests.RequestException as error:
        return f"{url} gives no answer: {error}\nfix: `make status`, then `make logs S=gateway`"
    if answer.status_code == requests.codes.ok:
        return None
    said = answer.text.strip()[:200]
    return f"{url} answers {answer.status_code}: {said}\nfix: `make status`, then `make logs S=ollama`"


def models(session: requests.Session, url: str) -> str | None:
    """What is wrong with the list of models, or None. A consumer without the scope for it is no trouble."""
    try:
        answer = session.get(url, timeout=LIMIT)
        if answer.status_code == requests.codes.forbidden:
            return None
        if answer.status_code != requests.codes.ok:
            return ask.refusal(answer.status_code, answer.text, CONSUMER)
        return None if answer.json().get("data") else f"{url} lists no models\nfix: `make logs S=gateway`"
    except (requests.RequestException, ValueError, AttributeError) as error:
        return f"{url} gives no list of models: {error}\nfix: `make logs S=gateway`"
