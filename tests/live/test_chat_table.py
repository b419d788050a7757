"""Open WebUI's real routes, pages and files against what the gateway's table says of them."""

from __future__ import annotations

import pytest

from stack.gateway import chat_table
from tests.support.live import route_table
from tests.support.live.platform import Platform
from tests.support.live.route_table import Table
from tests.support.patterns import among, matches

# Of the framework, not of the application.
OF_THE_FRAMEWORK = {"HEAD", "OPTIONS"}


@pytest.fixture(scope="module")
def table(platform: Platform) -> Table:
    """The real one."""
    found = route_table.read(platform)
    assert len(found.routes) > 400, "the table is not all there"
    assert len(found.pages) > 30, "the pages are not all there"
    return found


@pytest.fixture(scope="module")
def routes(table: Table) -> set[tuple[str, str]]:
    """What is to be judged."""
    return {(method, path) for method, path in table.routes if method not in {*OF_THE_FRAMEWORK, "MOUNT"}}


def allowed() -> set[tuple[str, str]]:
    """(method, path pattern)."""
    return {(method, path) for methods, paths in chat_table.data().items() for path in paths for method in methods}


def refused() -> set[tuple[str, str]]:
    """(method, path pattern)."""
    rows = [row.split(" ") for rows in chat_table.REFUSED.values() for row in rows]
    return {(method, path) for *methods, path in rows for method in methods}


def covers(pattern: str, path: str) -> bool:
    """What is refused with everything below is refused itself too."""
    return matches(pattern, path) or pattern == f"{path}*"


def is_refused(method: str, path: str) -> bool:
    return any(one in {method, "*"} and covers(pattern, path) for one, pattern in refused())


def is_allowed(method: str, path: str) -> bool:
    return any(one == method and matches(pattern, path) for one, pattern in allowed())


def named(rows: set[tuple[str, str]]) -> str:
    return "\n".join(f"{method} {path}" for method, path in sorted(rows, key=lambda row: row[1]))


def test_every_route_is_judged(routes: set[tuple[str, str]]) -> None:
    ours = allowed()
    unknown = {
        (method, path)
        for method, path in routes
        if (method, path) not in ours
        and not is_refused(method, path)
        and not (method == "GET" and among(chat_table.STATIC, path))
        and (method, path.removesuffix("{path}") + "*") not in ours
    }
    assert not unknown, f"put each in stack/gateway/chat_table.py, allowed or refused:\n{named(unknown)}"


def test_every_mounted_application_is_known(table: Table) -> None:
    mounts = {path for method, path in table.routes if method == "MOUNT"}
    assert mounts == {"", "/ws", "/static", "/pyodide"}


def test_what_is_allowed_is_there(routes: set[tuple[str, str]]) -> None:
    gone = {(method, path) for method, path in allowed() if (method, path.replace("/*", "/{path}")) not in routes}
    assert not gone, f"Open WebUI has these no more; take them out of stack/gateway/chat_table.py:\n{named(gone)}"


def test_what_is_refused_is_there(routes: set[tuple[str, str]]) -> None:
    gone = {
        (method, pattern)
        for method, pattern in refused()
        if not any(method in {one, "*"} and covers(pattern, path) for one, path in routes)
    }
    assert not gone, f"Open WebUI has these no more; take them out of stack/gateway/chat_table.py:\n{named(gone)}"


def test_nothing_refused_comes_in_by_an_allowed_pattern(routes: set[tuple[str, str]]) -> None:
    both = {
        (method, path)
        for method, path in routes
        if (method, path) not in allowed() and is_refused(method, path) and is_allowed(method, path)
    }
    assert not both, named(both)


def test_what_the_gateway_answers_itself_is_refused_or_off(routes: set[tuple[str, str]]) -> None:
    for path in chat_table.BLANK:
        assert ("GET", path) in routes, f"Open WebUI has no {path}"
        assert not is_allowed("GET", path), f"{path} reaches Open WebUI too"


def test_sign_in_is_among_the_routes() -> None:
    assert {("POST", path) for path in chat_table.SIGN_IN} <= allowed()


def test_every_page_is_known(table: Table) -> None:
    unknown = {page for page in table.pages if not among(chat_table.PAGES, page)}
    assert not unknown, f"pages that stack/gateway/chat_table.py lacks: {sorted(unknown)}"
    gone = {page for page in chat_table.PAGES if not any(matches(page, known) for known in table.pages)}
    assert not gone, f"pages that Open WebUI has no more: {sorted(gone)}"


def test_every_file_is_known(table: Table) -> None:
    # The page itself is under each of its addresses.
    files = {file for file in table.files if not file.endswith((".md", "/index.html"))}
    ours = {pattern.removesuffix("*") for pattern in chat_table.STATIC}
    assert files - ours == set(), "files of the pages that stack/gateway/chat_table.py lacks"
    assert ours - files == set(), "files that Open WebUI has no more"
