"""Open WebUI's settings. Pure.

Every setting comes from here at each start (`ENABLE_PERSISTENT_CONFIG`): what was clicked once does not win over
what is declared. Names: https://docs.openwebui.com/reference/env-configuration
"""

from __future__ import annotations

import json
from typing import Final

from stack.config.model import ChatFeatures, Platform, Role
from stack.config.units import seconds_text
from stack.gateway.addresses import origins
from stack.parts import ServedModel
from stack.shape import Endpoint, Health

NAME: Final = "chat"
PORT: Final = 8080
DATA_FOLDER: Final = "/app/backend/data"
ENDPOINT: Final = Endpoint(host=NAME, port=PORT)
HEALTH: Final = Health(
    test=["CMD", "curl", "-fsS", "-o", "/dev/null", f"http://127.0.0.1:{PORT}/health"], start_period=120, retries=6
)


def environment(
    platform: Platform, *, models: tuple[ServedModel, ...], url: str, api: Endpoint, vectors: Endpoint | None
) -> dict[str, str]:
    """The plain part of the environment; keys and passwords are added where they are secret."""
    chat = platform.chat
    chatting = [model for model in models if model.role is Role.CHAT]
    default = next(model.name for model in chatting if "default" in (model.name, *model.aliases))
    settings = {
        "ENABLE_PERSISTENT_CONFIG": "False",
        "WEBUI_NAME": chat.title,
        "WEBUI_URL": url,
        # Its socket refuses every other origin, and without the socket no answer ever shows.
        "CORS_ALLOW_ORIGIN": ";".join(origins(platform.gateway)),
        "WEBUI_SESSION_COOKIE_SECURE": "True",
        "WEBUI_AUTH_COOKIE_SECURE": "True",
        "JWT_EXPIRES_IN": seconds_text(chat.session),
        "WEBUI_ADMIN_EMAIL": chat.admin_email,
        "WEBUI_ADMIN_NAME": "Admin",
        # Unset, sign-up would open again at the second start. Who signs up waits for the administrator.
        "ENABLE_SIGNUP": str(chat.sign_up),
        "DEFAULT_USER_ROLE": "pending",
        "ENABLE_OLLAMA_API": "False",
        "ENABLE_OPENAI_API": "True",
        "OPENAI_API_BASE_URLS": f"{api.url}/v1",
        # Each chat model once, by its own name: neither the embedding models nor the aliases are for choosing.
        "OPENAI_API_CONFIGS": json.dumps({"0": {"enable": True, "model_ids": [model.name for model in chatting]}}),
        "DEFAULT_MODELS": default,
        "TASK_MODEL_EXTERNAL": default,
        # With a single slot on a small box, titles and follow-ups would keep the next question waiting.
        "ENABLE_FOLLOW_UP_GENERATION": "False",
        "ENABLE_TAGS_GENERATION": "False",
        "ENABLE_AUTOCOMPLETE_GENERATION": "False",
        "BYPASS_MODEL_ACCESS_CONTROL": "True",
        "STATIC_DIR": f"{DATA_FOLDER}/static",
        "HOME": DATA_FOLDER,
        # Uploads are spooled there: /tmp is small, and memory.
        "TMPDIR": DATA_FOLDER,
        "HF_HOME": f"{DATA_FOLDER}/cache",
    }
    return settings | _closed(chat.features) | _documents(platform, api, vectors)


def _closed(features: ChatFeatures) -> dict[str, str]:
    """No call-outs, and nothing that runs code or hands out power unless asked for."""
    return {
        "OFFLINE_MODE": "True",
        "ENABLE_VERSION_UPDATE_CHECK": "False",
        "ANONYMIZED_TELEMETRY": "False",
        "DO_NOT_TRACK": "True",
        "SCARF_NO_ANALYTICS": "True",
        "ENABLE_COMMUNITY_SHARING": "False",
        "ENABLE_MESSAGE_RATING": "False",
        "ENABLE_ADMIN_EXPORT": "True",
        "ENABLE_DIRECT_CONNECTIONS": "False",
        "ENABLE_EVALUATION_ARENA_MODELS": "False",
        "ENABLE_WEB_SEARCH": str(features.web_search),
        "ENABLE_CODE_EXECUTION": str(features.code_execution),
        "ENABLE_CODE_INTERPRETER": str(features.code_execution),
        "ENABLE_IMAGE_GENERATION": str(features.image_generation),
        "ENABLE_API_KEYS": str(features.api_keys),
        # Built-in tools go out with every question unless this is off, and models without tool support refuse them all.
        "DEFAULT_MODEL_METADATA": json.dumps({"capabilities": {"builtin_tools": features.tools}}),
        "ENABLE_CHANNELS": "False",
        # Functions, tools and tool servers are code of users that runs on the server.
        "ENABLE_PLUGINS": "False",
        "ENABLE_AUTOMATIONS": "False",
        "ENABLE_RAG_LOCAL_WEB_FETCH": "False",
        "ENABLE_GOOGLE_DRIVE_INTEGRATION": "False",
        "ENABLE_ONEDRIVE_INTEGRATION": "False",
    }


def _documents(platform: Platform, api: Endpoint, vectors: Endpoint | None) -> dict[str, str]:
    if vectors is None:
        return {"VECTOR_DB": "chroma", "BYPASS_EMBEDDING_AND_RETRIEVAL": "True", "RAG_EMBEDDING_ENGINE": "openai"}
    embedding = next(model for model in platform.models if model.role is Role.EMBEDDING)
    memory = platform.memory
    return {
        "VECTOR_DB": "chroma",
        "CHROMA_HTTP_HOST": vectors.host,
        "CHROMA_HTTP_PORT": str(vectors.port),
        "RAG_EMBEDDING_ENGINE": "openai",
        "RAG_EMBEDDING_MODEL": embedding.name,
        "RAG_OPENAI_API_BASE_URL": f"{api.url}/v1",
        # Otherwise each passage of a document is a request of its own, all at once: for a dozen pages more than one key
        # may have at the engine, so that the gateway refuses some (429) and the document is not taken in.
        "RAG_EMBEDDING_BATCH_SIZE": "16",
        "RAG_EMBEDDING_CONCURRENT_REQUESTS": "2",
        "ENABLE_RAG_HYBRID_SEARCH": "False",
        # Documents are searched with the question itself: a small model words it worse, in a second answer of its own.
        "ENABLE_RETRIEVAL_QUERY_GENERATION": "False",
        "CHUNK_SIZE": str(memory.chunk_size),
        "CHUNK_OVERLAP": str(memory.chunk_overlap),
        "RAG_TOP_K": str(memory.top_k),
    }
