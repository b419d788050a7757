"""A real browser at the chat: every page without an error, answers over the socket, documents, and nothing elsewhere.

LIVE_RECORD=<file> writes what it sent as good requests for the attack suite.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stack.gateway import chat_table
from tests.support.live import recording
from tests.support.live.browser import Browser, opened
from tests.support.live.platform import Platform
from tests.support.patterns import among

PAGES = (
    "/",
    "/home",
    "/notes",
    "/calendar",
    "/workspace",
    "/workspace/models",
    "/workspace/models/create",
    "/workspace/knowledge",
    "/workspace/knowledge/create",
    "/workspace/prompts",
    "/workspace/prompts/create",
    "/playground",
    "/playground/completions",
    "/admin",
    "/admin/users",
    "/admin/users/groups",
    "/admin/evaluations",
    "/admin/evaluations/feedback",
    "/admin/settings",
    "/admin/settings/general",
    "/admin/settings/connections",
    "/admin/settings/models",
    "/admin/settings/documents",
    "/admin/settings/interface",
    "/admin/settings/audio",
    "/admin/settings/images",
    "/admin/settings/pipelines",
    "/admin/settings/db",
)
FACT = "The lighthouse on Gull Rock is kept by Marigold Pepperwhistle."


@pytest.fixture(scope="module")
def browser(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for the whole story, from its first visit on. Pictures are in its folder."""
    with opened(platform, tmp_path_factory.mktemp("browser")) as one:
        yield one
        if file := os.environ.get("LIVE_RECORD"):
            record(one, platform, Path(file))


@pytest.fixture(scope="module")
def signed_in(platform: Platform, browser: Browser) -> Browser:
    """The same browser, signed in as the administrator."""
    browser.open("/")
    browser.sign_in("admin@localhost", platform.secret("admin-password"))
    return browser


def record(browser: Browser, platform: Platform, file: Path) -> None:
    """Keeps each kind of request once; tests of the attack suite read it."""
    names = {
        model["id"]: name
        for model, name in zip(platform.outputs()["models"], ("qwen3:0.6b", "all-minilm"), strict=False)
    }
    secrets = {platform.secret("admin-password"): "a-good-password"}
    rows = recording.good_requests(browser, {**secrets, **names})
    version = browser.page.evaluate("navigator.userAgent").partition("HeadlessChrome/")[2].split(".")[0]
    tree = {"version": 1, "source": f"Open WebUI in Chromium {version}", "requests": rows}
    file.write_text(json.dumps(tree, indent=1) + "\n")


@contextmanager
def nothing_wrong(browser: Browser) -> Iterator[None]:
    """Nothing that the block does is refused, fails, or shows as an error."""
    asked, troubled = len(browser.exchanges), len(browser.troubles)
    yield
    browser.quiet()
    refused = [f"{one.status} {one.method} {one.target}" for one in browser.exchanges[asked:] if one.status >= 400]
    assert refused + browser.troubles[troubled:] == []


def shown(browser: Browser) -> str:
    """The last answer's text."""
    found = browser.page.query_selector_all(".chat-assistant")
    return found[-1].inner_text() if found else ""


def pieces(browser: Browser, since: int) -> int:
    """Parts of answers that came over the socket."""
    return sum("response.output_text.delta" in text for way, text in browser.frames[since:] if way == "received")


def finished(browser: Browser, since: int) -> bool:
    """Whether an answer ended."""
    return any('"finish_reason":"' in text for way, text in browser.frames[since:] if way == "received")


def test_the_first_visit_is_complete(browser: Browser) -> None:
    """Hundreds of files at once, with nothing in the cache: no limit may see an attack in that."""
    with nothing_wrong(browser):
        browser.open("/")
        browser.page.wait_for_selector("#email")
    browser.shoot("sign-in")
    assert len(browser.exchanges) > 100
    assert browser.page.title()


def test_the_administrator_signs_in_by_the_form(signed_in: Browser) -> None:
    signed_in.shoot("signed-in")
    assert signed_in.page.url == f"{signed_in.url}/"


