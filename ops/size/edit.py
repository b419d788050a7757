"""Changes of a few settings in a stack's file as the smallest edit of its text: comments, order, quotes stay. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml

from ops.errors import OpsError

Path = tuple[str | int, ...]
"""Keys and places in lists, from the top of the file."""
STEP: Final = "  "


def edited(text: str, changes: Mapping[Path, int], source: str) -> str:
    """The text with these values. Raises OpsError where the file is written in a way that cannot be edited safely."""
    wanted = yaml.safe_load(text)
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
        raise OpsError(
            f"{source} repeats parts of itself by name (&, *), which an edit here could break: edit it by hand"
        )
    for path, value in changes.items():
        text = _one(text, path, value, source)
        _put(wanted, path, value)
    if yaml.safe_load(text) != wanted:
        raise OpsError(f"{source} is written in a way that cannot be edited here; change it by hand as the diff says")
    return text


def diff(before: str, after: str, name: str) -> str:
    """What changes, as a unified diff; empty without a change."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), f"a/{name}", f"b/{name}", n=2, lineterm="")
    return "".join(f"{line}\n" for line in lines)


def _put(tree: Any, path: Path, value: int) -> None:
    for step in path[:-1]:
        tree = tree.setdefault(step, {}) if isinstance(step, str) else tree[step]
    tree[path[-1]] = value


def _one(text: str, path: Path, value: int, source: str) -> str:
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    for place, step in enumerate(path):
        below = _child(node, step)
        if below is None:
            return _inserted(text, node, path[place:], value, source)
        node = below
    if not isinstance(node, yaml.ScalarNode):
        raise OpsError(f"{source}: {'.'.join(map(str, path))} is no number")
    return text[: node.start_mark.index] + str(value) + text[node.end_mark.index :]


def _child(node: Any, step: str | int) -> Any:
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
        return node.value[step]
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for key, value in pairs if key.value == step), None)


def _inserted(text: str, node: Any, rest: Path, value: int, source: str) -> str:
    """New keys at the end of a mapping that is there, in its own indentation or within its braces."""
    if not isinstance(node, yaml.MappingNode) or not node.value or not all(isinstance(key, str) for key in rest):
        raise OpsError(f"{source}: there is no mapping for {'.'.join(map(str, rest))}; write it by hand")
    if node.flow_style:
        last = node.value[-1][1].end_mark.index
        opened = "".join(f"{key}: {{ " for key in rest[:-1])
        closed = " }" * (len(rest) - 1)
        return f"{text[:last]}, {opened}{rest[-1]}: {value}{closed}{text[last:]}"
    indent = " " * node.value[0][0].start_mark.column
    new = "".join(f"{indent}{STEP * depth}{key}:\n" for depth, key in enumerate(rest[:-1]))
    new += f"{indent}{STEP * (len(rest) - 1)}{rest[-1]}: {value}\n"
    # Behind the last key's value, which a comment may follow on its line.
    end = _end_of_line(text, _last(node.value[-1][1]))
    return text[:end] + ("" if text[:end].endswith("\n") else "\n") + new + text[end:]


def _last(node: Any) -> int:
    """Where a value really ends: a block's mark is where the next key begins, behind comments and blank lines."""
    if isinstance(node, yaml.ScalarNode) or not node.value or node.flow_style:
        return int(node.end_mark.index)
    inner = node.value[-1]
    return _last(inner[1] if isinstance(inner, tuple) else inner)


def _end_of_line(text: str, at: int) -> int:
    # A block scalar (`|`) ends at the beginning of a line already.
    if at and text[at - 1] == "\n":
        return at
    end = text.find("\n", at)
    return len(text) if end < 0 else end + 1


def words(changes: Mapping[Path, int]) -> dict[str, int]:
    """The changes by dotted names, for programs."""
    return {".".join(map(str, _names(path))): value for path, value in changes.items()}


def _names(path: Sequence[str | int]) -> Sequence[str | int]:
    return path[2:] if path[:1] == ("config",) else path
