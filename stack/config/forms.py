"""What a key may hold, in words, from the model's JSON Schema: messages and reference say the same."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, Final

from stack.config.model import Platform

Node = Mapping[str, Any]
_KINDS: Final = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a group of keys",
}


@cache
def platform_schema() -> dict[str, Any]:
    """The JSON Schema of the platform, as pydantic derives it from the model."""
    return Platform.model_json_schema(by_alias=True)


def resolve(node: Node) -> Node:
    """The node without references and without the null of an optional value; its own words win."""
    for option in node.get("anyOf", ()):
        if option.get("type") != "null":
            return resolve({**option, **{key: value for key, value in node.items() if key != "anyOf"}})
    if "$ref" in node:
        target = platform_schema()["$defs"][node["$ref"].rsplit("/", 1)[-1]]
        return resolve({**target, **{key: value for key, value in node.items() if key != "$ref"}})
    return node


def node_at(path: Sequence[str | int]) -> Node | None:
    """The schema's node for a path of keys and list positions; None where the model has nothing."""
    node: Node = platform_schema()
    for step in path:
        node = resolve(node)
        inner = node.get("items") if isinstance(step, int) else node.get("properties", {}).get(step) or _free(node)
        if inner is None:
            return None
        node = inner
    return resolve(node)


def _free(node: Node) -> Node | None:
    """What stands under the names of one's own in a group that has no others, such as variables."""
    return next(iter(node.get("patternProperties", {}).values()), None)


def kind(node: Node) -> str:
    """The kind of value, for example "a whole number"."""
    return _KINDS[node["type"]]


def words(node: Node) -> tuple[str, ...]:
    """The words that are allowed, where it is a choice."""
    return tuple(resolve(node).get("enum", ()))


def describe(node: Node) -> str:
    """What is allowed, for example "a whole number from 1 to 65535" or "cpu, nvidia or amd"."""
    node = resolve(node)
    if "enum" in node:
        *most, last = node["enum"]
        return f"{', '.join(most)} or {last}" if most else str(last)
    if "x-form" in node:
        return str(node["x-form"])
    match node["type"]:
        case "array":
            count = "with at least one of" if node.get("minItems") else "of"
            return f"a list {count}: {describe(node['items'])}"
        case "object":
            if "properties" not in node:
                return "names and texts, such as LOG_LEVEL: info"
            return f"a group of keys: {', '.join(node['properties'])}"
        case "string" if "maxLength" in node:
            return f"text of {node.get('minLength', 0)} to {node['maxLength']} characters"
        case _:
            return kind(node) + _range(node)


def _range(node: Node) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    return f" of at least {low}" if low is not None else ""


def nearest(word: str, allowed: Sequence[str], taken: Container[str] = ()) -> str | None:
    """The allowed word that was most likely meant; case, - and _ do not count.

    Words already `taken` are only meant when they are very close.
    """
    plain = {_plain(candidate): candidate for candidate in allowed}
    if _plain(word) in plain:
        return plain[_plain(word)]
    free = [candidate for candidate in plain if plain[candidate] not in taken]
    close = get_close_matches(_plain(word), free, n=1, cutoff=0.6) or get_close_matches(
        _plain(word), plain, n=1, cutoff=0.8
    )
    return plain[close[0]] if close else None


def _plain(word: str) -> str:
    return re.sub(r"[-_\s]", "", word).casefold()


def homes(key: str) -> list[str]:
    """The groups of keys (as paths) in which this very key exists, whatever its case and dashes."""
    return [path for path, name in _all_keys(platform_schema(), "") if _plain(name) == _plain(key)]


def _all_keys(node: Node, path: str) -> list[tuple[str, str]]:
    node = resolve(node)
    if "items" in node:
        return _all_keys(node["items"], f"{path}[]")
    found: list[tuple[str, str]] = []
    for name, inner in node.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        found += [(here, name), *_all_keys(inner, here)]
    return found
