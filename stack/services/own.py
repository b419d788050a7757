"""Settings and health of a service of one's own. Pure."""

from __future__ import annotations

from typing import Final

from stack.config.services import OwnService
from stack.shape import Endpoint, Health

# Whichever the image has asks; a shell there must be.
_ASK: Final = """\
if command -v curl >/dev/null; then exec curl -fsS -o /dev/null "$0"
elif command -v wget >/dev/null; then exec wget -q -O /dev/null "$0"
elif command -v python3 >/dev/null; then exec python3 -c 'import sys, urllib.request as r; r.urlopen(sys.argv[1])' "$0"
elif command -v node >/dev/null; then exec node -e 'fetch(process.argv[1]).then(r => process.exit(r.ok ? 0 : 1))' "$0"
else echo "the image has neither curl nor wget nor python3 nor node: nobody can ask its health" >&2; exit 1
fi"""


def environment(service: OwnService, api: Endpoint) -> dict[str, str]:
    """What it is told; its key, which is secret, is added where it is placed."""
    told = {"HOME": "/tmp", "PORT": str(service.port), **service.env}
    if service.api:
        told["OPENAI_BASE_URL"] = f"{api.url}/v1"
    return told


def health(service: OwnService) -> Health:
    """Asks its own health path from inside its container."""
    return Health(test=["CMD", "sh", "-c", _ASK, f"http://127.0.0.1:{service.port}{service.health}"])
