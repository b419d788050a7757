"""Open WebUI's settings: closed unless opened, and everything from here at every start."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stack.chat import open_webui
from stack.config.explain import parse_platform
from stack.config.model import Platform
from stack.parts import served
from stack.shape import Endpoint
from tests.support.samples import SAMPLES

API = Endpoint(host="gateway", port=8081)
VECTORS = Endpoint(host="chroma", port=8000)
BASE: dict[str, Any] = {
    "models": [
        {"name": "small", "aliases": ["fast"]},
        {"name": "big", "aliases": ["default", "smart"]},
        {"name": "embed", "role": "embedding"},
    ],
    "consumers": [{"name": "default"}, {"name": "chat"}],
}


def platform(**more: Any) -> Platform:
    return parse_platform(BASE | more, source="test")


def settings(given: Platform, vectors: Endpoint | None = VECTORS) -> dict[str, str]:
    models = served(given.models, SAMPLES["dev"].parts)
    return open_webui.environment(given, models=models, url="https://x:8443", api=API, vectors=vectors)


def test_what_is_declared_wins_over_what_was_clicked() -> None:
    assert settings(platform())["ENABLE_PERSISTENT_CONFIG"] == "False"


def test_nobody_signs_up_at_any_start() -> None:
    found = settings(platform())
    assert (found["ENABLE_SIGNUP"], found["DEFAULT_USER_ROLE"]) == ("False", "pending")
    asked = settings(platform(chat={"signUp": True}))
    assert (asked["ENABLE_SIGNUP"], asked["DEFAULT_USER_ROLE"]) == ("True", "pending")


@pytest.mark.parametrize(
    ("feature", "variables"),
    [
        ("webSearch", ["ENABLE_WEB_SEARCH"]),
        ("codeExecution", ["ENABLE_CODE_EXECUTION", "ENABLE_CODE_INTERPRETER"]),
        ("imageGeneration", ["ENABLE_IMAGE_GENERATION"]),
        ("apiKeys", ["ENABLE_API_KEYS"]),
    ],
)
def test_a_feature_is_off_until_it_is_asked_for(feature: str, variables: list[str]) -> None:
    off, on = settings(platform()), settings(platform(chat={"features": {feature: True}}))
    assert {name: off[name] for name in variables} == dict.fromkeys(variables, "False")
    assert {name: on[name] for name in variables} == dict.fromkeys(variables, "True")
    assert {name for name in on if on[name] != off[name]} == set(variables), "a feature opens something else too"


def test_the_chat_speaks_to_the_gateway_alone() -> None:
    found = settings(platform())
    assert (found["OPENAI_API_BASE_URLS"], found["ENABLE_OLLAMA_API"]) == ("http://gateway:8081/v1", "False")
    assert found["RAG_OPENAI_API_BASE_URL"] == "http://gateway:8081/v1"
    assert found["OFFLINE_MODE"] == found["DO_NOT_TRACK"] == "True"


def test_people_choose_among_chat_models_each_once() -> None:
    found = settings(platform())
    (config,) = json.loads(found["OPENAI_API_CONFIGS"]).values()
    assert config["model_ids"] == ["small", "big"]
    assert found["DEFAULT_MODELS"] == found["TASK_MODEL_EXTERNAL"] == "big"


def test_documents_use_the_embedding_model_and_the_vector_database() -> None:
    found = settings(platform(memory={"chunkSize": 500, "chunkOverlap": 50, "topK": 7}))
    assert (found["CHROMA_HTTP_HOST"], found["CHROMA_HTTP_PORT"]) == ("chroma", "8000")
    assert found["RAG_EMBEDDING_MODEL"] == "embed"
    assert (found["CHUNK_SIZE"], found["CHUNK_OVERLAP"], found["RAG_TOP_K"]) == ("500", "50", "7")


def test_without_a_vector_database_nothing_is_embedded_or_downloaded() -> None:
    found = settings(platform(memory={"enabled": False}), vectors=None)
    assert found["BYPASS_EMBEDDING_AND_RETRIEVAL"] == "True"
    # The default engine would fetch a model from the internet at start.
    assert found["RAG_EMBEDDING_ENGINE"] == "openai"
    assert "CHROMA_HTTP_HOST" not in found


def test_the_plain_part_has_no_secret() -> None:
    names = settings(platform())
    assert not [n for n in names if n in ("WEBUI_SECRET_KEY", "WEBUI_ADMIN_PASSWORD", "OPENAI_API_KEYS")]


def test_a_session_is_given_in_seconds() -> None:
    assert settings(platform(chat={"session": "12h"}))["JWT_EXPIRES_IN"] == "43200s"


def test_a_long_session_has_no_exponent() -> None:
    assert settings(platform(chat={"session": "30d"}))["JWT_EXPIRES_IN"] == "2592000s"


def test_the_socket_opens_under_every_name_of_the_gateway() -> None:
    found = settings(platform(gateway={"hostnames": ["llm.home.arpa", "localhost"], "httpsPort": 443}))
    assert found["CORS_ALLOW_ORIGIN"] == "https://llm.home.arpa;https://localhost;https://127.0.0.1"


def test_every_value_is_text() -> None:
    found = settings(platform())
    assert len(found) > 40
    assert [name for name, value in found.items() if not isinstance(value, str) or "\n" in value] == []
