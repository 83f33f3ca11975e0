"""Lays out a GGUF file: header bytes and the place of every tensor, known before a byte is written.

Byte for byte what the `gguf` library's writer makes of the same values, but without holding
tensors, so that pieces of them can be written in any order.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from plm_edge.errors import InputError
from plm_edge.gguf_header import (
    ARRAY,
    BOOL,
    DEFAULT_ALIGNMENT,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    MAGIC,
    STRING,
    TENSOR_TYPE_IDS,
    TENSOR_TYPES,
    U8,
    U16,
    U32,
    U64,
    GgufValue,
)

VERSION = 3
_FORMS = {
    U8: "B",
    I8: "b",
    U16: "H",
    I16: "h",
    U32: "I",
    I32: "i",
    F32: "f",
    BOOL: "?",
    U64: "Q",
    I64: "q",
    F64: "d",
}


@dataclass(frozen=True)
class Output:
    """A tensor of the file to be written; `shape` in numpy's order (the row length last)."""

    name: str
    shape: tuple[int, ...]
    type: str

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        _, block, block_bytes = TENSOR_TYPES[TENSOR_TYPE_IDS[self.type]]
        return self.shape[-1] // block * block_bytes

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole tensor."""
        return prod(self.shape[:-1]) * self.row_bytes


@dataclass(frozen=True)
class FileLayout:
    """The finished plan of a file: its first bytes, and where each tensor begins."""

    header: bytes
    offsets: Mapping[str, int]
    size_bytes: int


def lay_out(values: Mapping[str, GgufValue], outputs: Sequence[Output]) -> FileLayout:
    """Pack metadata and tensor table, and place every tensor."""
    stored = values.get("general.alignment")
    alignment = DEFAULT_ALIGNMENT if stored is None else int(stored.value)
    head = bytearray(MAGIC + struct.pack("<IQQ", VERSION, len(outputs), len(values)))
    for key, value in values.items():
        head += _text(key) + struct.pack("<I", value.type) + _packed(value)
    offsets: dict[str, int] = {}
    end = 0
    for output in outputs:
        head += _tensor_info(output, end)
        offsets[output.name] = end
        end += _padded(output.size_bytes, alignment)
    start = _padded(len(head), alignment)
    head += bytes(start - len(head))
    placed = {name: start + offset for name, offset in offsets.items()}
    return FileLayout(bytes(head), placed, start + end)


def _padded(size_bytes: int, alignment: int) -> int:
    return -(-size_bytes // alignment) * alignment


def _tensor_info(output: Output, offset: int) -> bytes:
    sizes = output.shape[::-1]
    return (
        _text(output.name)
        + struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)
        + struct.pack("<IQ", TENSOR_TYPE_IDS[output.type], offset)
    )


def _packed(value: GgufValue) -> bytes:
    if value.type == STRING:
        return _text(value.value)
    if value.type != ARRAY:
        return struct.pack("<" + _FORMS[value.type], value.value)
    kind = value.item_type
    if kind is None:
        raise ValueError("an array without the type of its items")
    head = struct.pack("<IQ", kind, len(value.value))
    if kind == STRING:
        return head + b"".join(map(_text, value.value))
    return head + struct.pack(f"<{len(value.value)}{_FORMS[kind]}", *value.value)


def _text(value: str) -> bytes:
    try:
        # Surrogates stand for bytes of cut UTF-8, as the reader keeps them.
        data = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InputError(f"{value[:80]!r} is no valid Unicode text") from error
    return struct.pack("<Q", len(data)) + data


def string(value: str) -> GgufValue:
    """A metadata string."""
    return GgufValue(STRING, value)


def u32(value: int) -> GgufValue:
    """A metadata whole number."""
    return GgufValue(U32, value)


def f32(value: float) -> GgufValue:
    """A metadata float."""
    return GgufValue(F32, value)


def boolean(value: bool) -> GgufValue:
    """A metadata truth value."""
    return GgufValue(BOOL, value)


def array(item_type: int, values: Sequence[Any]) -> GgufValue:
    """A metadata array of scalars or strings."""
    return GgufValue(ARRAY, values, item_type)
