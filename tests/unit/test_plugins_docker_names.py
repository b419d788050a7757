"""The docker plugin's stand-in: every name that differs from the official plugin is mapped, and mapped back."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct

from offline.plugins import docker_names as names
from offline.plugins.child import Child, start
from tests.support import tools

URN = "urn:pulumi:dev::private-llm::llm:host:Host$docker:index/remoteImage:RemoteImage::chat"


def struct(values: dict[str, object]) -> Struct:
    made = Struct()
    made.update(values)
    return made


def test_only_the_resources_own_type_is_renamed_in_a_urn() -> None:
    parented = URN.replace("llm:host:Host", "docker:index/remoteImage:RemoteImage")
    assert names.bridge_urn(URN).endswith("llm:host:Host$docker:index/image:Image::chat")
    assert "$docker:index/image:Image::" in names.bridge_urn(parented)
    assert "docker:index/remoteImage:RemoteImage$" in names.bridge_urn(parented)
    assert names.official_urn(names.bridge_urn(URN)) == URN


@pytest.mark.parametrize(
    ("bridge", "official"),
    [
        ("commands", "command"),
        ("commands[0]", "command[0]"),
        ("networksAdvanceds[1].name", "networksAdvanced[1].name"),
        ('["commands"][0]', "command[0]"),
        ("envs[2]", "envs[2]"),
        ("commandsExtra", "commandsExtra"),
        ("labels[0].commands", "labels[0].commands"),
        ("containerId", "id"),
    ],
)
def test_paths_of_differences_are_named_as_the_program_names_them(bridge: str, official: str) -> None:
    assert names.rename_path(bridge, names.to_official(names.CONTAINER)) == official


def test_a_secret_list_keeps_its_wrapper_when_it_is_renamed() -> None:
    secret = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "value": ["run"]}
    properties = struct({"command": secret, "name": "chat"})
    names.rename_keys(properties.fields, names.to_bridge(names.CONTAINER, state=False))
    assert set(properties.fields) == {"commands", "name"}
    assert properties.fields["commands"].struct_value.fields["value"].list_value.values[0].string_value == "run"


def test_inputs_keep_an_id_of_their_own() -> None:
    assert "id" not in names.to_bridge(names.CONTAINER, state=False)
    assert names.to_bridge(names.CONTAINER)["id"] == "containerId"


def test_the_raw_state_delta_fits_the_properties_beside_it_in_both_directions() -> None:
    """A delta that names a property which is not there ends the official plugin with a data integrity error."""
    delta = {
        "obj": {
            "ps": {"commands": {"arr": {}}, "envs": {"arr": {}}, "networksAdvanceds": {"arr": {}}},
            "renamed": {"commands": "command", "containerId": "id", "networksAdvanceds": "networks_advanced"},
        }
    }
    state = struct({"containerId": "c0ffee", "commands": ["run"], "networksAdvanceds": [], names.DELTA: delta})
    before = state.SerializeToString(deterministic=True)

    for rename in (names.rename_delta, names.rename_keys):
        rename(state.fields, names.to_official(names.CONTAINER))
    official = state.fields[names.DELTA].struct_value.fields["obj"].struct_value.fields
    assert set(state.fields) == {"id", "command", "networksAdvanced", names.DELTA}
    assert set(official["ps"].struct_value.fields) == {"command", "envs", "networksAdvanced"}
    assert "renamed" not in official

    for rename in (names.rename_delta, names.rename_keys):
        rename(state.fields, names.to_bridge(names.CONTAINER))
    assert state.SerializeToString(deterministic=True) == before


def test_provider_configuration_is_renamed_as_values_and_as_variables() -> None:
    renamed = names.rename_variables(
        {"docker:config:registryAuth": "[]", "docker:config:host": "x"}, names.to_bridge("pulumi:providers:docker")
    )
    assert renamed == {"docker:config:registryAuths": "[]", "docker:config:host": "x"}


@pytest.fixture(scope="module")
def bridge_schema() -> Iterator[dict[str, Any]]:
    """The schema that the installed bridge answers for the real Terraform provider; skips where it is not built."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "private-llm"
    cache = Path(os.environ.get("PRIVATE_LLM_CACHE", home))
    folder = cache / "pulumi" / "plugins" / f"resource-docker-v{names.OFFICIAL_VERSION}"
    if not (folder / "pulumi-terraform-bridge").is_file():
        tools.missing("the docker plugin's stand-in", "`make up` installs it")
    from offline.plugins import docker_adapter as adapter

    child: Child = start([str(folder / "pulumi-terraform-bridge"), "127.0.0.1:9"])
    try:
        running = adapter.Adapter(child, str(folder / "terraform-provider-docker"))
        answer = running.upstream("GetSchema", adapter.provider.GetSchemaRequest().SerializeToString(), ())
        yield json.loads(adapter.provider.GetSchemaResponse.FromString(answer).schema)
    finally:
        child.stop()


