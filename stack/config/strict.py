"""What every configuration model shares: closed and strict objects, and the form of their refusals. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Strict(BaseModel):
    """Frozen, closed and strict: a misspelt key or a number in quotes is refused, not guessed at."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        validate_default=True,
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


def twice(names: Sequence[str]) -> list[str]:
    """What is there more than once."""
    return [name for name, count in Counter(names).items() if count > 1]


def refuse(problems: list[str]) -> None:
    """Reports all that does not fit together, one line each: `<key path from here>: <what, how to fix it>`.

    A line may end with `; allowed: <word>, <word>`. `stack.config.explain` reads this form. Raises ValueError.
    """
    if problems:
        raise ValueError("\n".join(problems))


def words(kind: type[StrEnum]) -> Any:
    """YAML carries text; strict mode would want the enum's own type."""
    return Field(strict=False, json_schema_extra={"enum": [str(member) for member in kind]})
