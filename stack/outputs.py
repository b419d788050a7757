"""Names of the stack's outputs, shared with what reads them (`ops/`, tests)."""

from __future__ import annotations

from typing import Final

ENDPOINTS: Final = "endpoints"  # {chat, api, health}: URLs
CA_CERTIFICATE: Final = "caCertificate"  # PEM, for clients to trust
SERVICES: Final = "services"  # [{name, container, image, health}]
CONFIG_FILES: Final = "configFiles"  # [{container, path, sha256, urns}]: for the drift check of `make up`
MODELS: Final = "models"  # [{id, aliases, role, note}]
VERSIONS: Final = "versions"  # {part: reference}
HOSTS: Final = "hosts"  # [{name, source}]
LEFT_OUT: Final = "leftOut"  # [{name, why}]
NEXT_STEPS: Final = "nextSteps"  # [text]
