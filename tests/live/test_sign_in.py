"""Signing in to the chat while somebody guesses: few attempts for an address, growing bans, nobody else is touched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import requests

from ops.settings import STACK_LABEL
from tests.support.live.platform import Platform
from tests.support.live.waits import until

SIGN_IN: Final = "/api/v1/auths/signin"
# Small enough to be met; a ban is over while one waits. Nothing is earned back while the tests run.
LIMITS: Final = {
    "signIn": {"events": 6, "per": "10m", "burst": 4},
    "failures": {"events": 4, "per": "10m"},
    "ban": "2s",
    "longestBan": "1h",
}

# Another address: a container on the gateway's own network, with Open WebUI's Python.
_ELSEWHERE: Final = """
import http.client, json, socket, ssl, sys
host, path, body, times, ca = sys.argv[1:]
context = ssl.create_default_context(cadata=ca)
for _ in range(int(times)):
    connection = http.client.HTTPSConnection("localhost", 8443, timeout=60)
    plain = socket.create_connection(("gateway", 8443), 60)
    connection.sock = context.wrap_socket(plain, server_hostname="localhost")
    connection.request("POST", path, body, {"Host": host, "Content-Type": "application/json"})
    print(connection.getresponse().status)
"""


@pytest.fixture(scope="module")
def limited(platform: Platform) -> Iterator[Platform]:
    """The same platform with small limits, and then with its own again."""
    before = platform.platform["gateway"]
    platform.configure(lambda tree: tree.update(gateway={**before, "limits": LIMITS}))
    platform.up()
    platform.wait_answering()
    platform.secret("admin-password")  # reading it takes a second or two, as long as the first ban
    yield platform
    platform.configure(lambda tree: tree.update(gateway=before))
    platform.up()
    platform.wait_answering()


def post(platform: Platform, email: str, password: str) -> requests.Response:
    account = {"email": email, "password": password}
    return platform.session().post(f"{platform.url}{SIGN_IN}", json=account, timeout=60)


def good(platform: Platform) -> requests.Response:
    """The administrator's attempt."""
    return post(platform, "admin@localhost", platform.secret("admin-password"))


def wrong(platform: Platform) -> requests.Response:
    """A guess. Not at the administrator's: Open WebUI itself takes 15 attempts for an account in 3 minutes."""
    return post(platform, "nobody@localhost", "wrong")


def attempts_elsewhere(platform: Platform, times: int) -> list[int]:
    """Statuses from another address, one after the other; without an account, which is no failure but an attempt."""
    words = [
        "run", "--rm", "--network", platform.name("edge"), "--cap-drop=ALL", "--user=10001:10001",
        "--label", f"{STACK_LABEL}={platform.stack}", "--entrypoint", "python3", platform.image("open-webui"),
        "-c", _ELSEWHERE, f"localhost:{platform.https_port}", SIGN_IN, "{}", str(times),
        Path(platform.ca).read_text(),
    ]  # fmt: skip
    return [int(line) for line in platform.docker.run(words, limit=120).split()]


def test_wrong_passwords_ban_the_address_longer_each_time(limited: Platform) -> None:
    seen = [wrong(limited) for _ in range(5)]
    assert [one.status_code for one in seen] == [400] * 4 + [429]
    assert seen[-1].json()["error"]["code"] == "rate_limit_exceeded"
    first = int(seen[-1].headers["Retry-After"])
    assert 1 <= first <= 2
    # Even the good password has to wait, and then one more wrong one bans for longer.
    assert good(limited).status_code == 429
    until("the first ban is over", lambda: wrong(limited).status_code == 400, 10)
    again = wrong(limited)
    assert again.status_code == 429
    assert 2 < int(again.headers["Retry-After"]) <= 4


def test_meanwhile_pages_load(limited: Platform) -> None:
    session = limited.session()
    assert [session.get(f"{limited.url}{path}", timeout=20).status_code for path in ("/", "/api/config")] == [200, 200]


def test_after_the_ban_the_good_password_signs_in(limited: Platform) -> None:
    until("signed in", lambda: good(limited).status_code == 200, 15)


def test_another_address_has_its_own_count_up_to_limit_and_burst(limited: Platform) -> None:
    assert attempts_elsewhere(limited, 11) == [422] * 10 + [429]
