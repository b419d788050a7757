"""Where parts come from: the official sources, or package mirrors. Chosen at a stack's first `up`, then kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from ops import record
from ops.progress import Say
from ops.request import Source
from stack.versions import PULUMI

PROBES: Final = (
    f"https://get.pulumi.com/releases/sdk/pulumi-{PULUMI}-checksums.txt",
    "https://registry-1.docker.io/v2/",
)
TRIES: Final = 3
PAUSES: Final = (0.5, 1.0)  # seconds between tries
LIMIT: Final = 4.0  # seconds for one try, name resolution included

Probe = Callable[[str], bool]


def answers(url: str) -> bool:
    """True when anything speaks HTTP there with a trusted certificate; the status does not matter."""
    import requests

    try:
        requests.head(url, timeout=(3, 3), allow_redirects=False)
    except requests.RequestException:
        return False
    return True


def all_answer(urls: Sequence[str], probe: Probe = answers, limit: float = LIMIT) -> bool:
    """Asks all at once. Daemon threads, since a name server that hangs cannot be interrupted."""
    good: set[str] = set()

    def ask(url: str) -> None:
        if probe(url):
            good.add(url)

    threads = [threading.Thread(target=ask, args=(url,), daemon=True) for url in urls]
    until = time.monotonic() + limit
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return good == set(urls)


def detect(probe: Probe = answers, pause: Callable[[float], None] = time.sleep) -> Source:
    """Tries the official sources three times (under 15 s in all)."""
    for number in range(TRIES):
        if all_answer(PROBES, probe):
            return "official"
        if number < len(PAUSES):
            pause(PAUSES[number])
    return "mirror"


def choose(stack: str, wanted: Source | None, say: Say) -> Source:
    """The stack's source: asked for, else recorded, else found out; recorded for the next time."""
    known = record.load(stack).source
    if wanted is None and known is not None:
        return known
    source = wanted or detect()
    if source != known:
        how = (
            "as asked"
            if wanted
            else ("they answer" if source == "official" else f"official sources gave no answer in {TRIES} tries")
        )
        before = f"; it was {known}" if known else ""
        words = "the official sources" if source == "official" else "package mirrors"
        say(f"source: {words} ({how}{before}), kept for stack {stack}")
        record.remember(stack, source=source)
    return source
