"""What the person asked for: the command and the words given beside it (`make up STACK=dev SOURCE=mirror`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ops.errors import OpsError
from stack.config.units import seconds

Source = Literal["official", "mirror"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """One call of `make`, checked."""

    command: str
    stack: str = "dev"
    source: Source | None = None
    host_checks: bool = True
    question: str = ""
    model: str = "default"
    service: str = ""
    name: str = "default"
    named: bool = False
    rotate: bool = False
    revoke: bool = False
    remove: bool = False
    overlap: str = "24h"
    app: str = ""
    delete_data: bool = False
    confirm: str = ""
    cold: bool = False
    url: str = ""
    ca: str = ""
    wrong_passwords: bool = False
    slow: bool = False
    json: bool = False
    gguf: str = ""
    rates: str = ""
    run: str = ""
    depth: str = ""


def stack_word(stack: str) -> str:
    """What picks a stack where a command is typed: nothing for the usual one, else ` STACK=<name>`."""
    return "" if stack == Request.stack else f" STACK={stack}"


def parse(command: str, env: Mapping[str, str]) -> Request:
    """Reads the words from the environment `make` passes on. Raises OpsError with what is allowed."""
    stack = env.get("STACK") or "dev"
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,22}[a-z0-9]", stack):
        raise OpsError(
            f"STACK={stack}: a stack's name has 2 to 24 of a-z, 0-9 and -, starts with a letter "
            "and does not end with -, for example STACK=dev"
        )
    data = env.get("DATA", "")
    return Request(
        command=command,
        stack=stack,
        source=_source(env.get("SOURCE", "")),
        host_checks=_one_of("HOST", env.get("HOST", ""), {"none": False}, other=True),
        question=env.get("Q", ""),
        model=env.get("MODEL") or "default",
        service=env.get("S", ""),
        name=env.get("NAME") or "default",
        named=bool(env.get("NAME")),
        rotate=_yes("ROTATE", env),
        revoke=_yes("REVOKE", env),
        remove=_yes("REMOVE", env),
        app=env.get("APP", ""),
        overlap=_duration("OVERLAP", env.get("OVERLAP") or "24h"),
        delete_data=_one_of("DATA", data, {"": False, "keep": False, "delete": True}),
        confirm=env.get("CONFIRM", ""),
        cold=_yes("COLD", env),
        url=env.get("URL", ""),
        ca=env.get("CA", ""),
        wrong_passwords=_yes("WRONG_PASSWORDS", env),
        slow=_yes("SLOW", env),
        json=_one_of("FORMAT", env.get("FORMAT", ""), {"": False, "text": False, "json": True}),
        gguf=env.get("GGUF", ""),
        rates=env.get("RATES", ""),
        run=env.get("RUN", ""),
        depth=env.get("DEPTH", ""),
    )


def _yes(name: str, env: Mapping[str, str]) -> bool:
    return _one_of(name, env.get(name, ""), {"": False, "0": False, "1": True})


def _duration(name: str, value: str) -> str:
    try:
        seconds(value)
    except ValueError as trouble:
        raise OpsError(f"{name}={value}: {trouble}") from None
    return value


def _source(value: str) -> Source | None:
    if value == "":
        return None
    if value == "official":
        return "official"
    if value == "mirror":
        return "mirror"
    raise OpsError(f"SOURCE={value}: allowed are SOURCE=official and SOURCE=mirror (or leave it out)")


def _one_of(name: str, value: str, allowed: Mapping[str, bool], other: bool | None = None) -> bool:
    """`other` is what any further word means; None refuses it (shells export HOST as the computer's name)."""
    if value in allowed:
        return allowed[value]
    if other is not None:
        return other
    words = ", ".join(f"{name}={word}" for word in allowed if word)
    raise OpsError(f"{name}={value}: allowed are {words} (or leave it out)")
