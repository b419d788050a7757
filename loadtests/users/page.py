"""What the chat's page asks of its server beside the socket: signing in, messages, uploads, and tidying up after it.

Runs under gevent, which must have patched the process.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from gevent.lock import BoundedSemaphore
from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPParseError

from loadtests.client.secret import Secrets
from loadtests.target import Target
from loadtests.users.base import CannotGoOn
from loadtests.users.sockets import Channel, trust

EMAIL: Final = "LOAD_CHAT_EMAIL"
PASSWORD: Final = "LOAD_CHAT_PASSWORD"  # noqa: S105  (a variable's name)
TOKEN: Final = "LOAD_CHAT_TOKEN"  # noqa: S105  (a variable's name)
"""Sessions that somebody signed in to already, with spaces between: with them nobody here tries a password."""
CONNECTIONS: Final = 10_000
"""At most, to one chat: people never wait for each other's."""
SIGN_IN_S: Final = 30.0
BOUNDARY: Final = "b7f4d1c09a3e4c52"


class Refused(Exception):
    """The chat did not do what was asked; the message says why. `status`: its answer, None for none."""

    def __init__(self, why: str, status: int | None = None) -> None:
        super().__init__(why)
        self.status = status


class Api:
    """The chat's own interface, as its page uses it. `timeout`: the longest silence, in seconds.

    Nothing that it raises repeats the token, or the `password` that goes over it.
    """

    def __init__(
        self, url: str, *, token: str = "", password: str = "", ca: Path | None = None, timeout: float = 600
    ) -> None:
        self.secrets = Secrets(token, password)
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        self._headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._http = HTTPClient(
            parts.hostname or "", parts.port, ssl=tls, ssl_context_factory=lambda: trust(ca), concurrency=CONNECTIONS,
            connection_timeout=timeout, network_timeout=timeout,
        )  # fmt: skip

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def text(self, method: str, path: str, body: bytes = b"", kind: str = "") -> str:
        """The answer to one request. Raises Refused for any but a good one."""
        headers = self._headers | ({"Content-Type": kind} if kind else {})
        try:
            answer = self._http.request(method, path, body=body, headers=headers)
            said = bytes(answer.read()).decode(errors="replace")
            answer.release()
        except (OSError, HTTPParseError) as error:
            told = self.secrets.said(str(error)) or type(error).__name__
            why = "no answer in time" if isinstance(error, TimeoutError) else told
            raise Refused(f"{method} {_shape(path)}: {why}") from None
        if answer.status_code >= 300:
            raise Refused(f"{method} {_shape(path)}: {reason(said, self.secrets)}", answer.status_code)
        return said

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """The same in JSON. Raises Refused, for an answer that is none too."""
        said = self.text(method, path, b"" if body is None else json.dumps(body).encode())
        try:
            return json.loads(said)
        except ValueError:
            raise Refused(f"{method} {_shape(path)}: the answer is not JSON; is the chat at this address?") from None

    def upload(self, name: str, text: str) -> str:
        """Uploads a document and waits until its passages are embedded. Its number. Raises Refused."""
        body = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            f"Content-Type: text/plain\r\n\r\n{text}\r\n--{BOUNDARY}--\r\n"
        )
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        said = self.text("POST", "/api/v1/files/?process=true", body.encode(), kind)
        try:
            file = quote(str(json.loads(said)["id"]))
        except (ValueError, LookupError, TypeError, RecursionError):
            raise Refused("the chat took the document without saying which it is") from None
        # The page follows it in a stream of events, which ends with it.
        lines = self.text("GET", f"/api/v1/files/{file}/process/status?stream=true").splitlines()
        with suppress(ValueError, RecursionError):
            last = json.loads(next((one[5:] for one in reversed(lines) if one.startswith("data:")), "{}"))
            if isinstance(last, dict) and last.get("status") == "completed":
                return file
            lines = [str(last.get("error") or last.get("status")) if isinstance(last, dict) else str(last)]
        raise Refused(f"the document was not taken in: {reason(lines[-1] if lines else 'no status', self.secrets)}")


