"""Grafana's settings and its provisioned data source. Pure."""

from __future__ import annotations

from typing import Final

import yaml

from stack.shape import Endpoint, Health

NAME: Final = "grafana"
PORT: Final = 3000
DATA_FOLDER: Final = "/var/lib/grafana"
SOURCES_FOLDER: Final = "/etc/grafana/provisioning/datasources"
SOURCES_FILE: Final = "prometheus.yaml"
HEALTH: Final = Health(
    test=["CMD", "wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{PORT}/api/health"], start_period=60
)


def data_sources(prometheus: Endpoint) -> str:
    """Text of the data source's provisioning file."""
    return yaml.safe_dump(
        {
            "apiVersion": 1,
            "datasources": [
                {
                    "name": "Prometheus",
                    "uid": "prometheus",
                    "type": "prometheus",
                    "access": "proxy",
                    "url": prometheus.url,
                    "isDefault": True,
                    "editable": False,
                }
            ],
        },
        sort_keys=False,
    )


def environment(url: str | None) -> dict[str, str]:
    """No call-outs, no sign-up, no anonymous access; the administrator's password is added where it is secret.

    `url`: where the gateway's admin listener shows it, if it does.
    """
    shown = {"GF_SERVER_ROOT_URL": f"{url}/", "GF_SERVER_SERVE_FROM_SUB_PATH": "true"} if url else {}
    return shown | {
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_AUTH_ANONYMOUS_ENABLED": "false",
        "GF_NEWS_NEWS_FEED_ENABLED": "false",
        "GF_PLUGINS_PREINSTALL_DISABLED": "true",
        "GF_SECURITY_ADMIN_USER": "admin",
        "GF_USERS_ALLOW_SIGN_UP": "false",
    }
