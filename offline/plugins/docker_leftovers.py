"""Containers that exist although their creation failed: how they are recognised, marked and described.

Plain functions over protobuf `Struct`s of the provider protocol; no calls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from offline.plugins.values import MARK

# The mark of a half-made container: a key in the bridge's own notes about a state, which every plugin reads leniently.
META, UNFINISHED = "__meta", "private_llm_unfinished"
CURRENT_SCHEMA = '{"schema_version":"2"}'  # of containers, in the pinned Terraform provider
OWNER_LABELS = ("private-llm.stack", "private-llm.service")
# Messages of the Terraform provider for what it does after the container exists.
AFTER_CREATION = re.compile(
    r"Unable to (start container|upload volume content|connect to network|disconnect the default network"
    r"|wait container end of execution)|error with upload content|creating tar archive|could not read file"
)
CONFLICT = re.compile(r'Conflict\. The container name "?/?[^ "]+"? is already in use')


@dataclass(frozen=True)
class Found:
    """A container on the host."""

    id: str
    labels: Mapping[str, str]


def is_name_conflict(message: str) -> bool:
    """True when a creation failed because another container has the name."""
    return CONFLICT.search(message) is not None


def is_network_conflict(message: str) -> bool:
    """True when a network could not be made because one of that name is there."""
    return re.search(r"network with name \S+ already exists", message) is not None


def same_owner(wanted: Mapping[str, str], found: Mapping[str, str]) -> bool:
    """True when both carry all owner labels with the same values."""
    return all(wanted.get(label) and wanted.get(label) == found.get(label) for label in OWNER_LABELS)


def made_by_this_call(message: str, wanted: Mapping[str, str], found: Mapping[str, str]) -> bool:
    """True when the container of our name was made by the call that failed with `message`.

    Some steps after the creation fail with Docker's bare words; then all labels asked for decide.
    """
    if is_name_conflict(message):
        return False
    asked = bool(wanted) and all(found.get(label) == value for label, value in wanted.items())
    return asked or AFTER_CREATION.search(message) is not None


def is_unfinished(state: Mapping[str, Any]) -> bool:
    """True when a recorded container was marked by `mark_unfinished` and not made anew since."""
    return META in state and UNFINISHED in notes(state)


def mark_unfinished(state: MutableMapping[str, Any]) -> None:
    """Record a container as half-made, so that the next difference replaces it."""
    state[META].string_value = json.dumps({**(notes(state) if META in state else {}), UNFINISHED: "1"})


def notes(state: Mapping[str, Any]) -> dict[str, Any]:
    """The bridge's notes about a state; empty when they are not there or not readable."""
    try:
        found = json.loads(state[META].string_value)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def revealed(value: Any) -> Any:
    """A protobuf value without Pulumi's wrapper for secrets."""
    while value.WhichOneof("kind") == "struct_value" and MARK in value.struct_value.fields:
        value = value.struct_value.fields["value"]
    return value


def name_of(properties: Any) -> str:
    """The container's name in its inputs; empty when unknown."""
    if "name" not in properties.fields:
        return ""
    return str(revealed(properties.fields["name"]).string_value)


def labels_of(properties: Any) -> dict[str, str]:
    """The labels of a container in its inputs, a list of `{label, value}`."""
    if "labels" not in properties.fields:
        return {}
    pairs = [revealed(item).struct_value.fields for item in revealed(properties.fields["labels"]).list_value.values]
    return {
        revealed(pair["label"]).string_value: revealed(pair["value"]).string_value
        for pair in pairs
        if "label" in pair and "value" in pair
    }


def named(name: str, listing: Any) -> Found | None:
    """The container called `name` in the answer of the `getContainers` data source."""
    for item in revealed(listing.fields["containers"]).list_value.values if "containers" in listing.fields else ():
        fields = revealed(item).struct_value.fields
        called = [revealed(value).string_value.lstrip("/") for value in revealed(fields["names"]).list_value.values]
        if name in called:
            labels = revealed(fields["labels"]).struct_value.fields if "labels" in fields else {}
            return Found(
                revealed(fields["id"]).string_value,
                {key: revealed(value).string_value for key, value in labels.items()},
            )
    return None


def log_lines(answer: Any) -> str:
    """The lines of a `getLogs` answer, indented for an error message."""
    if "logsListStrings" not in answer.fields:
        return ""
    values = revealed(answer.fields["logsListStrings"]).list_value.values
    lines = [re.sub(r"[^\x20-\x7e\t]", "", revealed(value).string_value).strip() for value in values]
    shown = [f"  {line}" for line in lines if line]
    return "\nthe container's last lines:\n" + "\n".join(shown) if shown else ""
