"""Reads the header of a GGUF file: what a model is made of, without its weights. Pure.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, both byte orders).
A header may come from anywhere, so nothing in it is believed: every length is bounded before it is used.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

Read = Callable[[int, int], bytes]
"""`read(offset, length)` gives that part of the file, shorter at its end."""

Scalar = int | float | bool | str
Value = Scalar | list[Scalar]

MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)
BLOCK: Final = 1 << 20  # bytes fetched at once
MOST_HEADER: Final = 96 << 20  # bytes; the largest vocabularies take about 20 MiB
MOST_ENTRIES: Final = 65_536
MOST_TENSORS: Final = 1_000_000
MOST_TEXT: Final = 16 << 20
MOST_ITEMS: Final = 1 << 22
MOST_DIMENSIONS: Final = 8
KEPT_ITEMS: Final = 8192  # longer arrays are vocabularies: only their length is kept
LARGEST: Final = 1 << 50  # elements of a tensor: a petabyte and more
BESIDE: Final = 0.1  # of a file, at most, that is no tensor: there is padding between them, and nothing else

# Type of a tensor -> (name, elements in a block, bytes of a block). ggml's own table (ggml.h, gguf-py constants).
TENSOR_TYPES: Final[Mapping[int, tuple[str, int, int]]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
}

_FORMATS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING: Final = 8
_ARRAY: Final = 9


class GgufError(Exception):
    """The file is not a GGUF file that can be read; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: its name, dimensions and type."""

    name: str
    dimensions: tuple[int, ...]
    type: int

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return math.prod(self.dimensions)

    @property
    def size(self) -> int:
        """Bytes of its data. Raises GgufError for a type that this reader does not know."""
        if self.type not in TENSOR_TYPES:
            raise GgufError(f"tensor {self.name!r} has the unknown type {self.type}")
        _, block, size = TENSOR_TYPES[self.type]
        return math.ceil(self.elements / block) * size


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What stands before the weights."""

    version: int
    metadata: Mapping[str, Value]
    """Long arrays (vocabularies) are left out; `lengths` has how long they are."""
    lengths: Mapping[str, int]
    tensors: tuple[Tensor, ...]

    @property
    def weights(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.size for tensor in self.tensors)


def read_header(read: Read, size: int | None = None) -> Header:
    """Reads a header through `read`. Raises GgufError in words for whatever is not one.

    With the file's `size` in bytes, a file that ends before its weights do is refused too, and one that is larger than
    they are: what it has beside them would be loaded, too, and is not told.
    """
    source = _Source(read)
    if (magic := source.take(4)) != MAGIC:
        raise GgufError(f"not a GGUF file: it starts with {magic!r}, not {MAGIC!r}")
    version = int(source.number("I"))
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        if swapped < version:  # the other byte order shows as a very large version
            source.order, version = ">", swapped
    if version not in VERSIONS:
        raise GgufError(f"GGUF version {version} cannot be read; known are {', '.join(map(str, VERSIONS))}")
    tensors = source.count("tensors", MOST_TENSORS)
    entries = source.count("metadata entries", MOST_ENTRIES)
    metadata: dict[str, Value] = {}
    lengths: dict[str, int] = {}
    for _ in range(entries):
        key = source.text()
        if key in metadata or key in lengths:
            raise GgufError(f"metadata {key!r} is there twice")
        kind = int(source.number("I"))
        if kind != _ARRAY:
            metadata[key] = source.value(kind)
            continue
        items, length = source.array(key)
        lengths[key] = length
        if items is not None:
            metadata[key] = items
    header = Header(
        version=version,
        metadata=metadata,
        lengths=lengths,
        tensors=tuple(source.tensor() for _ in range(tensors)),
    )
    if len({tensor.name for tensor in header.tensors}) < tensors:
        raise GgufError("two of its tensors have the same name")
    if size is None:
        return header
    weights, room = header.weights, size - source.at
    if weights > size:
        raise GgufError(f"its header tells of {weights} bytes of weights, the file has {size}: it is not complete")
    if room - weights > max(BESIDE * room, BLOCK):
        raise GgufError(
            f"its header tells of {weights} bytes of weights, the file has {room} behind it: the header is not of this "
            "file, or tells of a part of it only"
        )
    return header


class _Source:
    """A position in the file; blocks are fetched as they are needed."""

    def __init__(self, read: Read) -> None:
        self._read, self.at, self._start, self._block = read, 0, 0, b""
        self.order = "<"

    def take(self, length: int) -> bytes:
        if self.at + length > MOST_HEADER:
            raise GgufError(f"the header is larger than {MOST_HEADER >> 20} MiB: its lengths cannot be true")
        begin = self.at - self._start
        if begin + length > len(self._block):
            self._start, begin = self.at, 0
            self._block = self._read(self.at, max(length, BLOCK))
            if len(self._block) < length:
                raise GgufError(
                    f"the file ends within its header (at byte {self.at + len(self._block)}): it is not complete"
                )
        self.at += length
        return self._block[begin : begin + length]

    def number(self, form: str) -> int | float | bool:
        form = self.order + form
        value: int | float | bool = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return value

    def count(self, what: str, most: int) -> int:
        found = int(self.number("Q"))
        if found > most:
            raise GgufError(f"the header says {found} {what}; more than {most} cannot be true")
        return found

    def text(self) -> str:
        return self.take(self.count("bytes of a text", MOST_TEXT)).decode(errors="replace")

    def value(self, kind: int) -> Scalar:
        if kind == _STRING:
            return self.text()
        if kind not in _FORMATS:
            raise GgufError(f"metadata of the unknown type {kind}")
        return self.number(_FORMATS[kind])

    def array(self, key: str) -> tuple[list[Scalar] | None, int]:
        kind = int(self.number("I"))
        length = self.count(f"items of {key!r}", MOST_ITEMS)
        if length <= KEPT_ITEMS:
            return [self.value(kind) for _ in range(length)], length
        if kind == _STRING:
            for _ in range(length):
                self.take(self.count("bytes of a text", MOST_TEXT))
        elif kind in _FORMATS:
            self.take(length * struct.calcsize(self.order + _FORMATS[kind]))
        else:
            raise GgufError(f"metadata {key!r} is an array of the unknown type {kind}")
        return None, length

    def tensor(self) -> Tensor:
        name = self.text()
        dimensions = int(self.number("I"))
        if dimensions > MOST_DIMENSIONS:
            raise GgufError(f"tensor {name!r} has {dimensions} dimensions; more than {MOST_DIMENSIONS} cannot be true")
        sizes = tuple(int(self.number("Q")) for _ in range(dimensions))
        if math.prod(sizes) > LARGEST:
            raise GgufError(f"tensor {name!r} is larger than anything that exists: {sizes}")
        kind = int(self.number("I"))
        self.number("Q")  # where its data begins
        return Tensor(name, sizes, kind)
