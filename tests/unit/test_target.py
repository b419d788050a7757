"""Where the load goes: what `make env` prints is read, and what is wrong is said in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.target import Target, from_environment, origin

GIVEN = {"OPENAI_BASE_URL": "https://localhost:8443/v1", "OPENAI_API_KEY": "sk-secret"}


def test_what_make_env_prints_is_enough(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("")
    found = from_environment(GIVEN | {"SSL_CERT_FILE": str(ca)})
    assert found == Target(url="https://localhost:8443", key="sk-secret", ca=ca)
    assert (found.model, found.embedding_model) == ("default", "embedding")


def test_models_can_be_named() -> None:
    found = from_environment(GIVEN | {"LOAD_MODEL": "small", "LOAD_EMBEDDING_MODEL": "", "SSL_CERT_FILE": " "})
    assert (found.model, found.embedding_model, found.ca) == ("small", "embedding", None)


def test_the_key_is_in_no_text() -> None:
    assert "sk-secret" not in repr(from_environment(GIVEN))


@pytest.mark.parametrize(
    ("url", "without"),
    [
        ("https://localhost:8443/v1", "https://localhost:8443"),
        ("https://llm.example.com/v1/", "https://llm.example.com"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("https://example.com/team/v1", "https://example.com/team"),
        ("https://[::1]:8443/v1", "https://[::1]:8443"),
        ("https://example.com/apiv1", "https://example.com/apiv1"),
    ],
)
def test_the_end_that_clients_want_is_taken_off(url: str, without: str) -> None:
    assert origin(url) == without


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"OPENAI_BASE_URL": ""}, "OPENAI_BASE_URL is not set"),
        ({"OPENAI_API_KEY": " "}, "OPENAI_API_KEY is not set"),
        ({"OPENAI_API_KEY": "sk-a\nsk-b"}, "line break"),
        ({"OPENAI_API_KEY": "schlüssel"}, "letter that no key has"),
        ({"OPENAI_BASE_URL": "localhost:8443/v1"}, "is no address"),
        ({"OPENAI_BASE_URL": "ftp://localhost/v1"}, "is no address"),
        ({"OPENAI_BASE_URL": "https:///v1"}, "is no address"),
        ({"OPENAI_BASE_URL": "https://local host/v1"}, "is no address"),
        ({"OPENAI_BASE_URL": "https://localhost:99999/v1"}, "1 to 65535"),
        ({"OPENAI_BASE_URL": "https://localhost:0/v1"}, "is no address"),
        ({"OPENAI_BASE_URL": "https://localhost/v1?key=1"}, "more than a path"),
        ({"SSL_CERT_FILE": "/nowhere/ca.pem"}, "/nowhere/ca.pem is no file"),
    ],
)
def test_what_is_wrong_is_said(given: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        from_environment(GIVEN | given)


def test_a_password_in_an_address_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="the key is enough") as told:
        origin("https://me:hunter2@example.com/v1")
    assert "hunter2" not in str(told.value)
