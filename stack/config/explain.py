"""Configuration errors for people: every problem at once, with key path, value, what is allowed, nearest.

Pydantic finds the problems; this module says them. No word of pydantic's own reaches the reader.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from stack.config import forms
from stack.config.model import Platform

ROOT: Final = "private-llm:platform"
Path = tuple[str | int, ...]

# The sections that the platform's own check compares with each other.
_COMPARED: Final = frozenset({"models", "consumers", "chat", "memory", "upstreams", "services"})
_SECRET: Final = re.compile(r"pass(word|wd|phrase)?$|secret|token$|credential|key$|^key[-_]", re.IGNORECASE)
_PATH_OF_MESSAGE: Final = re.compile(r"((?:[a-z][A-Za-z]*(?:\[\d+\])?\.?)+): ")
_TYPES: Final = ("string_type", "int_type", "float_type", "bool_type", "tuple_type", "model_type", "enum")
_MISSING: Final = object()
_MISSING_KEY: Final = "this key is missing"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in the configuration, in words."""

    path: Path
    what: str
    value: str | None = None
    allowed: str | None = None
    nearest: str | None = None
    fix: str | None = None

    @property
    def key(self) -> str:
        """The key path as written everywhere, for example private-llm:platform.models[1].role."""
        return ROOT + "".join(f"[{step}]" if isinstance(step, int) else f".{_key(step)}" for step in self.path)

    def block(self) -> str:
        """The problem as lines for the terminal."""
        rows = {
            "value": self.value,
            "problem": self.what,
            "allowed": self.allowed,
            "nearest": self.nearest,
            "fix": self.fix,
        }
        return "\n".join([self.key, *(f"  {name + ':':9}{text}" for name, text in rows.items() if text)])


class ConfigError(ValueError):
    """The platform's configuration is refused; the text names every problem and its fix."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        """`source` is the file that holds the configuration."""
        self.source, self.problems = source, tuple(problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        blocks = "\n\n".join(problem.block() for problem in problems)
        super().__init__(
            f"{source}: the configuration has {count}, nothing was changed\n\n{blocks}\n\n"
            f"All keys are in docs/configuration.md; correct {source} and run the same command again."
        )


def parse_platform(value: Mapping[str, object], source: str) -> Platform:
    """The platform that `source` describes. Raises ConfigError with all problems."""
    try:
        return _validate(value)
    except ValidationError as error:
        problems = _problems(error, value)
        raise ConfigError(source, _with_hidden(problems, value)) from None


def _validate(value: object) -> Platform:
    # Only the YAML spelling: the Python names are for this program's own code.
    return Platform.model_validate(value, by_alias=True, by_name=False)


def _problems(error: ValidationError, value: object) -> list[Problem]:
    found: list[Problem] = []
    for detail in error.errors(include_url=False):
        path = tuple(step for step in detail["loc"])
        given = detail["input"]
        if path and path[-1] == "[key]":
            path = path[:-1]
        if detail["type"] == "value_error":
            found += _said_by_the_model(path, given, str(detail["ctx"]["error"]))
        elif detail["type"] == "extra_forbidden":
            found.append(_unknown_key(path, given, value))
        elif detail["type"] == "missing":
            found.append(_missing(path))
        elif detail["type"] != "too_short" or not given:  # it also follows from a bad entry in a full list
            found.append(_bad_value(path, given, detail["type"]))
    renamed = {(*problem.path[:-1], problem.nearest) for problem in found if _unknown(problem)}
    return [problem for problem in found if problem.path not in renamed or problem.what != _MISSING_KEY]


def _unknown(problem: Problem) -> bool:
    return bool(problem.path) and forms.node_at(problem.path) is None


def _said_by_the_model(path: Path, given: object, message: str) -> list[Problem]:
    """The model's own sentences; what concerns several keys carries the path of the key to look at."""
    found = []
    for line in message.splitlines():
        said, _, listed = line.partition("; allowed: ")
        match = _PATH_OF_MESSAGE.match(said) if isinstance(given, Mapping) else None
        here = path + _path(match[1]) if match else path
        value = _at(given, here[len(path) :])
        allowed = listed.split(", ") if listed else []
        near = forms.nearest(value, allowed) if isinstance(value, str) else None
        respelt = None if match else _respelt(value, forms.node_at(here))
        found.append(
            Problem(
                here,
                said[match.end() :] if match else said,
                _scalar(value),
                listed or None,
                near or (respelt if respelt != value else None),
            )
        )
    return found