class Account:
    """Somebody who is signed in, with the page open. All people of a worker who have this account share its socket."""

    def __init__(self, target: Target, token: str, model: str) -> None:
        self._target, self._token = target, token
        self.api = Api(target.url, token=token, ca=target.ca)
        self.model = model
        self._channel: Channel | None = None
        self._opening = BoundedSemaphore()

    def channel(self) -> Channel:
        """Its socket, opened again where it was lost. Raises SocketError."""
        with self._opening:
            if self._channel is None or not self._channel.alive:
                self._channel = Channel(self._target.url, self._token, ca=self._target.ca)
            return self._channel


def model(api: Api, target: Target) -> str:
    """The page knows models by their own names; `default` is what a new chat uses. Raises CannotGoOn."""
    try:
        wanted = target.model
        if wanted == Target.model:
            told = str(api.json("GET", "/api/config")["default_models"] or "")
            wanted = api.secrets.said(told).partition(",")[0]
        offered = [str(one["id"]) for one in api.json("GET", "/api/models")["data"]]
    except (Refused, KeyError, TypeError) as error:
        raise CannotGoOn(f"the chat does not tell its models: {error}") from None
    if wanted not in offered:
        there = api.secrets.said(", ".join(offered)) or "none"
        raise CannotGoOn(
            f"the chat does not offer the model {wanted!r}; there are: {there}. Name one with MODEL=…, by its own name"
        )
    return wanted


class Accounts:
    """Who is signed in where: once for each target, however many people ask, and whatever came of it."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment
        self._known: dict[Target, list[Account] | CannotGoOn] = {}
        self._first = BoundedSemaphore()

    def at(self, target: Target, place: int = 0) -> Account:
        """The account of the person with this place: each has one of its own, as far as there are enough.

        Raises CannotGoOn: nobody can sign in. It is not tried again: wrong passwords get an address banned.
        """
        with self._first:
            if target not in self._known:
                try:
                    self._known[target] = self._all(target)
                except CannotGoOn as error:
                    self._known[target] = error
        found = self._known[target]
        if isinstance(found, CannotGoOn):
            raise found
        return found[place % len(found)]

    def _all(self, target: Target) -> list[Account]:
        tokens = sign_in(target, self._environment).tokens
        with closing(Api(target.url, token=tokens[0], ca=target.ca)) as api:
            name = model(api, target)
        return [Account(target, token, name) for token in tokens]


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Sessions of the chat, one or several. `admin`: it is an administrator's; not known of those that were given."""

    tokens: tuple[str, ...] = field(repr=False)
    admin: bool = False


def sign_in(target: Target, environment: Mapping[str, str]) -> SignedIn:
    """The sessions that are given, or one by the password that is given.

    Raises:
        CannotGoOn: neither is given, or it is not accepted.
    """
    if tokens := environment.get(TOKEN, "").split():
        return SignedIn(tuple(tokens))
    email, password = environment.get(EMAIL), environment.get(PASSWORD)
    if not (email and password):
        raise CannotGoOn(
            f"people of the chat sign in: {EMAIL} and {PASSWORD} say as whom (`make load` on a stack of "
            "this machine sets them)"
        )
    try:
        with closing(Api(target.url, password=password, ca=target.ca, timeout=SIGN_IN_S)) as api:
            told = api.json("POST", "/api/v1/auths/signin", {"email": email, "password": password})
        return SignedIn((str(told["token"]),), admin=told.get("role") == "admin")
    except Refused as error:
        ways = {
            400: f"{email} or its password is not known there; it is tried once only, as more get an address banned",
            429: f"signing in is limited, or this address is banned after wrong keys or passwords ({error}): wait",
        }
        raise CannotGoOn(f"the chat at {target.url}: {ways.get(error.status or 0, str(error))}") from None
    except (KeyError, TypeError):
        raise CannotGoOn(f"the chat at {target.url} does not sign in with a password alone") from None


def reason(said: Any, secrets: Secrets) -> str:
    """Why something failed, in the words of Open WebUI (detail) or of the gateway (error); short, without secrets."""
    told = said
    if isinstance(said, str):
        with suppress(ValueError, RecursionError):
            told = json.loads(said)
    while isinstance(told, dict):
        told = next((told[name] for name in ("detail", "error", "message", "content") if told.get(name)), str(told))
    return secrets.said(str(told))[:200] or "no reason given"


def _shape(path: str) -> str:
    """A path without numbers: one error is one error, whatever it was about."""
    parts = path.partition("?")[0].split("/")
    return "/".join("…" if len(one) == 36 and one.count("-") == 4 else one for one in parts)
