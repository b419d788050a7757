"""Texts and numbers with a form: names, models, digests, hosts, times. Each refusal says the form."""

from __future__ import annotations

import re
from datetime import datetime
from ipaddress import ip_address, ip_network
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from stack.capacity.devices import find
from stack.config.units import form

_NAME: Final = r"^[a-z][a-z0-9-]{0,30}[a-z0-9]$"
_MODEL: Final = r"^(?!.*(//|\.\.))[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}$"
_DIGEST: Final = r"^sha256:[0-9a-f]{64}$"
_LABEL: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOSTNAME: Final = rf"^{_LABEL}(\.{_LABEL})*$"
_PATH: Final = r"^(/[a-z0-9][a-z0-9-]{0,62})+$"
_FOLDER: Final = r"^(?!.*\.\.)[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$"
_AUTHORITY: Final = r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
_HTTPS_URL: Final = rf"^https://{_AUTHORITY}(/[A-Za-z0-9._~/-]*)?$"
_ENGINE_URL: Final = rf"^https?://{_AUTHORITY}/?$"
_ORIGIN: Final = rf"^https?://{_AUTHORITY}$"
_IMAGE: Final = r"^[a-z0-9][a-z0-9._:/-]{0,254}@sha256:[0-9a-f]{64}$"
_ENV_NAME: Final = r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"
_WHEN: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+(Z|[+-][0-9]{2}:[0-9]{2})$"


def _name(text: str) -> str:
    if not re.fullmatch(_NAME, text):
        raise ValueError("a name has 2 to 32 of a-z, 0-9 and -, starts with a letter and does not end with -")
    return text


def _model_name(text: str) -> str:
    if not re.fullmatch(_MODEL, text):
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


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError("not an IP address; write for example 127.0.0.1 or 192.168.1.10") from None


def _network(text: str) -> str:
    try:
        network = ip_network(text)
    except ValueError:
        raise ValueError("not an IP address or network; write for example 192.168.1.10 or 172.16.0.0/12") from None
    if network.prefixlen == 0:
        raise ValueError("this network is every address, so anybody could say who they are; name the proxy's own")
    return text


def _url(text: str, pattern: str, problem: str) -> str:
    try:
        good = re.fullmatch(pattern, text) and urlsplit(text).hostname and urlsplit(text).port != 0
    except ValueError:  # a port beyond 65535, half an IPv6 address
        good = False
    if not good:
        raise ValueError(problem)
    return text


def _https_url(text: str) -> str:
    return _url(
        text, _HTTPS_URL, "an address has https://, a host and a path, for example https://ca.home.arpa/directory"
    )


def _engine_url(text: str) -> str:
    problem = (
        "an engine's address has http:// or https:// and a host, and no path, for example http://192.168.1.20:8000"
    )
    return _url(text, _ENGINE_URL, problem).rstrip("/")


def _origin(text: str) -> str:
    """As browsers write it, so that it can be compared letter by letter."""
    problem = (
        "an origin has http:// or https:// and a host in lower case, and no / at its end; a usual port is left out"
    )
    _url(text, _ORIGIN, problem)
    if text != text.lower() or text.endswith(":443" if text.startswith("https:") else ":80"):
        raise ValueError(problem)
    return text


def _path(text: str) -> str:
    if not re.fullmatch(_PATH, text):
        raise ValueError("a path is / and lower-case words of a-z, 0-9 and -, for example /reports")
    return text


def _folder(text: str) -> str:
    if not re.fullmatch(_FOLDER, text):
        raise ValueError("a folder is given from the project's own on, without .., for example services/reports")
    return text


def _image(text: str) -> str:
    if not re.fullmatch(_IMAGE, text):
        raise ValueError("an image is pinned by its digest: <repository>@sha256:<64 hexadecimal digits>")
    return text


def _env_name(text: str) -> str:
    if not re.fullmatch(_ENV_NAME, text):
        raise ValueError("a variable's name has letters, digits and _, for example LOG_LEVEL")
    return text


def _device(text: str) -> str:
    find(text)
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
Address = Annotated[str, AfterValidator(_address), form("an IP address such as 127.0.0.1")]
Network = Annotated[
    str, AfterValidator(_network), form("an IP address or network such as 192.168.1.10 or 172.16.0.0/12")
]
HttpsUrl = Annotated[
    str, AfterValidator(_https_url), form("an address such as https://ca.home.arpa/directory", _HTTPS_URL)
]
EngineUrl = Annotated[
    str, AfterValidator(_engine_url), form("an address such as http://192.168.1.20:8000", _ENGINE_URL)
]
Origin = Annotated[str, AfterValidator(_origin), form("an origin such as https://app.example.org", _ORIGIN)]
Path = Annotated[str, AfterValidator(_path), form("a path such as /reports", _PATH)]
Folder = Annotated[str, AfterValidator(_folder), form("a folder such as services/reports", _FOLDER)]
Image = Annotated[str, AfterValidator(_image), form("an image by digest, such as ghcr.io/you/api@sha256:…", _IMAGE)]
EnvName = Annotated[str, AfterValidator(_env_name), form("a variable's name such as LOG_LEVEL", _ENV_NAME)]
Cores = Annotated[float, Field(gt=0, le=1024), AfterValidator(_cpus), form("a number up to 1024 in steps of 0.25")]
Title = Annotated[
    str,
    Field(min_length=1, max_length=60, pattern=r"^[^\x00-\x1f\x7f]*$"),
    form("1 to 60 characters on one line"),
]
Reason = Annotated[
    str,
    Field(min_length=3, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$"),
    form("a reason in 3 to 200 characters on one line"),
]
Device = Annotated[str, AfterValidator(_device), form("a card such as nvidia-rtx-4090", r"^[a-z0-9-]+$")]
Email = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254), form("an e-mail address")]
Moment = Annotated[
    datetime,
    Field(strict=False),
    BeforeValidator(_when),
    form('a time with its zone, in quotes, such as "2027-01-31T00:00:00Z"', _WHEN),
]
