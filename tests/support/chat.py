"""A fake of Open WebUI 0.12 as its page sees it: accounts, and a real Socket.IO server that tells of answers.

`python -m tests.support.chat` prints its address and serves until its standard input ends. How a message is answered is
in the name of the model: see ANSWERS. What came in is at /_seen, who has an account at /_accounts. Beside the chat it
has as much of the API as a load run looks at before it begins.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import flask
import socketio
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.support.samples import ROOT

EMAIL: Final = "admin@localhost"
PASSWORD: Final = "right-and-long"
TOKEN: Final = "session-of-admin"
HALF: Final = "session-without-socket"
"""Everything but the socket takes it."""
MEMBER: Final = "member@localhost"
"""Somebody without rights of an administrator, with the same password."""
PAGE: Final = 3
"""Of what is listed; the real one has 30 accounts and 50 documents on a page."""
REPEATED: Final = "correct-horse-battery"
"""The refusal of this one has it in it."""
GAP: Final = 0.02
STUCK: Final = 1.0


def piece(text: str, kind: str = "output_text") -> tuple[str, dict[str, Any]]:
    """An event with a piece of an answer, as the real one sends it."""
    return "response:completion", {"type": f"response.{kind}.delta", "item_id": "msg_1", "delta": text}


END: Final = ("chat:completion", {"done": True, "title": "New Chat"})
USAGE: Final = ("chat:completion", {"usage": {"prompt_tokens": 30, "completion_tokens": 5}})
ANSWERS: Final[dict[str, list[tuple[str, Any]]]] = {
    "good": [("chat:active", {"active": True}), *(piece(f" word{number}") for number in range(5)), USAGE, END],
    "thinking": [piece("hm", "reasoning_text"), piece(" so"), END],
    "limited": [
        ("chat:message:error", {"error": {"content": "This key may have 2 answers running at the same time."}})
    ],
    "broken": [piece("a"), ("chat:completion", {"error": {"message": "the engine is gone"}})],
    "telling": [piece("a"), ("chat:completion", {"error": {"message": f"no engine for {TOKEN}"}})],
    "silent": [],
    "stuck": [],
    "cut": [piece("a"), ("cut", None)],
}


@dataclass
class Someone:
    """An account. `email` tells them apart in what was seen."""

    id: str
    email: str
    role: str
    token: str


class Chat:
    """The fake's state and its routes."""

    def __init__(self) -> None:
        self.app = flask.Flask("chat")
        self.sio = socketio.Server(async_mode="threading")
        self.seen: list[dict[str, Any]] = []
        self.accounts = [Someone("1", EMAIL, "admin", TOKEN), Someone("2", MEMBER, "user", "session-of-member")]
        self.files: list[dict[str, str]] = []
        self.set: dict[str, Any] = {}
        """What goes differently: `limit` so many requests of an administrator's get 429, `granted` models of those
        without rights, `factor`: a new account has no session yet, `form`: accounts are made in another one, `lost`:
        the answer to making one is, `stays`: none can be removed."""
        self.app.before_request(self._note)
        for methods, path, answer in (
            ("POST", "/api/v1/auths/signin", self._sign_in),
            ("POST", "/api/v1/auths/add", self._add),
            ("GET", "/api/v1/users/", self._users),
            ("DELETE", "/api/v1/users/<one>", self._remove),
            ("GET", "/api/config", lambda: {"default_models": "good"}),
            ("GET", "/api/models", self._models),
            ("POST", "/api/chat/completions", self._message),
            ("POST", "/api/tasks/chat/<one>/stop", lambda one: {"status": True}),
            ("DELETE", "/api/v1/chats/<one>", lambda one: flask.jsonify(True)),
            ("POST", "/api/v1/files/", self._upload),
            ("GET", "/api/v1/files/", lambda: self._page("items", self.files)),
            ("GET", "/api/v1/files/<one>/process/status", lambda one: 'data: {"status": "completed"}\n\n'),
            ("DELETE", "/api/v1/files/<one>", self._forget),
            ("GET", "/v1/models", lambda: {"data": [{"id": "default"}]}),
            ("POST", "/v1/chat/completions", self._complete),
            ("GET", "/_seen", lambda: flask.jsonify(self.seen)),
            ("GET", "/_accounts", lambda: flask.jsonify([one.email for one in self.accounts])),
            ("GET", "/_files", lambda: flask.jsonify(self.files)),
            ("POST", "/_set", self._change),
        ):
            self.app.add_url_rule(path, path + methods, answer, methods=[methods])
        self.sio.on("connect", lambda sid, _environ, auth: self._join(sid, auth))
        self.sio.on("user-join", lambda sid, data: self._join(sid, data["auth"], told=True))
        self.sio.on("heartbeat", lambda _sid, _data: None)

    def _note(self) -> Any:
        request = flask.request
        flask.g.who = who = self._whose(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if request.path.startswith(("/_", "/v1/")):
            return None
        self._saw(request.method, request.path, request.get_data(as_text=True), who)
        if request.path == "/api/v1/auths/signin":
            return None
        if who is None:
            return {"detail": f"401 Unauthorized: {request.headers.get('Authorization')}"}, 401
        if request.path.startswith(("/api/v1/auths", "/api/v1/users")):
            if who.role != "admin":
                return {"detail": "Unauthorized"}, 401
            if self.set.get("limit", 0) > 0:
                self.set["limit"] -= 1
                return {"error": {"message": "Too many requests from this address. Wait 1 second."}}, 429
        return None

    def _saw(self, method: str, path: str, body: str, who: Someone | None) -> None:
        email, now = who.email if who else "", time.monotonic_ns()
        self.seen.append({"method": method, "path": path, "body": body, "who": email, "at_ns": now})

    def _whose(self, token: str) -> Someone | None:
        known = TOKEN if token == HALF else token
        return next((one for one in self.accounts if one.token == known), None)

    def _change(self) -> Any:
        self.set = flask.request.json or {}
        self.seen.clear()
        return flask.jsonify(True)

    def _sign_in(self) -> Any:
        asked = flask.request.json or {}
        if asked["password"] == REPEATED:
            return {"detail": [{"msg": "no", "input": asked}]}, 422
        one = next((one for one in self.accounts if one.email == asked["email"]), None)
        if one is None or asked["password"] != PASSWORD:
            return {"detail": "The email or password provided is incorrect."}, 400
        return {"token": one.token, "role": one.role}

    def _add(self) -> Any:
        asked = flask.request.json or {}
        if any(one.email == asked["email"] for one in self.accounts):
            return {"detail": "Uh-oh! This email is already registered."}, 400
        if self.set.get("form"):  # as FastAPI says it
            return {"detail": [{"type": "missing", "loc": ["body", "handle"], "input": asked}]}, 422
        one = Someone(str(uuid.uuid4()), asked["email"], asked["role"], f"session-of-{uuid.uuid4()}")
        self.accounts.append(one)
        if self.set.get("lost"):  # made, but its answer never arrives
            return {"detail": "the gateway gave up"}, 504
        return {"id": one.id, "email": one.email, **({} if self.set.get("factor") else {"token": one.token})}

    def _users(self) -> Any:
        wanted = flask.request.args["query"]
        found = [{"id": one.id, "email": one.email} for one in self.accounts if wanted in one.email]
        return self._page("users", sorted(found, key=lambda one: one["email"]))

    def _page(self, name: str, found: list[dict[str, str]]) -> Any:
        begin = (int(flask.request.args["page"]) - 1) * PAGE
        return {name: found[begin : begin + PAGE], "total": len(found)}

    def _remove(self, one: str) -> Any:
        if self.set.get("stays"):
            return {"detail": "DELETE_USER_ERROR"}, 500
        self.accounts = [other for other in self.accounts if other.id != one]
        return flask.jsonify(True)

    def _models(self) -> Any:
        names = (*ANSWERS, "refused")
        if flask.g.who.role != "admin":
            names = tuple(self.set.get("granted", names))
        return {"data": [{"id": name} for name in names]}

    def _upload(self) -> Any:
        self.files.append({"id": str(uuid.uuid4()), "user_id": flask.g.who.id})
        return self.files[-1]

    def _forget(self, one: str) -> Any:
        self.files = [other for other in self.files if other["id"] != one]
        return flask.jsonify(True)

    def _complete(self) -> Any:
        usage = {"prompt_tokens": len(flask.request.get_data()) // 6, "completion_tokens": 1, "total_tokens": 2}
        told = [
            {"choices": [{"index": 0, "delta": {"content": "word"}, "finish_reason": "stop"}]},
            {"choices": [], "usage": usage},
        ]
        lines = [f"data: {json.dumps(one)}\n\n" for one in told]
        return flask.Response([*lines, "data: [DONE]\n\n"], mimetype="text/event-stream")

    def _join(self, sid: str, auth: Any, *, told: bool = False) -> Any:
        # As the real one: whoever has no valid token gets a session, and never an event.
        token = auth.get("token") if auth else None
        who = None if token == HALF else self._whose(token or "")
        if who is None:
            return None
        if told:
            self._saw("JOIN", "/ws", "", who)
        self.sio.enter_room(sid, who.id)
        return {"id": who.id, "name": who.email}

    def _message(self) -> Any:
        body = flask.request.json or {}
        if body["model"] == "refused":
            return {"error": {"message": "Too many requests from this address. Wait 3 seconds."}}, 429
        if body["model"] == "stuck":
            time.sleep(STUCK)
        chat = body.get("chat_id") or str(uuid.uuid4())
        asked = (chat, body, body["session_id"], flask.g.who.id)
        threading.Thread(target=self._tell, args=asked, daemon=True).start()
        return {"status": True, "task_ids": ["1"], "chat_id": chat}

    def _tell(self, chat: str, body: dict[str, Any], sid: str, who: str) -> None:
        for kind, data in ANSWERS[body["model"]]:
            time.sleep(GAP)
            if kind == "cut":
                self.sio.disconnect(sid)
                return
            told = {"chat_id": chat, "message_id": body["id"], "data": {"type": kind, "data": data}}
            self.sio.emit("events", told, room=who)


@contextmanager
def serving() -> Iterator[str]:
    """The fake in a process of its own; its address."""
    command = [sys.executable, "-m", "tests.support.chat"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.stdin.close()
            process.wait(timeout=10)


def told(url: str, what: str) -> list[Any]:
    """What the fake at this address tells of itself: seen, accounts, files."""
    with urllib.request.urlopen(f"{url}/_{what}") as answer:
        found: list[Any] = json.load(answer)
    return found


def changed(url: str, **how: Any) -> None:
    """From here on it goes differently (nothing given: as usual), and what was seen is forgotten."""
    asked = urllib.request.Request(f"{url}/_set", json.dumps(how).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked) as answer:
        assert json.load(answer)


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """Says nothing."""


def main() -> None:
    """Serves until its standard input ends."""
    chat = Chat()
    server = make_server(
        "127.0.0.1", 0, socketio.WSGIApp(chat.sio, chat.app, socketio_path="ws/socket.io"), threaded=True,
        request_handler=_Quiet,
    )  # fmt: skip
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(json.dumps({"url": f"http://127.0.0.1:{server.port}"}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
