"""Accounts of the chat for the people of a load: made before it and removed behind it, with an administrator's session.

Open WebUI sends each token to all sockets of an account, and what it counts by person it counts by account. So people
of a load have what real people have: an account each, and a socket.
"""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any, Final, Self

import gevent
from gevent.lock import BoundedSemaphore

from loadtests.target import Target
from loadtests.users.base import CannotGoOn
from loadtests.users.page import Api, Refused, model

MOST: Final = 32
"""Accounts of one run. Each costs the chat a hashed password before the load (about a third of a second of one core)
and a socket during it. More people share them, a few to an account, which still has one socket."""
NAME: Final = "load-{}@load.invalid"
"""Nobody else has such an address: names in `invalid` are no one's (RFC 2606)."""
OURS: Final = re.compile(r"load-\d+@load\.invalid")
RULES: Final = "aA1-"
"""What a chat that has rules for passwords asks for."""
ANSWER_S: Final = 30.0
REMOVE_S: Final = 60.0
"""For removing them all (seconds): an end of a run waits for it."""
AGAIN_S: Final = 1.0
TRIES: Final = 60
"""The gateway lets one address do ten things a second, which the load may just have used up."""


def pool(people: int, workers: int) -> int:
    """How many accounts so many people have, in so many workers.

    The person with place p lives in worker p modulo `workers` and has account p modulo this number. Where people share
    accounts it is a multiple of the workers: an account with people in two of them had two sockets, and the chat would
    send each of its tokens twice.
    """
    return people if people <= MOST else MOST - MOST % workers or MOST


class Crew:
    """The accounts of one run, none at first. Use it with `with`: what was made is removed at its end.

    Args:
        said: takes a line for people.
        stopped: whether the run is to end.
    """

    def __init__(
        self, said: Callable[[str], None] = lambda _: None, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self._said, self._stopped = said, stopped
        self.made = 0
        self._api: Api | None = None
        self._removing = BoundedSemaphore()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()

    def make(self, target: Target, token: str, count: int) -> tuple[str, ...]:
        """New accounts without any rights of their own, those of an earlier load removed. Their sessions.

        Raises:
            CannotGoOn: the chat does not make them, or they may not use the model.
            KeyboardInterrupt: the run is to end.
        """
        self._api = Api(target.url, token=token, ca=target.ca, timeout=ANSWER_S)
        tokens: list[str] = []
        try:
            if left := _clear(self._api):
                self._said(f"removed {left} accounts that an earlier load left in the chat")
            self._said(f"the load's people get accounts in the chat: making {count}")
            while len(tokens) < count:
                if self._stopped():
                    raise KeyboardInterrupt
                tokens.append(_add(self._api, len(tokens) + 1))
                self.made = len(tokens)
                if len(tokens) == 1:
                    _try(target, tokens[0])
        except Refused as error:
            raise CannotGoOn(
                f"the chat makes no accounts for the load's people: {error}. All can share one where the sign-in is "
                "not an administrator's"
            ) from None
        return tuple(tokens)

    def remove(self) -> None:
        """Removes all that were made, once; whoever asks meanwhile waits for it. Says what is left."""
        with self._removing:
            api, self._api = self._api, None
            if api is None:
                return
            try:
                with closing(api), gevent.Timeout(REMOVE_S):
                    _clear(api)
            except (Refused, gevent.Timeout) as error:
                why = f"not done in {REMOVE_S:g} s" if isinstance(error, gevent.Timeout) else str(error)
                self._said(
                    f"accounts {NAME.format('…')} are left in the chat ({why}): the next load that signs in as an "
                    "administrator removes them"
                )


def _add(api: Api, number: int) -> str:
    """A new account's session. Raises Refused or CannotGoOn, neither with the password in it."""
    form = {
        "name": f"load {number}", "email": NAME.format(number), "role": "user",
        "password": secrets.token_urlsafe(32) + RULES,
    }  # fmt: skip
    try:
        told = _patiently(api, "POST", "/api/v1/auths/add", form)
    except Refused as error:
        if error.status == 422:  # it repeats what it was given
            raise Refused("it takes them in another form than Open WebUI 0.12 does", 422) from None
        raise
    if not (isinstance(told, dict) and told.get("token")):
        raise CannotGoOn(
            "the chat gives a new account no session without a second factor, so the load's people cannot have their "
            "own; all can share one where the sign-in is not an administrator's"
        )
    return str(told["token"])


def _try(target: Target, token: str) -> None:
    """Raises CannotGoOn where such an account may not use the model."""
    try:
        with closing(Api(target.url, token=token, ca=target.ca, timeout=ANSWER_S)) as api:
            model(api, target)
    except CannotGoOn as error:
        raise CannotGoOn(
            f"the load's people have accounts without any rights of their own, and to these {error}. Where the chat "
            "grants models, grant it to everybody"
        ) from None


def _clear(api: Api) -> int:
    """Removes accounts with such a name, their chats and documents; how many. Raises Refused.

    They are looked up: one whose making was not answered is there, too.
    """
    query = "/api/v1/users/?query=load.invalid&order_by=email&direction=asc"
    ours = [one["id"] for one in _listed(api, query, "users") if OURS.fullmatch(str(one.get("email")))]
    # With an account its chats are deleted, but not its documents.
    for file in _listed(api, "/api/v1/files/?content=false", "items") if ours else ():
        if file.get("user_id") in ours:
            with suppress(Refused):
                _patiently(api, "DELETE", f"/api/v1/files/{file['id']}")
    for one in ours:
        _patiently(api, "DELETE", f"/api/v1/users/{one}")
    return len(ours)


def _listed(api: Api, path: str, name: str) -> list[dict[str, Any]]:
    """All that the chat lists there, page by page. Raises Refused."""
    found: list[dict[str, Any]] = []
    for page in itertools.count(1):
        told = _patiently(api, "GET", f"{path}&page={page}")
        try:
            entries, total = [{**one, "id": str(one["id"])} for one in told[name]], int(told["total"])
        except (KeyError, TypeError, ValueError):
            raise Refused(f"GET {path.partition('?')[0]}: not a list as Open WebUI 0.12 makes it") from None
        found += entries
        if not entries or len(found) >= total:
            break
    return found


def _patiently(api: Api, method: str, path: str, body: Any = None) -> Any:
    """An answer, as soon as the gateway lets it through. Raises Refused for anything else."""
    left = TRIES
    while True:
        try:
            return api.json(method, path, body)
        except Refused as error:
            left -= 1
            if error.status != 429 or not left:
                raise
        gevent.sleep(AGAIN_S)