OFFICIAL = """
import inspect, json, typing
import pulumi, pulumi_docker as docker
from pulumi._types import input_type_py_to_pulumi_names, input_type_types
def shape(kind):
    if typing.get_origin(kind) in (typing.Union,):
        found = [shape(item) for item in typing.get_args(kind)]
        return next((item for item in found if item), None)
    arguments = typing.get_args(kind)
    if arguments:
        found = [shape(item) for item in arguments]
        return next((item for item in found if item), None)
    if inspect.isclass(kind) and pulumi._types.is_input_type(kind):
        names = input_type_py_to_pulumi_names(kind)
        return {names.get(key, key): shape(inner) for key, inner in input_type_types(kind).items()}
    return None
print(json.dumps({name: shape(getattr(docker, name + "Args")) for name in
    ("Container", "Network", "Volume", "RemoteImage", "Service", "Secret", "ServiceConfig")}))
"""
TOKENS = {
    name: f"docker:index/{name[0].lower()}{name[1:]}:{name}"
    for name in ("Container", "Network", "Volume", "RemoteImage", "Service", "Secret", "ServiceConfig")
}


@pytest.fixture(scope="module")
def official_inputs() -> dict[str, Any]:
    """The inputs of the official SDK by resource, nested; read in a process where pulumi may be imported."""
    import sys

    done = subprocess.run([sys.executable, "-c", OFFICIAL], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("resource", sorted(TOKENS))
def test_every_input_of_the_official_sdk_has_its_place_in_the_bridge(
    resource: str, official_inputs: dict[str, Any], bridge_schema: dict[str, Any]
) -> None:
    token = TOKENS[resource]
    known = bridge_schema["resources"][names.TYPES.get(token, token)]["inputProperties"]
    renames = names.to_bridge(token, state=False)
    missing = list(unmapped(official_inputs[resource], known, bridge_schema["types"], renames))
    assert official_inputs[resource], "the official SDK has inputs"
    assert not missing, f"not mapped in docker_names: {missing}"


def test_the_comparison_finds_what_is_not_mapped_and_looks_inside(
    official_inputs: dict[str, Any], bridge_schema: dict[str, Any]
) -> None:
    known = bridge_schema["resources"][names.CONTAINER]["inputProperties"]
    found = list(unmapped(official_inputs["Container"], known, bridge_schema["types"], {}))
    assert found == sorted(names.PROPERTIES[names.CONTAINER], key=list(official_inputs["Container"]).index)
    assert official_inputs["Container"]["healthcheck"], "nested inputs are compared as well"


def unmapped(
    official: Mapping[str, Any],
    known: Mapping[str, Any],
    types: Mapping[str, Any],
    renames: Mapping[str, str],
    path: str = "",
) -> Iterator[str]:
    for name, inner in official.items():
        there = renames.get(name, name)
        if there not in known:
            yield path + name
            continue
        kind = known[there]
        while "items" in kind or "additionalProperties" in kind:
            kind = kind.get("items") or kind["additionalProperties"]
        if inner and "$ref" in kind:
            nested = types[kind["$ref"].removeprefix("#/types/")]["properties"]
            yield from unmapped(inner, nested, types, {}, f"{path}{name}.")
