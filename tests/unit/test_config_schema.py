"""The JSON Schema that editors use says what the model says, and the committed files are fresh."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from stack.config import schema
from stack.config.explain import ConfigError, parse_platform
from stack.config.reference import EXAMPLE
from stack.config.units import mebibytes, seconds
from tests.unit.test_config_errors import GOOD, LEAVES, put

ROOT = Path(schema.ROOT)
FULL = yaml.safe_load(EXAMPLE)["config"]["private-llm:platform"]
VALIDATOR = jsonschema.Draft202012Validator(schema.stack_schema())


def stack_file(platform: object, **more: object) -> dict[str, Any]:
    return {"config": {"private-llm:platform": platform, **more}}


def model_takes(platform: Any) -> bool:
    try:
        parse_platform(platform, "Pulumi.test.yaml")
    except ConfigError:
        return False
    return True


def test_the_schema_is_a_valid_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema.stack_schema())


@pytest.mark.parametrize("path", [schema.SCHEMA_FILE, schema.REFERENCE_FILE], ids=lambda path: path.name)
def test_the_committed_file_is_fresh(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(schema, "ROOT", tmp_path)
    monkeypatch.setattr(schema, "SCHEMA_FILE", tmp_path / "schema.json")
    monkeypatch.setattr(schema, "REFERENCE_FILE", tmp_path / "configuration.md")
    schema.main()
    assert path.read_text() == (tmp_path / path.name).read_text(), "run `python -m stack.config.schema`"


@pytest.mark.parametrize("path", sorted(ROOT.glob("Pulumi.*.yaml")), ids=lambda path: path.name)
def test_every_stack_file_of_the_tree_is_valid_in_schema_and_model(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# yaml-language-server: $schema=stack/config/schema.json\n")
    content = yaml.safe_load(text)
    VALIDATOR.validate(content)
    parse_platform(content["config"]["private-llm:platform"], path.name)


def test_there_is_a_stack_file_to_check() -> None:
    assert (ROOT / "Pulumi.dev.yaml").exists()


@pytest.mark.parametrize(
    ("more", "valid"),
    [
        ({"private-llm:key-default": {"secure": "v1:abc"}}, True),
        ({"private-llm:engine-key-big-box": {"secure": "v1:abc"}}, True),
        ({"private-llm:engine-key-big-box": "in clear text"}, False),
        ({"private-llm:admin-password": {"secure": "v1:abc"}}, True),
        ({"private-llm:ca-certificate": "-----BEGIN CERTIFICATE-----"}, True),
        ({"private-llm:tls-certificate": "-----BEGIN CERTIFICATE-----"}, True),
        ({"private-llm:tls-key": "in clear text"}, False),
        ({"private-llm:previous-key-ann": {"secure": "v1:abc"}, "private-llm:basic-ann": {"secure": "v1:abc"}}, True),
        ({"private-llm:overlap-ann": "2027-01-31T00:00:00Z"}, True),
        ({"pulumi:disable-default-providers": ["docker"]}, True),
        ({"private-llm:admin-password": "in clear text"}, False),
        ({"private-llm:key-default": "in clear text"}, False),
        ({"private-llm:plattform": {}}, False),
    ],
)
def test_keys_beside_the_platform(more: dict[str, object], valid: bool) -> None:
    assert VALIDATOR.is_valid(stack_file(GOOD, **more)) is valid


def test_pulumi_s_own_keys_are_known_and_others_are_not() -> None:
    assert VALIDATOR.is_valid(stack_file(GOOD) | {"encryptionsalt": "v1:x", "secretsprovider": "passphrase"})
    assert not VALIDATOR.is_valid(stack_file(GOOD) | {"confg": {}})


VALUES = [
    None,
    True,
    0,
    1,
    5,
    5000,
    70000,
    0.5,
    "",
    "0",
    "yes",
    "10m",
    "10 m",
    "0MiB",
    "16MiB",
    "4GiB",
    "4GB",
    "15s",
    "cpu",
    "nvidia",
    "chat",
    "CHAT",
    "127.0.0.1",
    "10.0.0.1",
    "2027-01-31T00:00:00Z",
    "2027-01-31",
    "sha256:" + "a" * 64,
    "qwen3:1b",
    "nvidia-rtx-4090",
    "f16",
    "a name",
    "a@b",
    [],
    ["0"],
    ["localhost"],
    ["llm.example.org"],
    ["default"],
    ["chat"],
    ["*"],
    [1],
    ["https://app.example.org"],
    "https://ca.example.org/directory",
    "http://192.168.1.20:8000",
    ["http://192.168.1.20:8000"],
    "private",
    "public",
    "internal",
    "acme",
    "certificate",
    "local",
    "openai",
    "big-box",
    "reports",
    ["2", "3"],
    "/reports",
    "ghcr.io/you/api@sha256:" + "a" * 64,
    {"LOG_LEVEL": "info"},
    {"1": 1},
    {},
]
# What only the model can say: forms that a pattern cannot hold, and how keys fit together.
MODEL_ONLY = (
    "not an IP address",
    "on this machine only",
    "more than 0",
    "steps of 0.25",
    "not among the models",
    "not among the upstreams",
    "the platform itself",
    "belong to the gateway",
    "shared out evenly",
    "share the cards out",
    "names are unique",
    "this name too",
    "needs",
    "must",
    "at least 1s",
    "more than once",
    "smaller than",
    "accelerator is cpu",
    "a quarter of",
    "needed with accelerator amd",
    "only with mode",
    "give either",
    "vouches for it",
)


@pytest.mark.parametrize("leaf", LEAVES, ids=".".join)
def test_schema_and_model_agree_on_every_key(leaf: tuple[str, ...]) -> None:
    taken = 0
    for value in VALUES:
        platform = copy.deepcopy(FULL)
        put(platform, ".".join(leaf), value)
        by_schema = VALIDATOR.is_valid(stack_file(platform))
        by_model = model_takes(platform)
        taken += by_model
        if by_model:
            assert by_schema, f"{'.'.join(leaf)}: {value!r} is fine for the model, not for the schema"
        elif by_schema:
            with pytest.raises(ConfigError) as caught:
                parse_platform(platform, "Pulumi.test.yaml")
            assert any(words in str(caught.value) for words in MODEL_ONLY), (leaf, value, str(caught.value))
    assert taken, f"no value of this test fits {'.'.join(leaf)}: add one"


def test_editors_get_a_description_for_every_key() -> None:
    definitions = json.loads(schema.schema_text())["$defs"]
    keys = [
        (name, key, node) for name, group in definitions.items() for key, node in group.get("properties", {}).items()
    ]
    assert len(keys) > 40
    assert [f"{name}.{key}" for name, key, node in keys if "description" not in node and "$ref" not in node] == []
    assert '"x-form"' not in schema.schema_text()
    assert "title" in definitions["Chat"]["properties"], "a key that is called title is not pydantic's title"


@pytest.mark.parametrize(("text", "value"), [("250ms", 0.25), ("90s", 90), ("10m", 600), ("2h", 7200), ("7d", 604800)])
def test_durations_in_seconds(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize(("text", "value"), [("512MiB", 512), ("4GiB", 4096), ("2TiB", 2097152)])
def test_sizes_in_mebibytes(text: str, value: int) -> None:
    assert mebibytes(text) == value
