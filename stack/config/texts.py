"""Texts and numbers with a form: names, models, digests, hosts, times. Each refusal says the form."""

from __future__ import annotations

import re
from datetime import datetime
from ipaddress import ip_address
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field

from stack.config.units import form

_NAME: Final = r"^[a-z][a-z0-9-]{0,30}[a-z0-9]$"
_MODEL: Final = r"^[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}$"
_DIGEST: Final = r"^sha256:[0-9a-f]{64}$"
_LABEL: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOSTNAME: Final = rf"^{_LABEL}(\.{_LABEL})*$"
_WHEN: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+(Z|[+-][0-9]{2}:[0-9]{2})$"


def _name(text: str) -> str:
    if not re.fullmatch(_NAME, text):
        raise ValueError("a name has 2 to 32 of a-z, 0-9 and -, starts with a letter and does not end with -")
    return text


def _model_name(text: str) -> str:
    if not re.fullmatch(_MODEL, text) or "//" in text or ".." in text:
        raise ValueError("a model is written as its engine knows it, for example qwen3:0.6b")
    return text


def _model_or_all(text: str) -> str:
    return text if text == "*" else _model_name(text)


def _digest(text: str) -> str:
    if not re.fullmatch(_DIGEST, text):
        raise ValueError("a digest is sha256: and 64 hexadecimal digits (`make status` shows those of pulled models)")
    return text


def _hostname(text: str) -> str:
    if not re.fullmatch(_HOSTNAME, text) or len(text) > 253:
        raise ValueError(
            "a host name has lower-case labels of a-z, 0-9 and - joined by dots, for example llm.home.arpa"
        )
    return text


def _loopback(text: str) -> str:
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError("not an IP address; write 127.0.0.1 or ::1") from None
    if not address.is_loopback:
        raise ValueError("`private` publishes on this machine only: 127.0.0.1 or ::1")
    return text


def _cpus(cores: float) -> float:
    if cores * 4 != int(cores * 4):
        raise ValueError("CPUs are given in steps of 0.25")
    return cores


def _when(value: object) -> object:
    """Refuses what pydantic would read as seconds since 1970, and times without a zone."""
    if isinstance(value, str) and not re.fullmatch(_WHEN, value):
        raise ValueError("a time needs date, time and zone, for example 2027-01-31T00:00:00Z")
    if isinstance(value, datetime) and value.tzinfo is None:
        raise ValueError("a time needs its zone, for example 2027-01-31T00:00:00Z")
    if not isinstance(value, str | datetime | None):
        raise ValueError("a time is written as text, for example 2027-01-31T00:00:00Z")  # noqa: TRY004 (pydantic)
    return value


Name = Annotated[str, AfterValidator(_name), form("a name of 2 to 32 of a-z, 0-9 and -", _NAME)]
ModelName = Annotated[str, AfterValidator(_model_name), form("a model name such as qwen3:0.6b", _MODEL)]
ModelRef = Annotated[str, AfterValidator(_model_or_all), form("a model name, an alias or *", rf"{_MODEL[:-1]}$|^\*$")]
Hostname = Annotated[str, AfterValidator(_hostname), form("a host name such as llm.home.arpa", _HOSTNAME)]
Port = Annotated[int, Field(ge=1, le=65535)]
Gpu = Annotated[
    str,
    Field(pattern=r"^([0-9]+|GPU-[0-9a-f-]{36})$"),
    form('a GPU by index or NVIDIA UUID, in quotes, such as "0"'),
]
Digest = Annotated[str, AfterValidator(_digest), form("sha256: and 64 hexadecimal digits", _DIGEST)]
Loopback = Annotated[str, AfterValidator(_loopback), form("127.0.0.1 or ::1")]
Cores = Annotated[float, Field(gt=0, le=1024), AfterValidator(_cpus), form("a number up to 1024 in steps of 0.25")]
Title = Annotated[
    str,
    Field(min_length=1, max_length=60, pattern=r"^[^\x00-\x1f\x7f]*$"),
    form("1 to 60 characters on one line"),
]
Email = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254), form("an e-mail address")]
Moment = Annotated[
    datetime,
    Field(strict=False),
    BeforeValidator(_when),
    form('a time with its zone, in quotes, such as "2027-01-31T00:00:00Z"', _WHEN),
]
