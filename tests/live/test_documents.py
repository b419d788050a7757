"""Questions about documents: the right passage comes first, and the model really gets it.

The last step is read where it happens: a container beside the engine, in the engine's own network, notes the
requests that arrive there. So what is checked is the prompt that the gateway passed on, not what a page claims.
With Chroma stopped the same question must fail: then it is Chroma that finds the passages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.support.live import inside, wire
from tests.support.live.platform import Platform
from tests.support.live.webui import WebUI

DOCUMENTS = {
    "lighthouse.txt": "The lighthouse keeper polishes the great lens every morning and records each passing ship.",
    "bakery.txt": "Our bakery mixes rye flour with sour dough and bakes forty loaves before sunrise.",
    "glacier.txt": "The glacier moved eleven metres last winter and its ice carries volcanic ash.",
    "orchestra.txt": "The orchestra tunes its violins to the oboe before the conductor enters the hall.",
    "beehive.txt": "A beehive in July holds fifty thousand bees that dance to show where nectar is.",
}
QUESTION = "How many metres has the glacier moved last winter, and what ash does its ice carry?"
RIGHT = "glacier.txt"


@dataclass(frozen=True)
class Library:
    """The uploaded documents."""

    collection: str
    before: int
    after: int


@pytest.fixture(scope="module")
def library(platform: Platform, webui: WebUI) -> Library:
    """Five documents in a collection, and Chroma's count before and after."""
    before = stored(platform)
    with ThreadPoolExecutor() as pool:  # each waits for its embedding
        files = list(pool.map(webui.upload, DOCUMENTS, DOCUMENTS.values()))
    collection = webui.knowledge("things", files)
    return Library(collection, before, stored(platform))


def stored(platform: Platform) -> int:
    """How many passages Chroma has, in all collections, as Chroma itself tells."""
    base = "/api/v2/tenants/default_tenant/databases/default_database/collections"
    (listed,) = inside.get(platform, "vectors", "chroma", 8000, base)
    counts = [f"{base}/{one['id']}/count" for one in json.loads(listed)]
    return sum(int(count) for count in inside.get(platform, "vectors", "chroma", 8000, *counts)) if counts else 0


def check_sources(webui: WebUI, library: Library) -> None:
    """The promise: the file that shares words with the question comes first. Raises AssertionError."""
    answer = webui.ask(QUESTION, files=[{"type": "collection", "id": library.collection}])
    assert answer.passages, "the question was sent without a passage"
    assert answer.passages[0] == (RIGHT, DOCUMENTS[RIGHT])


def test_every_document_is_stored_in_chroma(library: Library) -> None:
    # Each is kept for itself and for its collection; the collection's own description may be another one.
    assert library.after - library.before >= 2 * len(DOCUMENTS)


def test_the_file_that_shares_words_comes_first(webui: WebUI, library: Library) -> None:
    check_sources(webui, library)


def test_its_passage_is_in_the_prompt_that_the_engine_gets(platform: Platform, webui: WebUI, library: Library) -> None:
    with wire.read(platform, "ollama", 11434) as seen:
        webui.ask(QUESTION, files=[{"type": "collection", "id": library.collection}])
    prompts = [json.dumps(body["messages"]) for body in seen.requests("/v1/chat/completions")]
    assert prompts, f"the engine got no chat: {[stream[:100] for stream in seen.streams]}"
    assert any(DOCUMENTS[RIGHT] in prompt and "glacier moved last winter" in prompt for prompt in prompts), prompts


def test_the_question_is_embedded_by_the_engine(platform: Platform, webui: WebUI, library: Library) -> None:
    with wire.read(platform, "ollama", 11434) as seen:
        webui.ask(QUESTION, files=[{"type": "collection", "id": library.collection}])
    asked = [body["input"] for body in seen.requests("/v1/embeddings")]
    assert any("glacier" in str(text) for text in asked), asked


def test_nothing_of_the_clients_sign_in_reaches_the_engine(platform: Platform, webui: WebUI) -> None:
    with wire.read(platform, "ollama", 11434) as seen:
        webui.ask("Say hello.")
    heads = [stream.partition("\r\n\r\n")[0] for stream in seen.streams]
    assert heads
    assert not [head for head in heads if re.search(r"^(authorization|cookie):", head, re.IGNORECASE | re.MULTILINE)]


@pytest.fixture
def without_chroma(platform: Platform) -> Iterator[None]:
    """Chroma stopped while the test runs."""
    platform.docker.run(["stop", "--time", "5", platform.name("chroma")], limit=60)
    try:
        yield
    finally:
        platform.docker.run(["start", platform.name("chroma")])
        platform.wait_healthy("chroma")


@pytest.mark.usefixtures("without_chroma")
def test_without_chroma_the_promise_breaks(webui: WebUI, library: Library) -> None:
    with pytest.raises(AssertionError):
        check_sources(webui, library)


def test_with_chroma_back_it_holds_again(webui: WebUI, library: Library) -> None:
    check_sources(webui, library)