def test_an_answer_streams_over_the_socket(signed_in: Browser) -> None:
    best = 0
    for _ in range(3):  # a stand-in model may end after a word or two
        before = len(signed_in.frames)
        with nothing_wrong(signed_in):
            signed_in.open("/")
            signed_in.ask("Say hello.")
            signed_in.wait("the answer ends", lambda since=before: finished(signed_in, since))
            signed_in.wait("the answer is shown", lambda: shown(signed_in).strip())
        best = max(best, pieces(signed_in, before))
        if best > 3:
            break
    signed_in.shoot("answer")
    assert best > 3, "it came in one piece"
    assert {url.partition("?")[0] for url in signed_in.sockets} == {
        f"wss://{signed_in.url.partition('://')[2]}/ws/socket.io/"
    }
    assert "/c/" in signed_in.page.url


def test_a_chat_is_there_again_after_a_reload(signed_in: Browser) -> None:
    text = shown(signed_in)
    with nothing_wrong(signed_in):
        signed_in.page.reload()
        signed_in.wait("the chat is shown", lambda: shown(signed_in))
    assert shown(signed_in).split()[:3] == text.split()[:3]


def test_a_document_is_uploaded_and_asked_about(signed_in: Browser) -> None:
    before = len(signed_in.frames)
    with nothing_wrong(signed_in):
        signed_in.open("/")
        note = {"name": "note.txt", "mimeType": "text/plain", "buffer": FACT.encode()}
        with signed_in.page.expect_response(lambda answer: "/api/v1/files/" in answer.url) as uploaded:
            signed_in.page.set_input_files("input[type=file] >> nth=0", files=[note])  # type: ignore[list-item]
        assert uploaded.value.status == 200
        signed_in.page.wait_for_selector("button:has-text('note.txt')")
        signed_in.quiet()
        signed_in.ask("Who keeps the lighthouse on Gull Rock?")
        signed_in.wait("the answer ends", lambda: finished(signed_in, before))
    signed_in.shoot("document")
    sources = [text for way, text in signed_in.frames[before:] if way == "received" and '"sources":' in text]
    assert any("Marigold Pepperwhistle" in text for text in sources), "the answer does not rest on the document"


@pytest.mark.parametrize("path", PAGES)
def test_a_page_opens_without_an_error(signed_in: Browser, path: str) -> None:
    with nothing_wrong(signed_in):
        signed_in.open(path)
    signed_in.shoot(f"page{path.replace('/', '-')}")


def test_every_page_carries_a_policy_and_breaks_none(signed_in: Browser) -> None:
    """That none is broken is in every test above: the console would say so."""
    pages = [one for one in signed_in.exchanges if one.request.resource_type == "document"]
    assert len(pages) > 5
    for one in pages:
        rules = dict(rule.split(" ", 1) for rule in one.policy.split("; "))
        assert {rules[name] for name in ("object-src", "frame-ancestors")} == {"'none'"}, one.target
        assert {rules[name] for name in ("default-src", "base-uri", "form-action")} == {"'self'"}, one.target


def test_the_policy_stops_what_a_page_should_not_do(signed_in: Browser) -> None:
    """A script put into a page by an answer may neither load another nor send anything elsewhere."""
    before = len(signed_in.troubles)
    done = signed_in.page.evaluate(
        """async () => {
            const load = (tag, set) => new Promise(end => {
                const one = Object.assign(document.createElement(tag), set);
                one.onload = () => end("loaded"); one.onerror = () => end("stopped"); document.head.append(one);
            });
            const ask = fetch("https://127.0.0.1:44300/").then(() => "sent", error => "stopped");
            return [await load("script", {src: "https://127.0.0.1:44300/x.js"}), await ask];
        }"""
    )
    assert done == ["stopped", "stopped"]
    signed_in.wait("the console tells of both", lambda: len(signed_in.troubles) >= before + 2)
    told = signed_in.troubles[before:]
    del signed_in.troubles[before:]
    assert sum("Content Security Policy" in text for text in told) >= 2, told


def test_only_what_the_table_allows_was_asked_for(signed_in: Browser) -> None:
    """The table is no wider than a browser needs it by accident: what it asks is named there."""
    allowed = [path for paths in chat_table.data().values() for path in paths]
    known = [*chat_table.STATIC, *chat_table.PAGES, *chat_table.BLANK, chat_table.SOCKET, *allowed]
    asked = {one.target.partition("?")[0] for one in signed_in.exchanges}
    assert {path for path in asked if not among(known, path)} == set()
