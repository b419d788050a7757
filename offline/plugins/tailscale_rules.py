"""What TailnetKey and Acl of `tailscale` 0.29.2 accept and what a change means. Plain values only."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

KEY, ACL = "tailscale:index/tailnetKey:TailnetKey", "tailscale:index/acl:Acl"
FIELDS: Mapping[str, Mapping[str, type]] = {
    KEY: {
        "description": str,
        "ephemeral": bool,
        "expiry": int,
        "preauthorized": bool,
        "recreateIfInvalid": str,
        "reusable": bool,
        "tags": list,
    },
    ACL: {"acl": str, "overwriteExistingContent": bool, "resetAclOnDestroy": bool},
}
DEFAULTS = {"description": "", "ephemeral": False, "preauthorized": False, "reusable": False, "tags": []}
NAMES = {str: "a text", list: "a list of texts", bool: "true or false", int: "a whole number of seconds"}
RECREATE = ("", "always", "never")
LONGEST_DESCRIPTION = 50
# A text of HuJSON in one piece, so that what looks like a comment or a comma inside stays; then what JSON lacks.
HUJSON = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
TRAILING = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[\]}])', re.DOTALL)


def canonical(policy: str) -> str:
    """A policy (JSON or HuJSON) without formatting, comments and order of fields. Raises ValueError."""
    kept = HUJSON.sub(lambda found: found[1] or " ", policy)
    parsed = json.loads(TRAILING.sub(lambda found: found[1] or "", kept))
    if not isinstance(parsed, dict):
        raise ValueError("it is not an object")  # noqa: TRY004 - what json.loads raises, too
    return json.dumps(parsed, sort_keys=True)


def comparable(policy: Any) -> Any:
    """The canonical form where there is one, else the value itself."""
    try:
        return canonical(policy)
    except (TypeError, ValueError):
        return policy


def problems(kind: str, inputs: Mapping[str, Any], is_unknown: Callable[[Any], bool]) -> list[tuple[str, str]]:
    """(property, reason) for everything that cannot be served; empty when the inputs are good."""
    if kind not in FIELDS:
        return [("", only(kind))]
    fields, found = FIELDS[kind], []
    for name, value in inputs.items():
        if name == "userId" and kind == KEY:
            found.append((name, "userId is told by Tailscale and cannot be chosen; leave it out"))
        elif name not in fields:
            found.append((name, f"{name} is not an input of {kind} 0.29.2; it has {', '.join(sorted(fields))}"))
        elif is_unknown(value):
            continue
        elif not fits(value, fields[name]):
            found.append((name, f"{name} has to be {NAMES[fields[name]]}"))
        elif name == "recreateIfInvalid" and value not in RECREATE:
            found.append((name, "recreateIfInvalid is always or never, or left out"))
        elif name == "description" and len(value) > LONGEST_DESCRIPTION:
            found.append((name, f"description has at most {LONGEST_DESCRIPTION} characters, not {len(value)}"))
        elif name == "acl" and (trouble := policy_trouble(value)):
            found.append((name, trouble))
    if kind == ACL and "acl" not in inputs:
        found.append(("acl", "acl is missing: the whole policy file as JSON or HuJSON"))
    return found


def fits(value: Any, kind: type) -> bool:
    """Whether a value is of a field's type; true is no number, and lists hold texts only."""
    if isinstance(value, list):
        return kind is list and all(isinstance(each, str) for each in value)
    return type(value) is kind


def same(old: Any, new: Any) -> bool:
    """Whether two values mean the same: tags have no order."""
    if isinstance(old, list) and isinstance(new, list):
        return sorted(old, key=str) == sorted(new, key=str)
    return type(old) is type(new) and bool(old == new)


def only(kind: str) -> str:
    """Why anything but the two resources is refused."""
    return f"{kind} needs the official tailscale plugin; this stand-in serves {KEY} and {ACL} only"


def policy_trouble(policy: str) -> str:
    """What is wrong with a policy's syntax; empty when nothing is."""
    try:
        canonical(policy)
    except ValueError as error:
        return f"acl is neither JSON nor HuJSON: {error}"
    return ""


def wanted(kind: str, inputs: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs in a form to compare: defaults filled in, order and formatting without meaning removed."""
    found = {name: value for name, value in inputs.items() if name in FIELDS[kind]}
    if kind == ACL:
        return {**found, "acl": comparable(found.get("acl"))}
    found = {**DEFAULTS, **found}
    if isinstance(found["tags"], list):
        found["tags"] = sorted(found["tags"], key=str)
    found.setdefault("expiry", state.get("expiry"))
    return found


def recreates(inputs: Mapping[str, Any]) -> bool:
    """Whether an invalid key is made anew: reusable ones are, single-use ones have done their work."""
    asked = inputs.get("recreateIfInvalid") or ""
    return bool(asked == "always" or (asked != "never" and inputs.get("reusable")))


def replaces(kind: str, changed: list[str]) -> list[str]:
    """Which of the changed properties make a new resource."""
    return [name for name in changed if kind == KEY and name != "recreateIfInvalid"]


def key_request(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The body that asks for a key."""
    asked = {**DEFAULTS, **inputs}
    create = {name: asked[name] for name in ("reusable", "ephemeral", "tags", "preauthorized")}
    capabilities = {"devices": {"create": create}}
    return {"capabilities": capabilities, "expirySeconds": asked.get("expiry", 0), "description": asked["description"]}


def key_state(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The properties that an answer about a key tells, but the key itself."""
    create = answer.get("capabilities", {}).get("devices", {}).get("create", {})
    return {
        "reusable": bool(create.get("reusable")),
        "ephemeral": bool(create.get("ephemeral")),
        "preauthorized": bool(create.get("preauthorized")),
        "tags": list(create.get("tags") or ()),
        "description": answer.get("description", ""),
        "expiry": answer.get("expirySeconds", 0),
        "createdAt": answer.get("created", ""),
        "expiresAt": answer.get("expires", ""),
        "invalid": bool(answer.get("invalid")),
        "userId": answer.get("userId", ""),
    }
