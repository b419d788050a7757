"""What `command:local:Command` 1.2.1 accepts and what a change of an input means. Plain values only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LOCAL = "command:local:Command"
FIELDS: Mapping[str, type] = {
    "create": str,
    "update": str,
    "delete": str,
    "stdin": str,
    "dir": str,
    "logging": str,
    "triggers": list,
    "interpreter": list,
    "environment": dict,
    "addPreviousOutputInEnv": bool,
}
OFFICIAL_ONLY = ("assetPaths", "archivePaths")
LOGGING = ("stdout", "stderr", "stdoutAndStderr", "none")
REPLACING = "triggers"
NAMES = {str: "a text", list: "a list", dict: "a map", bool: "true or false"}


def problems(kind: str, inputs: Mapping[str, Any], is_unknown: Any) -> list[tuple[str, str]]:
    """(property, reason) for everything that cannot be served; empty when the inputs are good."""
    if kind != LOCAL:
        return [("", f"{kind} needs the official command plugin; this stand-in serves {LOCAL} only")]
    found = []
    for key, value in inputs.items():
        if key in OFFICIAL_ONLY:
            found.append((key, f"{key} needs the official command plugin; this stand-in does not collect files"))
        elif key not in FIELDS:
            found.append((key, f"{key} is not an input of {LOCAL} 1.2.1; it has {', '.join(sorted(FIELDS))}"))
        elif not is_unknown(value) and not isinstance(value, FIELDS[key]):
            found.append((key, f"{key} has to be {NAMES[FIELDS[key]]}"))
        elif key == "logging" and not is_unknown(value) and value not in LOGGING:
            found.append((key, f"logging is one of {', '.join(LOGGING)}"))
    return found


def replaces(changed: list[str]) -> list[str]:
    """Which of the changed inputs make a new resource instead of running `update` (or `create` again)."""
    return [key for key in changed if key == REPLACING]


def command_for_update(inputs: Mapping[str, Any]) -> str | None:
    """What runs on a change: `update`, else `create` again, else nothing."""
    return inputs.get("update") or inputs.get("create")