def _unknown_key(path: Path, given: object, platform: object) -> Problem:
    key = str(path[-1])
    group = forms.node_at(path[:-1]) or {}
    allowed = list(group.get("properties", {}))
    near = forms.nearest(key, allowed, _at(platform, path[:-1]))
    if _SECRET.search(key) and (near is None or isinstance(given, str)):
        return Problem(
            path,
            "a secret does not belong in this object, which is stored in clear text",
            "(not shown)",
            fix=f"remove the key here and run `pulumi config set --secret {_secret_key(path, platform)}` "
            "(it asks for the value); what is not set is generated by `make up`",
        )
    elsewhere = [home for home in forms.homes(key) if home != key] if near is None else []
    return Problem(
        path,
        "this key is not known here",
        _scalar(given),
        ", ".join(allowed),
        near,
        f"it belongs to {' or '.join(f'{ROOT}.{home}' for home in elsewhere)}" if elsewhere else None,
    )


def _secret_key(path: Path, platform: object) -> str:
    """The flat secret key to use instead, for example private-llm:key-anna for anna's."""
    owner = {"consumers": "key", "upstreams": "engine-key"}.get(str(path[0]))
    if owner and len(path) == 3:
        name = _at(platform, (*path[:-1], "name"))
        return f"private-llm:{owner}-{name if isinstance(name, str) else '<name>'}"
    kebab = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", "-", str(path[-1])).lower()
    return f"private-llm:{kebab}"


def _missing(path: Path) -> Problem:
    node = forms.node_at(path)
    return Problem(path, _MISSING_KEY, None, forms.describe(node) if node else None)


def _bad_value(path: Path, given: object, kind: str) -> Problem:
    node = forms.node_at(path)
    if node is None:  # the whole object is not a group of keys
        node = forms.platform_schema()
    choice = [str(word) for word in forms.words(node)]
    near = forms.nearest(given, choice) if isinstance(given, str) else None
    fix = None
    if kind == "enum" and isinstance(given, str):
        what = "this word is not among those allowed"
    elif kind in _TYPES:
        needed = forms.kind(node)
        what = f"{_kind_of(given)} where {needed} is needed"
        near, fix = near or _respelt(given, node), _retyped(path, given, node)
    elif kind == "too_short" and not isinstance(given, str):
        what = "the list is empty"
    elif kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        what = "outside the range"
    else:
        what = "not written in the form that is needed"
    return Problem(path, what, _scalar(given), forms.describe(node), near, fix)


def _respelt(given: object, node: forms.Node | None) -> str | None:
    """The same value in the form that is allowed, where it is plain what was meant."""
    form = str((node or {}).get("x-form", ""))
    if not isinstance(given, str | int) or isinstance(given, bool):
        return None
    text = str(given).strip()
    match = re.fullmatch(r"([0-9]{1,9})\s*([A-Za-z]+)", text)
    if match and int(match[1]) == 0:  # zero is refused whatever its unit
        return None
    if match and form.startswith("a duration"):
        unit = match[2].lower()
        short = "ms" if unit.startswith(("ms", "mil")) else unit[0]
        return f"{match[1]}{short}" if short in ("ms", "s", "m", "h", "d") else None
    if match and form.startswith("a size"):
        unit = f"{match[2][0].upper()}iB"
        return f"{match[1]}{unit}" if unit in ("MiB", "GiB", "TiB") else None
    kind = (node or {}).get("type")
    if kind == "integer" and re.fullmatch(r"-?[0-9]{1,18}", text):
        return str(int(text))
    if kind == "boolean" and text.lower() in ("true", "yes", "on", "false", "no", "off"):
        return "true" if text.lower() in ("true", "yes", "on") else "false"
    return None


