"""The names that differ between the official docker plugin 5.2.0 and the generic Terraform bridge: the whole list.

`tests/unit/test_plugins_docker_names.py` holds the two schemas against each other and fails on one that is missing.
Everything here works on plain values; the messages are taken apart in `docker_adapter`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

PACKAGE = "docker"
CONTAINER = "docker:index/container:Container"
NETWORK = "docker:index/network:Network"

# official -> bridge
TYPES = {
    "docker:index/remoteImage:RemoteImage": "docker:index/image:Image",
    "docker:index/serviceConfig:ServiceConfig": "docker:index/config:Config",
}
FUNCTIONS = {"docker:index/getRemoteImage:getRemoteImage": "docker:index/getImage:getImage"}
PROPERTIES: Mapping[str, Mapping[str, str]] = {
    CONTAINER: {"command": "commands", "networksAdvanced": "networksAdvanceds"},
    "pulumi:providers:docker": {"registryAuth": "registryAuths"},
}
# Terraform's own `id` among the outputs: the official plugin calls it `id`, the bridge by these names.
SECOND_IDS = {
    CONTAINER: "containerId",
    "docker:index/buildxBuilder:BuildxBuilder": "buildxBuilderId",
    "docker:index/network:Network": "networkId",
    "docker:index/plugin:Plugin": "pluginId",
    "docker:index/registryImage:RegistryImage": "registryImageId",
    "docker:index/secret:Secret": "secretId",
    "docker:index/service:Service": "serviceId",
    "docker:index/serviceConfig:ServiceConfig": "configId",
    "docker:index/tag:Tag": "tagId",
    "docker:index/volume:Volume": "volumeId",
}
PLAIN_NAMES = frozenset({"id", *(official for renames in PROPERTIES.values() for official in renames)})
DELTA = "__pulumi_raw_state_delta"
# The official plugin marks these; the bridge's default would be to create the replacement first.
DELETE_BEFORE_REPLACE = frozenset({CONTAINER})

OFFICIAL_VERSION = "5.2.0"
DEFAULT_HOST = "unix:///var/run/docker.sock"


def type_of(urn: str) -> str:
    """The resource type in a URN: the last link of its chain of types; empty when it has none."""
    parts = urn.split("::")
    return parts[2].rsplit("$", 1)[-1] if len(parts) > 3 else ""


def bridge_urn(urn: str) -> str:
    """The URN as the bridge has to see it: the resource's own type renamed, its parents' types left alone."""
    return renamed_urn(urn, TYPES)


def official_urn(urn: str) -> str:
    """The URN of the program behind one that the bridge mentions."""
    return renamed_urn(urn, {bridge: official for official, bridge in TYPES.items()})


def renamed_urn(urn: str, types: Mapping[str, str]) -> str:
    """A URN with the resource's own type renamed."""
    parts = urn.split("::")
    if len(parts) > 3:
        *parents, own = parts[2].split("$")
        parts[2] = "$".join([*parents, types.get(own, own)])
    return "::".join(parts)


def to_bridge(kind: str, *, state: bool = True) -> Mapping[str, str]:
    """Property names of a resource type, official -> bridge; with the `id` that only states have, or without."""
    second = {"id": SECOND_IDS[kind]} if state and kind in SECOND_IDS else {}
    return {**PROPERTIES.get(kind, {}), **second}


def to_official(kind: str) -> Mapping[str, str]:
    """Property names of a resource type, bridge -> official."""
    return {bridge: official for official, bridge in to_bridge(kind).items()}


def terraform_name(official: str) -> str:
    """The Terraform attribute behind an official property name: `networksAdvanced` -> `networks_advanced`."""
    return re.sub(r"[A-Z]", lambda capital: "_" + capital.group().lower(), official)


def rename_keys(fields: MutableMapping[str, Any], names: Mapping[str, str]) -> None:
    """Rename the top-level keys of a property map in place; an unmapped key stays."""
    for old, new in names.items():
        if old in fields:
            value = fields[old]
            if hasattr(value, "CopyFrom"):  # a protobuf map: values are copied, never assigned
                fields[new].CopyFrom(value)
            else:
                fields[new] = value
            del fields[old]


def rename_delta(state: MutableMapping[str, Any], names: Mapping[str, str]) -> None:
    """Rename inside a state's raw-state delta, which says by property name how Terraform's state differs from ours.

    Both plugins stop with a data integrity error when the delta does not fit the properties beside it. Call it before
    the properties themselves are renamed. A name that Terraform's does not follow from stands under `renamed`.
    """
    if DELTA not in state or "obj" not in state[DELTA].struct_value.fields:
        return
    delta = state[DELTA].struct_value.fields["obj"].struct_value.fields
    if "ps" in delta:
        rename_keys(delta["ps"].struct_value.fields, names)
    officials = set(PLAIN_NAMES)
    for old, new in names.items():
        if new in officials:
            if "renamed" in delta and old in delta["renamed"].struct_value.fields:
                del delta["renamed"].struct_value.fields[old]
        elif old in state:
            delta["renamed"].struct_value.fields[new].string_value = terraform_name(old)
    if "renamed" in delta and not delta["renamed"].struct_value.fields:
        del delta["renamed"]


def rename_path(path: str, names: Mapping[str, str]) -> str:
    """Rename the root of a property path: `commands[0]` -> `command[0]`, `networksAdvanceds[1].name` and so on."""
    match = re.match(r'^(\["(?P<quoted>[^"]+)"\]|(?P<plain>[^.\[]+))(?P<rest>.*)$', path, re.DOTALL)
    if match is None:
        return path
    root = match["quoted"] or match["plain"]
    return names[root] + match["rest"] if root in names else path


def rename_paths(paths: Iterable[str], names: Mapping[str, str]) -> list[str]:
    """Rename the roots of many paths."""
    return [rename_path(path, names) for path in paths]


def rename_variables(variables: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """Rename configuration variables such as `docker:config:registryAuth`."""
    renamed = {}
    for key, value in variables.items():
        *space, name = key.split(":")
        renamed[":".join([*space, names.get(name, name)])] = value
    return renamed
