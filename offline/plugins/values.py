"""Property values of Pulumi's provider protocol as Python values, for the stand-ins that are written here."""

from __future__ import annotations

from typing import Any

MARK = "4dabf18193072939515e22adb298388d"
IS_SECRET = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - the protocol's marker, the same everywhere
UNKNOWN_TEXT = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


class Unknown:
    """The value of an output that is not known yet, in previews."""

    def __repr__(self) -> str:
        return "<unknown>"


UNKNOWN = Unknown()


def plain(value: Any) -> Any:
    """A protobuf value without secret wrappers: str, float or int, bool, None, list, dict or UNKNOWN."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        fields = value.struct_value.fields
        if MARK in fields and fields[MARK].string_value == IS_SECRET:
            return plain(fields["value"])
        return {key: plain(item) for key, item in fields.items()}
    if kind == "list_value":
        return [plain(item) for item in value.list_value.values]
    if kind == "string_value":
        return UNKNOWN if value.string_value == UNKNOWN_TEXT else value.string_value
    if kind == "number_value":
        return int(value.number_value) if value.number_value.is_integer() else value.number_value
    return value.bool_value if kind == "bool_value" else None


def properties(struct: Any) -> dict[str, Any]:
    """The property map of a message, plain; properties that are null are left out."""
    found = {key: plain(value) for key, value in struct.fields.items() if not key.startswith("__")}
    return {key: value for key, value in found.items() if value is not None}


def has_secret(value: Any) -> bool:
    """True when a secret is anywhere in a protobuf value."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return MARK in value.struct_value.fields or any(map(has_secret, value.struct_value.fields.values()))
    return kind == "list_value" and any(map(has_secret, value.list_value.values))


def secret_texts(value: Any, inside: bool = False) -> set[str]:
    """Every text that stands inside a secret of a protobuf value."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        inside = inside or MARK in value.struct_value.fields
        items = [item for key, item in value.struct_value.fields.items() if key != MARK]
    elif kind == "list_value":
        items = list(value.list_value.values)
    else:
        return {value.string_value} if inside and kind == "string_value" and value.string_value else set()
    return set().union(*(secret_texts(item, inside) for item in items)) if items else set()


def holds_unknown(value: Any) -> bool:
    """True when an UNKNOWN is anywhere in a plain value."""
    if isinstance(value, dict):
        return any(map(holds_unknown, value.values()))
    if isinstance(value, list):
        return any(map(holds_unknown, value))
    return value is UNKNOWN


def put(fields: Any, key: str, text: str | None, *, secret: bool) -> None:
    """Set an output of a message to a text, or to unknown when it is None; wrapped when it is secret."""
    text = UNKNOWN_TEXT if text is None else text
    if secret:
        inner = fields[key].struct_value.fields
        inner[MARK].string_value = IS_SECRET
        inner["value"].string_value = text
    else:
        fields[key].string_value = text


def changed(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The properties that differ or are not known yet, sorted."""
    return sorted(key for key in {*old, *new} if old.get(key) != new.get(key) or holds_unknown(new.get(key)))
