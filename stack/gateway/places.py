"""Where the gateway listens and finds its files, inside its container. Pure."""

from __future__ import annotations

from typing import Final

HTTPS_PORT: Final = 8443
HTTP_PORT: Final = 8080
INNER_PORT: Final = 8081  # never published: the chat's models, /live and /metrics
ADMIN_PORT: Final = 9443

CONFIG_FOLDER: Final = "/etc/caddy"
CONFIG_FILE: Final = "caddy.json"
CONSUMERS_FOLDER: Final = "/run/consumers"
CONSUMERS_FILE: Final = "consumers.json"
CA_FOLDER: Final = "/etc/gateway-ca"
CA_FILE: Final = "root.crt"
CA_KEY_FOLDER: Final = "/run/gateway-ca-key"
CA_KEY_FILE: Final = "root.key"
TLS_FOLDER: Final = "/etc/gateway-tls"
TLS_FILE: Final = "certificate.pem"
TLS_KEY_FOLDER: Final = "/run/gateway-tls-key"
TLS_KEY_FILE: Final = "key.pem"
ENGINE_KEYS_FOLDER: Final = "/run/engine-keys"  # a folder in it for each engine
ENGINE_KEY_FILE: Final = "key"
DATA_FOLDER: Final = "/data"
