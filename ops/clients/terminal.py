"""Programs of the terminal. Sources: aider.chat/docs, docs.openinterpreter.com/guides/profiles. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import yaml

from ops.clients.shape import App, Context, Step, environment

OUTPUT: Final = 4  # a quarter of the window is left for the answer


def _curl(context: Context) -> Sequence[Step]:
    body = {"model": context.chat, "messages": [{"role": "user", "content": "Why is the sky blue?"}], "stream": True}
    # The header is read from a file descriptor: a key among the words would stand in the list of processes.
    return [
        environment(context, "OPENAI_API_KEY", "OPENAI_BASE_URL"),
        Step(
            "ask",
            'curl --no-buffer "$OPENAI_BASE_URL/chat/completions" \\\n'
            "  --header @<(printf 'Authorization: Bearer %s' \"$OPENAI_API_KEY\") \\\n"
            f"  --json '{json.dumps(body)}'",
        ),
    ]


def _aider(context: Context) -> Sequence[Step]:
    settings = {
        "openai-api-base": context.api,
        "model": f"openai/{context.chat}",
        "weak-model": f"openai/{context.fast}",
        "show-model-warnings": False,
    }
    known = {
        f"openai/{name}": {
            "max_input_tokens": context.window,
            "max_output_tokens": context.window // OUTPUT,
            "litellm_provider": "openai",
            "mode": "chat",
        }
        for name in dict.fromkeys((context.chat, context.fast))
    }
    return [
        environment(context, "OPENAI_API_KEY"),
        Step(".aider.conf.yml", yaml.safe_dump(settings, sort_keys=False)),
        Step(".aider.model.metadata.json", json.dumps(known, indent=2)),
    ]


def _open_interpreter(context: Context) -> Sequence[Step]:
    profile = {
        "llm": {
            "model": f"openai/{context.chat}",
            "api_base": context.api,
            "context_window": context.window,
            "max_tokens": context.window // OUTPUT,
        },
        "offline": True,
        "version": "0.2.5",
    }
    return [
        environment(context, "OPENAI_API_KEY"),
        Step(
            "private-llm.yaml, in the folder that `interpreter --profiles` opens",
            yaml.safe_dump(profile, sort_keys=False),
        ),
        Step("run", "interpreter --profile private-llm.yaml"),
    ]


APPS: Final = (
    App(name="curl", title="curl 7.82 or newer, in bash", steps=_curl),
    App(name="aider", title="aider", steps=_aider),
    App(name="open-interpreter", title="Open Interpreter", steps=_open_interpreter),
)
