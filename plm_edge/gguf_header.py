"""Reads and checks the header of a GGUF file without trusting any number in it.

Everything that opens a GGUF looks here first: `gguf.GGUFReader` and the engine allocate what a
damaged or hostile file tells them to. Format: ggml's `docs/gguf.md`, versions 2 and 3.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plm_edge.errors import InputError
from plm_edge.paths import read_error

LAYOUT_KEY = "plm.tensor_data_layout"
RANDOM_KEY = "plm_edge.random"

_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT = 32
_MOST_DIMENSIONS = 4
_LONGEST_NAME = 65535
_LONGEST_STRING = 1 << 26
_LONGEST_ARRAY = 1 << 24

# Value types by number: struct code and size.
_SCALARS = {
    0: ("B", 1),
    1: ("b", 1),
    2: ("H", 2),
    3: ("h", 2),
    4: ("I", 4),
    5: ("i", 4),
    6: ("f", 4),
    7: ("?", 1),
    10: ("Q", 8),
    11: ("q", 8),
    12: ("d", 8),
}
_STRING = 8
_ARRAY = 9
_SMALLEST_STRING_BYTES = 8
_SMALLEST_PAIR_BYTES = 8 + 4 + 1
_SMALLEST_TENSOR_BYTES = 8 + 4 + 8 + 4 + 8


@dataclass(frozen=True)
class TensorInfo:
    """A tensor's place: `shape` in ggml's order (fastest first), `offset` from the file's start."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    size_bytes: int

    @property
    def elements(self) -> int:
        """How many values it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class GgufHeader:
    """The checked header: every tensor lies whole and alone within the file."""

    path: Path
    version: int
    metadata: Mapping[str, Any]
    tensors: tuple[TensorInfo, ...]
    alignment: int
    data_offset: int
    size_bytes: int

    @property
    def architecture(self) -> str:
        """`general.architecture`, empty if the file does not say."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def layout(self) -> str:
        """Our name of the tensor layout: `stock` unless the file says otherwise."""
        return str(self.metadata.get(LAYOUT_KEY, "stock"))

    @property
    def is_random(self) -> bool:
        """Whether the weights were synthesized."""
        return self.metadata.get(RANDOM_KEY) is True

    def tensor(self, name: str) -> TensorInfo:
        """The tensor of that name; `InputError` if the file has none."""
        for tensor in self.tensors:
            if tensor.name == name:
                return tensor
        raise InputError(f"{self.path}: has no tensor {name!r}")

    def require_architecture(self, expected: str = "plm") -> None:
        """Raise `InputError` unless the file is of this architecture."""
        if self.architecture != expected:
            raise InputError(
                f"{self.path}: architecture is {self.architecture!r}, expected {expected!r}"
            )


def read_header(path: Path) -> GgufHeader:
    """The header of the GGUF at `path`; `InputError` naming the file and the value if it is off."""
    try:
        with path.open("rb") as file:
            size_bytes = file.seek(0, 2)
            if size_bytes == 0:
                raise InputError(f"{path}: is empty, expected a GGUF file")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _parse(_Cursor(data, size_bytes, path))
    except (OSError, ValueError) as error:
        if isinstance(error, OSError):
            raise read_error(path, error) from error
        raise InputError(f"{path}: is not a file that can be mapped: {error}") from error


class _Cursor:
    """A position in the file that cannot leave it."""

    def __init__(self, data: mmap.mmap, size_bytes: int, path: Path) -> None:
        self._data = data
        self.size_bytes = size_bytes
        self.path = path
        self.position = 0

    def error(self, message: str) -> InputError:
        return InputError(f"{self.path}: {message}")

    def left(self) -> int:
        return self.size_bytes - self.position

    def bytes(self, count: int, what: str) -> bytes:
        if count > self.left():
            raise self.error(
                f"{what} needs {count} bytes at byte {self.position}, "
                f"but the file ends at byte {self.size_bytes}"
            )
        start = self.position
        self.position += count
        return self._data[start : self.position]

    def unpack(self, code: str, count: int, what: str) -> tuple[Any, ...]:
        layout = f"<{count}{code}"
        return struct.unpack(layout, self.bytes(struct.calcsize(layout), what))

    def u32(self, what: str) -> int:
        return int(self.unpack("I", 1, what)[0])

    def u64(self, what: str) -> int:
        return int(self.unpack("Q", 1, what)[0])

    def count(self, what: str, smallest_bytes: int) -> int:
        """A count of things of at least `smallest_bytes`, no more than the file has room for."""
        number = self.u64(what)
        if number > self.left() // smallest_bytes:
            raise self.error(f"{what} is {number}, more than the file has room for")
        return number

    def text(self, what: str, longest: int = _LONGEST_STRING) -> str:
        length = self.u64(f"length of {what}")
        if length > longest:
            raise self.error(f"length of {what} is {length}, expected at most {longest}")
        return self.bytes(length, what).decode("utf-8", "replace")


