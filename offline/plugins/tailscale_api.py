"""Tailscale's HTTP API as the `tailscale` plugin 0.29.2 speaks it. Standard library only; certificates are checked."""

from __future__ import annotations

import base64
import http.client
import ipaddress
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 60
LARGEST_ANSWER = 16 * 1024 * 1024
KEY = re.compile(r"tskey-[\w-]+")
FALLBACKS = {"apiKey": "TAILSCALE_API_KEY", "tailnet": "TAILSCALE_TAILNET", "baseUrl": "TAILSCALE_BASE_URL"}
# Pulumi adds the last two to what the program sets.
SETTINGS = (*FALLBACKS, "userAgent", "version", "pluginDownloadURL")


class ApiError(Exception):
    """The API refused or could not be reached; the text is for people and holds no key. `status` 0: no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class SettingError(Exception):
    """A setting of the provider is wrong; the text never holds its value where that is a secret."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """A redirect would carry the API key elsewhere: it is an error."""


@dataclass(frozen=True, kw_only=True)
class Api:
    """One tailnet, one API key; the key is not part of the representation."""

    base: str
    tailnet: str
    agent: str
    key: str = field(repr=False)

    def call(self, method: str, path: str, body: str | None = None, **headers: str) -> str:
        """The text of the answer; `path` is below the tailnet. Raises ApiError."""
        where = f"{self.base}/api/v2/tailnet/{urllib.parse.quote(self.tailnet, safe='')}/{path}"
        request = urllib.request.Request(where, None if body is None else body.encode(), method=method)
        for name, value in {"User-Agent": self.agent, **headers}.items():
            request.add_header(name.replace("_", "-"), value)
        request.add_header("Authorization", "Basic " + base64.b64encode(f"{self.key}:".encode()).decode())
        handlers: list[Any] = [_NoRedirect()]
        if is_loopback(where):
            handlers.append(urllib.request.ProxyHandler({}))
        try:
            with urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT_SECONDS) as answer:
                content: bytes = answer.read(LARGEST_ANSWER)
                return content.decode()
        except urllib.error.HTTPError as error:
            with error:
                said = reason(error.read(LARGEST_ANSWER))
            raise ApiError(self.masked(f"{method} {path}: {said} ({error.code})"), error.code) from None
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            cause = getattr(error, "reason", None) or error
            raise ApiError(self.masked(f"{method} {path}: no answer from {self.base}: {cause}")) from None

    def json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The same for JSON objects."""
        text = None if body is None else json.dumps(body)
        headers = {"Accept": "application/json"} if text is None else {"Content_Type": "application/json"}
        try:
            found = json.loads(self.call(method, path, text, **headers))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ApiError(f"{method} {path}: {self.base} answered something that is not a JSON object")
        return found

    def masked(self, text: str) -> str:
        """`text` without anything that is a key."""
        return KEY.sub("[secret]", text.replace(self.key, "[secret]"))


def reason(body: bytes) -> str:
    """What an error's body says; failing policy tests are told one by one."""
    try:
        said = json.loads(body)
        told = [f"{each.get('user', '')}: {'; '.join(each.get('errors') or ())}" for each in said.get("data") or ()]
        return " - ".join([str(said["message"]), *told])
    except (ValueError, KeyError, AttributeError, TypeError):
        return "refused without a reason"


def is_loopback(url: str) -> bool:
    """True when the URL's host is this machine."""
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_safe(base: str) -> bool:
    """Whether the API key may be sent there: over TLS, or to this machine."""
    try:
        parts = urllib.parse.urlsplit(base)
        known = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(base))
        return bool(known and parts.hostname and not parts.username and parts.port != 0)
    except ValueError:
        return False


def connect(inputs: Mapping[str, Any], environ: Mapping[str, str]) -> Api:
    """The API that the provider's inputs name, else the environment's variables. Raises SettingError."""
    for name in inputs:
        if name not in SETTINGS:
            allowed = ", ".join(FALLBACKS)
            raise SettingError(
                name,
                f"{name} needs the official tailscale plugin, or is not a setting of it; this stand-in has {allowed}",
            )
    found = {name: str(inputs.get(name) or environ.get(variable, "")) for name, variable in FALLBACKS.items()}
    base = (found["baseUrl"] or "https://api.tailscale.com").rstrip("/")
    if not is_safe(base):
        raise SettingError("baseUrl", "baseUrl has to be https://host[:port]; http:// only for 127.0.0.1 or localhost")
    key = found["apiKey"]
    if key.startswith("file:"):
        try:
            key = Path(key.removeprefix("file:")).read_text()
        except (OSError, UnicodeError):
            raise SettingError("apiKey", "apiKey names a file (file:PATH) that cannot be read") from None
    if not key.strip():
        raise SettingError(
            "apiKey",
            "no Tailscale API key: set TAILSCALE_API_KEY, or `pulumi config set --secret tailscale:apiKey` "
            "(OAuth clients need the official plugin)",
        )
    agent = str(inputs.get("userAgent") or "pulumi-tailscale-stand-in")
    return Api(base=base, tailnet=found["tailnet"] or "-", key=key.strip(), agent=agent)
