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
# The bridge shows Terraform's `id` a second time under these names; the official plugin has only Pulumi's own id.
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
    parts = urn.split("::")
    if len(parts) > 3:
        *parents, own = parts[2].split("$")
        parts[2] = "$".join([*parents, TYPES.get(own, own)])
    return "::".join(parts)


def to_bridge(kind: str) -> Mapping[str, str]:
    """Property names of a resource type, official -> bridge."""
    return PROPERTIES.get(kind, {})


def to_official(kind: str) -> Mapping[str, str]:
    """Property names of a resource type, bridge -> official."""
    return {bridge: official for official, bridge in to_bridge(kind).items()}


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


def rename_path(path: str, names: Mapping[str, str]) -> str:
    """Rename the root of a property path: `commands[0]` -> `command[0]`, `networksAdvanceds[1].name` and so on."""
    match = re.match(r'^(\["(?P<quoted>[^"]+)"\]|(?P<plain>[^.\[]+))(?P<rest>.*)$', path, re.DOTALL)
    if match is None:
        return path
    root = match["quoted"] or match["plain"]
    return names[root] + match["rest"] if root in names else path


def rename_paths(paths: Iterable[str], names: Mapping[str, str], hidden: str | None = None) -> list[str]:
    """Rename many paths, leaving out the property `hidden`."""
    return [rename_path(path, names) for path in paths if hidden is None or root_of(path) != hidden]


def root_of(path: str) -> str:
    """The first name of a property path."""
    return re.split(r"[.\[]", path, maxsplit=1)[0]


def rename_variables(variables: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """Rename configuration variables such as `docker:config:registryAuth`."""
    renamed = {}
    for key, value in variables.items():
        *space, name = key.split(":")
        renamed[":".join([*space, names.get(name, name)])] = value
    return renamed
