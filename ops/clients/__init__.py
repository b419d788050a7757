"""Ready configuration for editors, agents and libraries (`make client APP=…`): address, key, models, certificate.

A key is never printed: every text reads it from the environment, or from the app's own safe place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ops.clients import editors, libraries, terminal
from ops.clients.shape import App, Context

APPS: Final[Mapping[str, App]] = {
    app.name: app for app in sorted((*editors.APPS, *libraries.APPS, *terminal.APPS), key=lambda app: app.name)
}


def render(app: App, context: Context) -> str:
    """All that is to be done for one app, its files in full."""
    heads = [f"# {app.title}", *(f"# {line}" for line in app.notes(context))]
    return "\n".join([*heads, *(f"\n# {step.where}\n{step.text.strip()}" for step in app.steps(context))])


__all__ = ["APPS", "App", "Context", "render"]
