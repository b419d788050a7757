"""Open WebUI through the gateway, as its own pages use it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import requests

from tests.support.live.platform import Platform
from tests.support.live.waits import until

SHORT: Final = {"max_tokens": 8}  # a stand-in model would speak on and on


@dataclass(frozen=True)
class Answer:
    """A streamed answer: its text, and the passages that the question was sent with."""

    text: str
    passages: list[tuple[str, str]]
    """(file name, text), the best first."""


@dataclass
class WebUI:
    """A signed-in browser."""

    platform: Platform

    @cached_property
    def http(self) -> requests.Session:
        """The client; every answer but 2xx is for the caller to judge."""
        return self.platform.session()

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        """One request."""
        return self.http.request(method, f"{self.platform.url}{path}", timeout=120, **more)

    def json(self, method: str, path: str, **more: Any) -> Any:
        """One request that must succeed, its answer read as JSON."""
        answer = self.call(method, path, **more)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    @cached_property
    def model(self) -> str:
        """The model that a new chat uses."""
        return str(self.json("GET", "/api/config")["default_models"])

    def sign_in(self) -> WebUI:
        """Signs in with the generated password."""
        account = {"email": "admin@localhost", "password": self.platform.secret("admin-password")}
        answer = self.json("POST", "/api/v1/auths/signin", json=account)
        self.http.headers["Authorization"] = f"Bearer {answer['token']}"
        return self

    def ask(self, question: str, **more: Any) -> Answer:
        """A question to the default model, streamed."""
        body = {"model": self.model, "stream": True, "messages": [{"role": "user", "content": question}]}
        answer = self.call("POST", "/api/chat/completions", json=body | SHORT | more, stream=True)
        assert answer.ok, f"{answer.status_code} {answer.text[:500]}"
        text, passages = "", []
        for line in answer.iter_lines():
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line.removeprefix(b"data: "))
            assert "error" not in event, event
            for source in event.get("sources", ()):
                names = [entry["name"] for entry in source["metadata"]]
                passages += list(zip(names, source["document"], strict=True))
            for choice in event.get("choices", ()):
                text += choice["delta"].get("content") or ""
        return Answer(text, passages)

    def upload(self, name: str, text: str) -> str:
        """Uploads a document and waits until it is taken in. Returns its id. Raises AssertionError."""
        answer = self.json("POST", "/api/v1/files/", files={"file": (name, text.encode(), "text/plain")})
        file = str(answer["id"])

        def ended() -> str | None:
            status = str(self.json("GET", f"/api/v1/files/{file}/process/status")["status"])
            return status if status in {"completed", "failed"} else None

        how = until(f"{name} is taken in", ended, 60)
        assert how == "completed", f"{name}: {how}"
        return file

    def knowledge(self, name: str, files: list[str]) -> str:
        """A collection of uploaded files; its id."""
        created = self.json("POST", "/api/v1/knowledge/create", json={"name": name, "description": name})
        batch = [{"file_id": file} for file in files]
        self.json("POST", f"/api/v1/knowledge/{created['id']}/files/batch/add", json=batch)
        return str(created["id"])
