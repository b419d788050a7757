"""Durations and sizes as people write them (`10m`, `30d`, `4GiB`), kept as text and as one number."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

SECONDS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
MEBIBYTES: Final = {"MiB": 1, "GiB": 1024, "TiB": 1024 * 1024}
_DURATION: Final = r"^[0-9]{1,9}(ms|s|m|h|d)$"
_SIZE: Final = r"^[0-9]{1,9}(MiB|GiB|TiB)$"


def seconds(text: str) -> float:
    """The duration in seconds. Raises ValueError with the form that is allowed."""
    if not re.fullmatch(_DURATION, text):
        raise ValueError(f"not a duration: write a whole number and one of {', '.join(SECONDS)}, for example 10m")
    unit = text.lstrip("0123456789")
    return int(text.removesuffix(unit)) * SECONDS[unit]


def seconds_text(text: str) -> str:
    """The duration as other programs read it, in seconds: `43200s`, `0.25s`, never with an exponent."""
    value = seconds(text)
    return f"{int(value)}s" if value == int(value) else f"{round(value, 3)}s"


def mebibytes(text: str) -> int:
    """The size in MiB (what Docker's memory settings take). Raises ValueError with the allowed form."""
    if not re.fullmatch(_SIZE, text):
        raise ValueError(f"not a size: write a whole number and one of {', '.join(MEBIBYTES)}, for example 4GiB")
    unit = text.lstrip("0123456789")
    return int(text.removesuffix(unit)) * MEBIBYTES[unit]


def _duration(text: str) -> str:
    if seconds(text) == 0:
        raise ValueError("a duration must be more than 0")
    return text


def _duration_or_zero(text: str) -> str:
    seconds(text)
    return text


def _size(text: str) -> str:
    if mebibytes(text) == 0:
        raise ValueError("a size must be more than 0")
    return text


def form(words: str, pattern: str | None = None) -> Any:
    """How a value is written: `words` for people (messages, reference), a pattern for the JSON Schema.

    The pattern stays out of pydantic's own checks: the validators say the same in words.
    """
    extra: dict[str, Any] = {"x-form": words}
    if pattern:
        extra["pattern"] = pattern
    return Field(json_schema_extra=extra)


_DURATION_FORM: Final = "a duration such as 30s, 10m, 7d (ms, s, m, h, d)"
Duration = Annotated[str, AfterValidator(_duration), form(_DURATION_FORM, _DURATION)]
DurationOrZero = Annotated[str, AfterValidator(_duration_or_zero), form(_DURATION_FORM, _DURATION)]
Size = Annotated[str, AfterValidator(_size), form("a size such as 512MiB, 4GiB (MiB, GiB, TiB)", _SIZE)]
