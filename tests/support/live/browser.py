"""A real browser on the chat: Chromium without a window, which trusts the stack's authority and reaches no other."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, Response, WebSocket, sync_playwright

from tests.support import tools
from tests.support.live.platform import Platform

QUIET: Final = 0.5  # seconds without a request: the page has what it wants
LIMIT: Final = 90.0
AGAIN: Final = 5  # times a page is asked for when networks of the machine came or went meanwhile
ARGUMENTS: Final = (
    "--no-sandbox",  # as root it has none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)


@dataclass(frozen=True)
class Exchange:
    """A request as it was sent, and the status of its answer."""

    method: str
    target: str
    status: int
    policy: str
    """The answer's Content-Security-Policy."""
    request: Request


@dataclass
class Browser:
    """One profile with one window. Everything that it sent, and everything that went wrong, is kept."""

    url: str
    folder: Path
    page: Page
    exchanges: list[Exchange] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    """Errors of the console and of scripts, refused policies, requests without an answer."""
    frames: list[tuple[str, str]] = field(default_factory=list)
    """(`sent` or `received`, text) of the socket."""
    sockets: list[str] = field(default_factory=list)
    wire: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Each request as it went out, in order: `request`, `type`, and `headers` with all that the network added."""
    _open: set[Request] = field(default_factory=set)
    _since: float = 0.0

    def watch(self, context: BrowserContext) -> None:
        """Notes what happens from now on."""
        context.on("request", self._asked)
        context.on("response", self._answered)
        context.on("requestfailed", self._failed)
        context.on("console", self._said)
        context.on("weberror", lambda error: self.troubles.append(f"script: {error.error}"))
        self.page.on("websocket", self._socket)
        session = context.new_cdp_session(self.page)
        session.on("Network.requestWillBeSent", lambda event: self._wire(event).update(event))
        session.on(
            "Network.requestWillBeSentExtraInfo", lambda event: self._wire(event).update(headers=event["headers"])
        )
        session.on("Network.webSocketCreated", lambda event: self._wire(event).update(url=event["url"]))
        session.on("Network.webSocketWillSendHandshakeRequest", lambda event: self._wire(event).update(event))
        session.send("Network.enable")

    def open(self, path: str) -> None:
        """Goes to an address of the chat and waits until nothing more is asked for."""
        before = len(self.troubles)
        self.page.goto(f"{self.url}{path}")
        self.quiet()
        # Chromium gives up what it is asking for when any network of this machine, Docker's too, comes or goes.
        for _ in range(AGAIN):
            if not any("ERR_NETWORK_CHANGED" in trouble for trouble in self.troubles[before:]):
                break
            del self.troubles[before:]
            self.page.reload()
            self.quiet()

    def quiet(self) -> None:
        """Waits until no request is open and none came for a moment."""
        self.wait(
            "no request is open", lambda: not self._open and time.monotonic() - self._since > QUIET, lambda: self._open
        )

    def wait(self, what: str, true: Callable[[], object], seen: Callable[[], object] = lambda: "") -> None:
        """Waits for a condition while the browser goes on. Raises AssertionError after LIMIT seconds."""
        end = time.monotonic() + LIMIT
        while not true():
            assert time.monotonic() < end, f"{what}: not within {LIMIT:g} s; last seen: {seen()}"
            self.page.wait_for_timeout(50)

    def sign_in(self, email: str, password: str) -> None:
        """By the form, as a person does."""
        self.page.fill("#email", email)
        self.page.fill("#password", password)
        self.page.click("button[type=submit]")
        self.page.wait_for_selector("#chat-input")
        self.quiet()
        # Whoever signs in for the first time is told what is new.
        if news := self.page.query_selector("[role=dialog] button:has-text('Okay')"):
            news.click()
            self.quiet()

    def ask(self, question: str) -> None:
        """Types a question and sends it."""
        self.page.click("#chat-input")
        self.page.keyboard.type(question)
        self.page.keyboard.press("Enter")

    def shoot(self, name: str) -> None:
        """A picture of the window, in the test's folder."""
        self.page.screenshot(path=self.folder / f"{name}.png")

    def _asked(self, request: Request) -> None:
        self._open.add(request)
        self._since = time.monotonic()

    def _answered(self, response: Response) -> None:
        request = response.request
        self._since = time.monotonic()
        self._open.discard(request)  # with the head: a script that never reads the rest leaves it open for good
        if request.url.startswith(self.url):
            self.exchanges.append(
                Exchange(
                    method=request.method,
                    target=request.url.removeprefix(self.url),
                    status=response.status,
                    policy=response.headers.get("content-security-policy", ""),
                    request=request,
                )
            )
        elif not request.url.startswith(("data:", "blob:")):
            self.troubles.append(f"asked elsewhere: {request.method} {request.url}")

    def _wire(self, event: dict[str, Any]) -> dict[str, Any]:
        return self.wire.setdefault(event["requestId"], {})

    def _failed(self, request: Request) -> None:
        self._open.discard(request)
        self._since = time.monotonic()
        if request.failure != "net::ERR_ABORTED":  # by leaving the page
            self.troubles.append(f"no answer: {request.method} {request.url}: {request.failure}")

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error" or "Content Security Policy" in message.text:
            self.troubles.append(f"console: {message.text} ({message.location['url']})")

    def _socket(self, socket: WebSocket) -> None:
        self.sockets.append(socket.url)
        socket.on("framesent", lambda frame: self.frames.append(("sent", str(frame))))
        socket.on("framereceived", lambda frame: self.frames.append(("received", str(frame))))


@contextmanager
def opened(platform: Platform, folder: Path) -> Iterator[Browser]:
    """Starts the browser with an empty profile in a folder."""
    program, certutil = tools.chromium()
    home = folder / "home"
    store = home / ".pki" / "nssdb"
    store.mkdir(parents=True)
    for words in (
        ["-N", "--empty-password"],
        ["-A", "-t", "C,,", "-n", "private-llm", "-i", platform.ca],
    ):
        done = subprocess.run([certutil, *words, "-d", f"sql:{store}"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            folder / "profile",
            executable_path=program,
            headless=True,
            args=list(ARGUMENTS),
            env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
            viewport={"width": 1280, "height": 900},
        )
        context.set_default_timeout(LIMIT * 1000)
        try:
            browser = Browser(platform.url, folder, context.pages[0])
            browser.watch(context)
            yield browser
        finally:
            context.close()
