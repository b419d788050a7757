"""Writes what is derived from the model: the JSON Schema for `Pulumi.<stack>.yaml` and the reference in `docs/`.

Run `python -m stack.config.schema` after a change of the model; a test fails while either file is stale.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from stack.config.forms import platform_schema
from stack.config.reference import render

ROOT: Final = Path(__file__).resolve().parent.parent.parent
SCHEMA_FILE: Final = ROOT / "stack" / "config" / "schema.json"
REFERENCE_FILE: Final = ROOT / "docs" / "configuration.md"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_SECRETS: Final = (
    "^private-llm:(admin-password|webui-secret-key|ca-key|tls-key|((engine-|previous-)?key|basic)-[a-z][a-z0-9-]*)$"
)


def stack_schema() -> dict[str, Any]:
    """The schema of a whole stack file: Pulumi's own keys, the platform, the flat secrets."""
    platform = _for_editors(platform_schema())
    definitions = platform.pop("$defs")
    return {
        "$schema": DIALECT,
        "title": "A stack of private-llm (Pulumi.<stack>.yaml)",
        "type": "object",
        "required": ["config"],
        "additionalProperties": False,
        "properties": {
            "config": {
                "description": "The platform and its secrets; keys of other namespaces are Pulumi's.",
                "type": "object",
                "required": ["private-llm:platform"],
                "additionalProperties": False,
                "properties": {
                    "private-llm:platform": {"$ref": "#/$defs/Platform"},
                    "private-llm:ca-certificate": {
                        "description": "The root certificate, in PEM. Written by `make up`.",
                        "type": "string",
                    },
                    "private-llm:tls-certificate": {
                        "description": "With tls.mode `certificate`: it and its chain, in PEM.",
                        "type": "string",
                    },
                },
                "patternProperties": {
                    "^private-llm:overlap-[a-z][a-z0-9-]*$": {
                        "description": "Until when a consumer's previous key works. Written by `make key`.",
                        "type": "string",
                    },
                    _SECRETS: {
                        "description": "A secret, set by `make up` or by `pulumi config set --secret`.",
                        "type": "object",
                        "required": ["secure"],
                        "additionalProperties": False,
                        "properties": {"secure": {"type": "string"}},
                    },
                    "^(?!private-llm:)": {},
                },
            },
            "encryptionsalt": {"description": "Pulumi's, with a passphrase.", "type": "string"},
            "encryptedkey": {"description": "Pulumi's, with a key service.", "type": "string"},
            "secretsprovider": {"description": "Pulumi's: who encrypts the secrets.", "type": "string"},
            "environment": {"description": "Pulumi's: environments (ESC) to import."},
        },
        "$defs": {**definitions, "Platform": platform},
    }


def _for_editors(node: Any) -> Any:
    """The same schema in the words of editors: forms go to the descriptions, pydantic's titles go."""
    if isinstance(node, list):
        return [_for_editors(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    result = {
        # Under "properties" every name is a key of ours, also one called `title`.
        key: {name: _for_editors(inner) for name, inner in value.items()}
        if key in ("properties", "$defs")
        else _for_editors(value)
        for key, value in node.items()
        if key not in ("title", "x-form") and not (key == "default" and value is None)
    }
    if "patternProperties" in node:
        result["additionalProperties"] = False
    if form := node.get("x-form"):
        result["description"] = " ".join(filter(None, [node.get("description"), f"({form})"]))
    return result


def schema_text() -> str:
    """What stack/config/schema.json holds."""
    return json.dumps(stack_schema(), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Writes both files, each under another name first."""
    for path, text in ((SCHEMA_FILE, schema_text()), (REFERENCE_FILE, render())):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(path.name + ".new")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
        sys.stdout.write(f"written: {path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
