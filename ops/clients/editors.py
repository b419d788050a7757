"""Editors. Sources: docs.continue.dev/reference, zed.dev/docs/ai/llm-providers, cursor.com/docs (API keys). Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import yaml

from ops.clients.shape import App, Context, Step

SECRET: Final = "PRIVATE_LLM_API_KEY"  # noqa: S105 (a name)


def _trust(context: Context) -> list[str]:
    return ["the editor must trust the gateway's certificate: `make trust`"] if context.certificate else []


def _continue(context: Context) -> Sequence[Step]:
    def model(title: str, name: str, roles: list[str], **more: Any) -> dict[str, Any]:
        reached = {
            "provider": "openai",
            "model": name,
            "apiBase": context.api,
            "apiKey": f"${{{{ secrets.{SECRET} }}}}",
        }
        trusted = {"requestOptions": {"caBundlePath": context.certificate}} if context.certificate else {}
        return {"name": title, **reached, "roles": roles, **more, **trusted}

    models = [
        model(
            "Private LLM", context.chat, ["chat", "edit", "apply"],
            defaultCompletionOptions={"contextLength": context.window},
        ),
        # Fill-in-the-middle is written by Continue into a plain completion.
        model("Private LLM, while typing", context.fast, ["autocomplete"], useLegacyCompletionsEndpoint=True),
    ]  # fmt: skip
    if context.embedding:
        models.append(model("Private LLM, embeddings", context.embedding, ["embed"]))
    config = {"name": "Private LLM", "version": "1.0.0", "schema": "v1", "models": models}
    return [
        Step("~/.continue/.env: the key", f"{SECRET}=<the key>    # {context.key}"),
        Step("~/.continue/config.yaml", yaml.safe_dump(config, sort_keys=False, width=120)),
    ]


def _zed(context: Context) -> Sequence[Step]:
    can = {"tools": True, "images": False, "parallel_tool_calls": False, "prompt_cache_key": False}
    models = [
        {"name": name, "display_name": f"Private LLM ({name})", "max_tokens": context.window, "capabilities": can}
        for name in dict.fromkeys((context.chat, context.fast))
    ]
    provider = {"Private LLM": {"api_url": context.api, "available_models": models}}
    settings = {
        "language_models": {"openai_compatible": provider},
        "agent": {"default_model": {"provider": "Private LLM", "model": context.chat}},
    }
    return [
        Step(
            "in the shell that starts Zed (or type it into the provider's settings)", f'export {SECRET}="{context.key}"'
        ),
        Step("~/.config/zed/settings.json", json.dumps(settings, indent=2)),
    ]


def _fields(context: Context, fields: dict[str, str]) -> str:
    width = max(map(len, fields))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in fields.items())


def _cursor(context: Context) -> Sequence[Step]:
    fields = {
        "OpenAI API Key": f"the key ({context.key})",
        "Override OpenAI Base URL": context.api,
        "Add model": context.chat,
    }
    return [Step("Settings, Models, API Keys", _fields(context, fields))]


def _cursor_notes(context: Context) -> Sequence[str]:
    notes = [
        "its requests go through Cursor's own servers, which see them and the key; completions while typing stay theirs"
    ]
    if not context.everywhere:
        notes.append(
            f"these servers cannot reach {context.api}: it works with gateway.exposure `public` only; "
            "Continue, Cline and Zed call the gateway from this computer"
        )
    return notes


def _cline(context: Context) -> Sequence[Step]:
    fields = {
        "API Provider": "OpenAI Compatible",
        "Base URL": context.api,
        "API Key": f"the key ({context.key})",
        "Model ID": context.chat,
        "Context Window Size": str(context.window),
    }
    return [Step("Cline's settings in the editor", _fields(context, fields))]


APPS: Final = (
    App(name="continue", title="Continue (VS Code, JetBrains)", steps=_continue),
    App(name="zed", title="Zed", steps=_zed, notes=_trust),
    App(name="cursor", title="Cursor", steps=_cursor, notes=_cursor_notes),
    App(name="cline", title="Cline (VS Code)", steps=_cline, notes=_trust),
)