def _retyped(path: Path, given: object, node: forms.Node) -> str | None:
    needed = forms.kind(node)
    if given is None:
        required = path and path[-1] in (forms.node_at(path[:-1]) or {}).get("required", ())
        return "give it a value" if required else "give it a value, or remove the key to have the default"
    if isinstance(given, str) and _respelt(given, node):
        return "write it without quotes"
    if needed == "text" and isinstance(given, int | float) and "enum" not in node:
        return "write it in quotes" if re.search(node.get("pattern", ""), str(given)) else None
    return "start each entry with `- `" if needed == "a list" and not isinstance(given, list) else None


def _with_hidden(problems: list[Problem], platform: object) -> list[Problem]:
    """Adds what the model could not compare yet because of the first problems.

    Where it is plain what was meant, that is filled in; a section that stays unclear is not compared.
    """
    repaired, unclear = copy.deepcopy(platform), set[str | int]()
    for problem in problems:
        if not _repair(repaired, problem):
            unclear.add(problem.path[0] if problem.path else "models")
    # Once more without the sections that stand alone: their problems would hide the comparison of the rest.
    compared = {key: repaired[key] for key in _COMPARED & set(repaired)} if isinstance(repaired, dict) else {}
    for attempt in (repaired, compared):
        try:
            _validate(attempt)
        except ValidationError as error:
            problems = [*problems, *_of_groups(error, unclear, problems)]
    return problems


def _of_groups(error: ValidationError, unclear: set[str | int], known: list[Problem]) -> list[Problem]:
    """What a group of keys, clear in itself, says about how its keys fit together."""
    return [
        problem
        for detail in error.errors(include_url=False)
        if detail["type"] == "value_error" and isinstance(detail["input"], Mapping)
        if not unclear & (set(detail["loc"][:1]) or _COMPARED)
        for problem in _said_by_the_model(detail["loc"], detail["input"], str(detail["ctx"]["error"]))
        if problem not in known
    ]


def _repair(data: object, problem: Problem) -> bool:
    """Puts what was meant in the place of the mistake; False when that is not plain."""
    group: Any = _at(data, problem.path[:-1]) if problem.path else _MISSING
    step, meant = (problem.path or (0,))[-1], problem.nearest
    if _unknown(problem) and step in group:
        given = group.pop(step)
        if meant is None or meant in group:
            return meant is None and problem.value == "(not shown)"
        group[meant] = given
        return True
    if meant is None or _at(group, (step,)) is _MISSING:
        return False
    node = forms.node_at(problem.path) or {}
    group[step] = json.loads(meant) if node.get("type") in ("integer", "boolean") else meant
    return True


def _path(text: str) -> Path:
    return tuple(int(step) if step.isdigit() else step for step in re.findall(r"[A-Za-z]+|\d+", text))


def _at(data: Any, path: Iterable[str | int]) -> Any:
    for step in path:
        inside = (isinstance(data, Mapping) and step in data) or (
            isinstance(data, list | tuple) and isinstance(step, int) and step < len(data)
        )
        if not inside:
            return _MISSING
        data = data[step]
    return data


def _scalar(value: Any) -> str | None:
    """The value as written, on one line. Groups and lists are counted, not shown: they may hold anything."""
    if value is _MISSING:
        return None
    if isinstance(value, Mapping):
        return f"a group of {len(value)} keys"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    shown = json.dumps(value, ensure_ascii=False, default=str)
    return shown if len(shown) <= 80 else shown[:76] + "..."


def _kind_of(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int():
            return "a whole number"
        case float():
            return "a number with a fraction"
        case str():
            return "text"
        case Mapping():
            return "a group of keys"
        case list() | tuple():
            return "a list"
        case _:
            return "something else"


def _key(step: str) -> str:
    return step if re.fullmatch(r"[A-Za-z0-9_-]+", step) else json.dumps(step, ensure_ascii=False)