def _parse(cursor: _Cursor) -> GgufHeader:
    version = _version(cursor)
    tensor_count = cursor.count("number of tensors", _SMALLEST_TENSOR_BYTES)
    pair_count = cursor.count("number of metadata keys", _SMALLEST_PAIR_BYTES)
    metadata: dict[str, Any] = {}
    for _ in range(pair_count):
        key = cursor.text("a metadata key", _LONGEST_NAME)
        if key in metadata:
            raise cursor.error(f"metadata key {key!r} appears twice")
        metadata[key] = _value(cursor, key)
    alignment = _alignment(cursor, metadata)
    entries = [_entry(cursor) for _ in range(tensor_count)]
    data_offset = _padded(cursor.position, alignment)
    tensors = tuple(_placed(cursor, entries, data_offset, alignment))
    return GgufHeader(
        cursor.path, version, metadata, tensors, alignment, data_offset, cursor.size_bytes
    )


def _version(cursor: _Cursor) -> int:
    magic = cursor.bytes(min(4, cursor.size_bytes), "the magic")
    if magic != b"GGUF":
        raise cursor.error(f"starts with {magic!r}, expected b'GGUF': not a GGUF file")
    version = cursor.u32("the version")
    if version not in _VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        if swapped in _VERSIONS:
            raise cursor.error("is big-endian, expected little-endian")
        raise cursor.error(f"GGUF version is {version}, expected 2 or 3")
    return version


def _value(cursor: _Cursor, key: str) -> Any:
    kind = cursor.u32(f"type of {key}")
    if kind != _ARRAY:
        return _items(cursor, key, kind, 1)[0]
    kind = cursor.u32(f"element type of {key}")
    smallest = _SCALARS[kind][1] if kind in _SCALARS else _SMALLEST_STRING_BYTES
    count = cursor.count(f"number of elements of {key}", smallest)
    if count > _LONGEST_ARRAY:
        raise cursor.error(f"{key} has {count} elements, expected at most {_LONGEST_ARRAY}")
    return _items(cursor, key, kind, count)


def _items(cursor: _Cursor, key: str, kind: int, count: int) -> list[Any]:
    if kind == _STRING:
        return [cursor.text(f"a string of {key}") for _ in range(count)]
    if kind not in _SCALARS:
        raise cursor.error(f"{key} has value type {kind}, which GGUF does not know here")
    return list(cursor.unpack(_SCALARS[kind][0], count, key))


def _alignment(cursor: _Cursor, metadata: Mapping[str, Any]) -> int:
    alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    # Beyond a page's order of magnitude an alignment is damage, not a wish.
    if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
        raise cursor.error(f"general.alignment = {alignment!r}, expected 1 to {1 << 20}")
    if alignment & (alignment - 1):
        raise cursor.error(f"general.alignment = {alignment}, expected a power of two")
    return alignment


def _padded(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment


@dataclass(frozen=True)
class _Entry:
    name: str
    shape: tuple[int, ...]
    type_number: int
    offset: int


def _entry(cursor: _Cursor) -> _Entry:
    name = cursor.text("a tensor name", _LONGEST_NAME)
    dimensions = cursor.u32(f"number of dimensions of {name}")
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise cursor.error(f"tensor {name!r} has {dimensions} dimensions, expected 1 to 4")
    shape = cursor.unpack("Q", dimensions, f"dimensions of {name}")
    return _Entry(name, shape, cursor.u32(f"type of {name}"), cursor.u64(f"offset of {name}"))


def _placed(
    cursor: _Cursor, entries: list[_Entry], data_offset: int, alignment: int
) -> Iterator[TensorInfo]:
    """The tensors with their bytes; they must follow each other as the engine demands."""
    expected = 0
    names: set[str] = set()
    for entry in entries:
        if entry.name in names:
            raise cursor.error(f"tensor {entry.name!r} appears twice")
        names.add(entry.name)
        type_name, size_bytes = _size(cursor, entry)
        if entry.offset != expected:
            raise cursor.error(
                f"tensor {entry.name!r} has offset {entry.offset}, expected {expected}"
            )
        end = data_offset + entry.offset + size_bytes
        if end > cursor.size_bytes:
            raise cursor.error(
                f"tensor {entry.name!r} ends at byte {end}, "
                f"but the file ends at byte {cursor.size_bytes}: it is cut short"
            )
        yield TensorInfo(entry.name, entry.shape, type_name, data_offset + entry.offset, size_bytes)
        expected = _padded(entry.offset + size_bytes, alignment)


def _size(cursor: _Cursor, entry: _Entry) -> tuple[str, int]:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        kind = GGMLQuantizationType(entry.type_number)
    except ValueError as error:
        raise cursor.error(
            f"tensor {entry.name!r} has type {entry.type_number}, which is not known"
        ) from error
    block_values, block_bytes = GGML_QUANT_SIZES[kind]
    if entry.shape[0] % block_values:
        raise cursor.error(
            f"tensor {entry.name!r} has rows of {entry.shape[0]} values, "
            f"expected a multiple of {block_values} for {kind.name}"
        )
    if 0 in entry.shape:
        raise cursor.error(f"tensor {entry.name!r} has shape {entry.shape}, expected no zero")
    return str(kind.name), math.prod(entry.shape) // block_values * block_bytes
