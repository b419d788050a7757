"""Names of the stack's outputs, shared with what reads them (`ops/`, tests)."""

from __future__ import annotations

from typing import Final

ENDPOINTS: Final = "endpoints"  # {chat, api, health}, and {grafana, prometheus} of the admin listener: URLs
CA_CERTIFICATE: Final = "caCertificate"  # PEM, for clients to trust
SERVICES: Final = "services"  # [{name, container, image}]
CONFIG_FILES: Final = "configFiles"  # [{container, path, sha256, urns}]: for the drift check of `make up`
MODELS: Final = "models"  # [{id, aliases, role, note}]
VERSIONS: Final = "versions"  # {part: reference}
HOSTS: Final = "hosts"  # [{name, source}]
LEFT_OUT: Final = "leftOut"  # [{name, why}]
MODEL_SET: Final = "modelSet"  # {urn, engines, volume, models}: what each must list; replace `urn` when not; or {}
NEXT_STEPS: Final = "nextSteps"  # [text]


def next_steps(stack: str, url: str, admin: str | None) -> list[str]:
    """What to do with a platform that is up; `admin` signs in to the chat, None where there is none."""
    words = "" if stack == "dev" else f" STACK={stack}"
    steps = [f'make ask Q="Why is the sky blue?"{words}', f"make key NAME=default{words} shows the API key of {url}/v1"]
    if admin:
        steps.append(f"open {url} and sign in as {admin}; the password: make password{words}")
    return steps
