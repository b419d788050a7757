"""Just enough of the GGUF format (version 3) to write a model file without any package."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ALIGNMENT = 32
F32, F16 = 0, 1
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6  # kinds of tokens

Value = str | bool | int | float | Sequence[str] | Sequence[int] | Sequence[float]


@dataclass(frozen=True)
class Tensor:
    """A named array; `shape` has the fastest running dimension first, `data` is little-endian."""

    name: str
    shape: tuple[int, ...]
    kind: int
    data: bytes


def floats(name: str, shape: tuple[int, ...], values: Sequence[float]) -> Tensor:
    """A tensor of 32-bit floats."""
    return Tensor(name, shape, F32, array("f", values).tobytes())


def constant(name: str, shape: tuple[int, ...], value: float) -> Tensor:
    """A tensor that has one 32-bit value everywhere."""
    count = 1
    for length in shape:
        count *= length
    return floats(name, shape, [value] * count)


def half(value: float) -> bytes:
    """One 16-bit float."""
    return struct.pack("<e", value)


def encode(metadata: Mapping[str, Value], tensors: Sequence[Tensor]) -> bytes:
    """The whole file. Integers are written as 32-bit unsigned, those in lists as signed, floats as 32-bit."""
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for key, value in metadata.items():
        parts += [_text(key), _value(value)]
    offset = 0
    for tensor in tensors:
        shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        parts += [_text(tensor.name), shape, struct.pack("<IQ", tensor.kind, offset)]
        offset += len(tensor.data) + _padding(len(tensor.data))
    head = b"".join(parts)
    body = b"".join(tensor.data + bytes(_padding(len(tensor.data))) for tensor in tensors)
    return head + bytes(_padding(len(head))) + body


def _padding(length: int) -> int:
    return -length % ALIGNMENT


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Value) -> bytes:
    match value:
        case bool():
            return struct.pack("<IB", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", 8) + _text(value)
    head = struct.pack("<I", 9)
    if all(isinstance(item, str) for item in value):
        return head + struct.pack("<IQ", 8, len(value)) + b"".join(_text(str(item)) for item in value)
    if all(isinstance(item, int) for item in value):
        return head + struct.pack("<IQ", 5, len(value)) + array("i", [int(item) for item in value]).tobytes()
    return head + struct.pack("<IQ", 6, len(value)) + array("f", [float(item) for item in value]).tobytes()
