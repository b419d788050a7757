"""The chat: an administrator who exists from the start, a closed door for everybody else, and answers."""

from __future__ import annotations

import re

from tests.support.live import inside
from tests.support.live.platform import Platform
from tests.support.live.webui import SHORT, WebUI


def test_a_wrong_password_is_refused(platform: Platform) -> None:
    account = {"email": "admin@localhost", "password": "not-the-password"}
    answer = platform.session().post(f"{platform.url}/api/v1/auths/signin", json=account, timeout=30)
    assert answer.status_code in {400, 401}, answer.text


def test_the_generated_password_signs_the_administrator_in(webui: WebUI) -> None:
    me = webui.json("GET", "/api/v1/auths/")
    assert me["email"] == "admin@localhost"
    assert me["role"] == "admin"


def test_signing_up_is_closed(platform: Platform) -> None:
    account = {"email": "visitor@localhost", "password": "long-enough-1", "name": "Visitor"}
    answer = platform.session().post(f"{platform.url}/api/v1/auths/signup", json=account, timeout=30)
    assert answer.status_code == 403, answer.text


def test_without_signing_in_nothing_is_told(platform: Platform) -> None:
    for path in ("/api/models", "/api/v1/chats/", "/api/v1/files/", "/api/v1/users/"):
        answer = platform.session().get(f"{platform.url}{path}", timeout=30)
        assert answer.status_code in {401, 403}, f"{path}: {answer.status_code}"


def test_the_page_is_served(platform: Platform) -> None:
    answer = platform.session().get(f"{platform.url}/", timeout=30)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")


def test_each_chat_model_is_offered_once_and_nothing_else(platform: Platform, webui: WebUI) -> None:
    """No embedding model, no alias, no arena, no other API; the one called `default` is chosen."""
    served = {model["id"]: model for model in platform.outputs()["models"] if model["role"] == "chat"}
    offered = [model["id"] for model in webui.json("GET", "/api/models")["data"]]
    assert offered == list(served)
    assert webui.model in offered
    assert "default" in (webui.model, *served[webui.model]["aliases"])


def test_it_answers_in_a_stream(webui: WebUI) -> None:
    assert webui.ask("Say hello.").text.strip()


def test_it_answers_at_once(webui: WebUI) -> None:
    body = {"model": webui.model, "stream": False, "messages": [{"role": "user", "content": "Say hello."}]}
    answer = webui.json("POST", "/api/chat/completions", json=body | SHORT)
    assert answer["choices"][0]["message"]["content"].strip()


def test_risky_features_are_off(webui: WebUI) -> None:
    config = webui.json("GET", "/api/config")
    off = (
        "enable_signup",
        "enable_api_keys",
        "enable_web_search",
        "enable_code_execution",
        "enable_code_interpreter",
        "enable_image_generation",
        "enable_direct_connections",
        "enable_community_sharing",
        "enable_version_update_check",
        "enable_google_drive_integration",
        "enable_onedrive_integration",
        "enable_channels",
        "enable_message_rating",
    )
    # A feature that a new release renames would pass unseen: each must be there, and off.
    assert {name: config["features"].get(name) for name in off} == dict.fromkeys(off, False)


def test_it_is_a_consumer_of_the_gateway_by_its_own_key(platform: Platform, webui: WebUI) -> None:
    """Seen in the gateway's own count, which Prometheus reads."""
    before = counted(platform)
    webui.ask("Say hello.")
    assert counted(platform) > before


def counted(platform: Platform) -> float:
    """Requests of the consumer `chat` that the gateway has counted."""
    (text,) = inside.get(platform, "monitor", "gateway", 8081, "/metrics")
    lines = [line for line in text.splitlines() if re.match(r'gateway_llm_requests_total\{.*consumer="chat"', line)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)
