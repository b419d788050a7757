"""A fake of Open WebUI 0.12 as its page sees it: one account, and a real Socket.IO server that tells of answers.

`python -m tests.support.chat` prints its address and serves until its standard input ends. How a message is answered is
in the name of the model: see ANSWERS. What came in is at /_seen.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import uuid
from typing import Any, Final

import flask
import socketio
from werkzeug.serving import WSGIRequestHandler, make_server

EMAIL: Final = "admin@localhost"
PASSWORD: Final = "right-and-long"
TOKEN: Final = "session-of-admin"
HALF: Final = "session-without-socket"
"""Everything but the socket takes it."""
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


class Chat:
    """The fake's state and its routes."""

    def __init__(self) -> None:
        self.app = flask.Flask("chat")
        self.sio = socketio.Server(async_mode="threading")
        self.seen: list[dict[str, Any]] = []
        self.app.before_request(self._note)
        for methods, path, answer in (
            ("POST", "/api/v1/auths/signin", self._sign_in),
            ("GET", "/api/config", lambda: {"default_models": "good"}),
            ("GET", "/api/models", lambda: {"data": [{"id": name} for name in (*ANSWERS, "refused")]}),
            ("POST", "/api/chat/completions", self._message),
            ("POST", "/api/tasks/chat/<one>/stop", lambda one: {"status": True}),
            ("DELETE", "/api/v1/chats/<one>", lambda one: flask.jsonify(True)),
            ("POST", "/api/v1/files/", lambda: {"id": str(uuid.uuid4())}),
            ("GET", "/api/v1/files/<one>/process/status", lambda one: 'data: {"status": "completed"}\n\n'),
            ("DELETE", "/api/v1/files/<one>", lambda one: flask.jsonify(True)),
            ("GET", "/_seen", lambda: flask.jsonify(self.seen)),
        ):
            self.app.add_url_rule(path, path + methods, answer, methods=[methods])
        self.sio.on("connect", lambda sid, _environ, auth: self._join(sid, auth))
        self.sio.on("user-join", lambda sid, data: self._join(sid, data["auth"]))
        self.sio.on("heartbeat", lambda _sid, _data: None)

    def _note(self) -> Any:
        request = flask.request
        if not request.path.startswith("/_"):
            self.seen.append({"method": request.method, "path": request.path, "body": request.get_data(as_text=True)})
        free = request.path.startswith(("/api/v1/auths", "/_"))
        if not free and request.headers.get("Authorization") not in {f"Bearer {TOKEN}", f"Bearer {HALF}"}:
            return {"detail": f"401 Unauthorized: {request.headers.get('Authorization')}"}, 401
        return None

    def _sign_in(self) -> Any:
        if flask.request.json == {"email": EMAIL, "password": PASSWORD}:
            return {"token": TOKEN, "role": "admin"}
        if flask.request.json["password"] == REPEATED:
            return {"detail": [{"msg": "no", "input": flask.request.json}]}, 422
        return {"detail": "The email or password provided is incorrect."}, 400

    def _join(self, sid: str, auth: Any) -> Any:
        # As the real one: whoever has no valid token gets a session, and never an event.
        if not auth or auth.get("token") != TOKEN:
            return None
        self.sio.enter_room(sid, "user")
        return {"id": "1", "name": "Admin"}

    def _message(self) -> Any:
        body = flask.request.json or {}
        if body["model"] == "refused":
            return {"error": {"message": "Too many requests from this address. Wait 3 seconds."}}, 429
        if body["model"] == "stuck":
            time.sleep(STUCK)
        chat = body.get("chat_id") or str(uuid.uuid4())
        threading.Thread(target=self._tell, args=(chat, body, body["session_id"]), daemon=True).start()
        return {"status": True, "task_ids": ["1"], "chat_id": chat}

    def _tell(self, chat: str, body: dict[str, Any], sid: str) -> None:
        for kind, data in ANSWERS[body["model"]]:
            time.sleep(GAP)
            if kind == "cut":
                self.sio.disconnect(sid)
                return
            told = {"chat_id": chat, "message_id": body["id"], "data": {"type": kind, "data": data}}
            self.sio.emit("events", told, room="user")


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
