"""Reads the header of a GGUF file: metadata and where each tensor lies, never the tensors.

Every length in the file is checked against what is left of it before it is believed, so that a
truncated or hostile file is one sentence and not a crash or a terabyte of memory.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from plm_edge.errors import InputError
from plm_edge.paths import read_error

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
LAYOUT_KEY = "plm.tensor_data_layout"
RANDOM_KEY = "plm_edge.random"

# Value types, as in the format's specification.
U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
_SCALARS = {
    U8: "<B",
    I8: "<b",
    U16: "<H",
    I16: "<h",
    U32: "<I",
    I32: "<i",
    F32: "<f",
    BOOL: "<?",
    U64: "<Q",
    I64: "<q",
    F64: "<d",
}

# Tensor types: id to (name, values in a block, bytes of a block); retired ids are left out.
TENSOR_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("f32", 1, 4),
    1: ("f16", 1, 2),
    2: ("q4_0", 32, 18),
    3: ("q4_1", 32, 20),
    6: ("q5_0", 32, 22),
    7: ("q5_1", 32, 24),
    8: ("q8_0", 32, 34),
    9: ("q8_1", 32, 40),
    10: ("q2_K", 256, 84),
    11: ("q3_K", 256, 110),
    12: ("q4_K", 256, 144),
    13: ("q5_K", 256, 176),
    14: ("q6_K", 256, 210),
    15: ("q8_K", 256, 292),
    16: ("iq2_xxs", 256, 66),
    17: ("iq2_xs", 256, 74),
    18: ("iq3_xxs", 256, 98),
    19: ("iq1_s", 256, 50),
    20: ("iq4_nl", 32, 18),
    21: ("iq3_s", 256, 110),
    22: ("iq2_s", 256, 82),
    23: ("iq4_xs", 256, 136),
    24: ("i8", 1, 1),
    25: ("i16", 1, 2),
    26: ("i32", 1, 4),
    27: ("i64", 1, 8),
    28: ("f64", 1, 8),
    29: ("iq1_m", 256, 56),
    30: ("bf16", 1, 2),
    34: ("tq1_0", 256, 54),
    35: ("tq2_0", 256, 66),
    39: ("mxfp4", 32, 17),
    40: ("nvfp4", 64, 36),
    41: ("q1_0", 128, 18),
}
TENSOR_TYPE_IDS = {name: number for number, (name, _, _) in TENSOR_TYPES.items()}

_COUNT_LIMIT = 1 << 20
_ITEMS_LIMIT = 1 << 24
_DIMENSIONS_LIMIT = 4
_KEY_LIMIT_BYTES = 1 << 16
_SHORTEST_STRING_BYTES = 8


@dataclass(frozen=True)
class GgufValue:
    """One metadata value with its type as stored; `item_type` is set for arrays."""

    type: int
    value: Any
    item_type: int | None = None


@dataclass(frozen=True)
class GgufTensor:
    """One tensor: `shape` in numpy's order (row length last), `offset` from the file's start."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    size_bytes: int

    @property
    def values(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says about itself."""

    path: Path
    version: int
    values: Mapping[str, GgufValue]
    tensors: tuple[GgufTensor, ...]
    alignment: int
    data_offset: int
    size_bytes: int

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """The values without their types."""
        return {key: value.value for key, value in self.values.items()}

    @cached_property
    def by_name(self) -> dict[str, GgufTensor]:
        """The tensors by name."""
        return {tensor.name: tensor for tensor in self.tensors}

    @property
    def architecture(self) -> str:
        """`general.architecture`, or an empty string."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def layout(self) -> str:
        """Our name of the tensor layout: `stock` unless the file says otherwise."""
        return str(self.metadata.get(LAYOUT_KEY, "stock"))

    @property
    def is_random(self) -> bool:
        """Whether the weights were synthesized."""
        return self.metadata.get(RANDOM_KEY) is True

    def tensor(self, name: str) -> GgufTensor:
        """The tensor of that name; `InputError` if the file has none."""
        if name not in self.by_name:
            raise InputError(f"{self.path}: has no tensor {name!r}")
        return self.by_name[name]

    def require_architecture(self, expected: str = "plm") -> None:
        """Raise `InputError` unless the file is of this architecture."""
        if self.architecture != expected:
            raise InputError(
                f"{self.path}: architecture is {self.architecture!r}, expected {expected!r}"
            )


def is_gguf(path: Path) -> bool:
    """Whether `path` is a file that begins as GGUF files do."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read_header(path: Path) -> GgufHeader:
    """Read and check a GGUF header; `InputError` names the file and what is wrong in it."""
    try:
        with path.open("rb") as file:
            return _Parser(path, file).header()
    except OSError as error:
        raise read_error(path, error) from error


class _Parser:
    """Walks the header once, keeping how many bytes are left."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.file = file
        self.size_bytes = file.seek(0, io.SEEK_END)
        file.seek(0)

    def header(self) -> GgufHeader:
        if not self.size_bytes:
            raise self.error("is empty", "download or convert it again")
        if self.take(4) != MAGIC:
            raise self.error("is not a GGUF file")
        version = self.scalar(U32)
        if version not in VERSIONS:
            raise self.error(f"GGUF version {version}, expected 2 or 3")
        tensor_count = self.count(self.scalar(U64), "tensors")
        value_count = self.count(self.scalar(U64), "metadata keys")
        values = self.values(value_count)
        alignment = self.alignment(values)
        infos = [self.tensor_info() for _ in range(tensor_count)]
        data_offset = -(-self.file.tell() // alignment) * alignment
        tensors = self.placed(infos, data_offset, alignment)
        return GgufHeader(
            self.path, version, values, tensors, alignment, data_offset, self.size_bytes
        )

    def error(self, what: str, hint: str | None = None) -> InputError:
        return InputError(f"{self.path}: {what}", hint=hint)

    def take(self, size_bytes: int) -> bytes:
        if size_bytes > self.size_bytes - self.file.tell():
            raise self.error(
                f"ends inside its header ({self.size_bytes} bytes)", "download or convert it again"
            )
        return self.file.read(size_bytes)

    def scalar(self, kind: int) -> Any:
        form = _SCALARS[kind]
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def count(self, number: int, noun: str) -> int:
        if number > _COUNT_LIMIT:
            raise self.error(f"claims {number} {noun}, expected at most {_COUNT_LIMIT}")
        return number

    def text(self, limit: int | None = None) -> str:
        length = self.scalar(U64)
        if limit is not None and length > limit:
            raise self.error(f"a name of {length} bytes, expected at most {limit}")
        # Token texts may hold cut UTF-8; surrogates keep their bytes.
        return self.take(length).decode("utf-8", "surrogateescape")

    def values(self, count: int) -> dict[str, GgufValue]:
        found: dict[str, GgufValue] = {}
        for _ in range(count):
            key = self.text(_KEY_LIMIT_BYTES)
            if key in found:
                raise self.error(f"metadata key {key!r} appears twice")
            found[key] = self.value(key)
        return found

    def value(self, key: str) -> GgufValue:
        kind = self.scalar(U32)
        if kind == STRING:
            return GgufValue(kind, self.text())
        if kind == ARRAY:
            return self.array(key)
        if kind not in _SCALARS:
            raise self.error(f"metadata key {key!r} has the unknown type {kind}")
        return GgufValue(kind, self.scalar(kind))

    def array(self, key: str) -> GgufValue:
        kind, length = self.scalar(U32), self.scalar(U64)
        if kind == STRING:
            self.check_room(key, length, _SHORTEST_STRING_BYTES)
            return GgufValue(ARRAY, [self.text() for _ in range(length)], kind)
        if kind not in _SCALARS:
            raise self.error(f"metadata key {key!r} is an array of the unknown type {kind}")
        form = _SCALARS[kind]
        item_bytes = struct.calcsize(form)
        self.check_room(key, length, item_bytes)
        data = self.take(length * item_bytes)
        return GgufValue(ARRAY, list(struct.unpack(f"<{length}{form[1]}", data)), kind)

    def check_room(self, key: str, length: int, item_bytes: int) -> None:
        room = min(self.size_bytes - self.file.tell(), _ITEMS_LIMIT * item_bytes)
        if length * item_bytes > room:
            raise self.error(
                f"metadata key {key!r} claims {length} items, more than the file holds"
            )

    def alignment(self, values: dict[str, GgufValue]) -> int:
        stored = values.get("general.alignment")
        alignment = DEFAULT_ALIGNMENT if stored is None else stored.value
        fits = isinstance(alignment, int) and 8 <= alignment <= 1 << 16
        if not fits or alignment & (alignment - 1):
            raise self.error(f"general.alignment = {alignment!r}, expected a power of two from 8")
        return int(alignment)

    def tensor_info(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self.text(_KEY_LIMIT_BYTES)
        dimensions = self.scalar(U32)
        if not 0 < dimensions <= _DIMENSIONS_LIMIT:
            raise self.error(f"tensor {name!r} has {dimensions} dimensions, expected 1 to 4")
        shape = tuple(self.scalar(U64) for _ in range(dimensions))
        return name, shape[::-1], self.scalar(U32), self.scalar(U64)

    def placed(
        self, infos: list[tuple[str, tuple[int, ...], int, int]], data_offset: int, alignment: int
    ) -> tuple[GgufTensor, ...]:
        tensors = [self.tensor(info, data_offset, alignment) for info in infos]
        if len({tensor.name for tensor in tensors}) != len(tensors):
            names = sorted(tensor.name for tensor in tensors)
            twice = next(a for a, b in pairwise(names) if a == b)
            raise self.error(f"tensor {twice!r} appears twice")
        end = data_offset
        for tensor in sorted(tensors, key=lambda tensor: tensor.offset):
            if tensor.offset < end:
                raise self.error(f"tensor {tensor.name!r} overlaps the one before it")
            end = tensor.offset + tensor.size_bytes
        return tuple(tensors)

    def tensor(
        self, info: tuple[str, tuple[int, ...], int, int], data_offset: int, alignment: int
    ) -> GgufTensor:
        name, shape, type_id, offset = info
        if type_id not in TENSOR_TYPES:
            raise self.error(f"tensor {name!r} has the unknown type {type_id}")
        type_name, block, block_bytes = TENSOR_TYPES[type_id]
        if not all(shape) or shape[-1] % block:
            raise self.error(f"tensor {name!r} of type {type_name} has the shape {list(shape)}")
        size_bytes = prod(shape) // block * block_bytes
        if offset % alignment:
            raise self.error(f"tensor {name!r} lies at {offset}, no multiple of {alignment}")
        if data_offset + offset + size_bytes > self.size_bytes:
            raise self.error(
                f"ends inside tensor {name!r}: {self.size_bytes} bytes, expected "
                f"{data_offset + offset + size_bytes} or more",
                "download or convert it again",
            )
        return GgufTensor(name, shape, type_name, data_offset + offset, size_bytes)
