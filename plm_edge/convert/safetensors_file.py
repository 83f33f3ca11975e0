"""Reads the header of a safetensors file, believing nothing it says.

The format: eight bytes of header length, a JSON header, then the tensors back to back. The
`safetensors` library maps the file into memory, which would count as ours; we read in pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from plm_edge.convert.encode import FloatType
from plm_edge.convert.json_file import parse_object
from plm_edge.errors import InputError
from plm_edge.paths import read_error

# The format's own limit; a checkpoint of 300 tensors needs 30 kB.
HEADER_LIMIT_BYTES = 100_000_000
_LENGTH_BYTES = 8
_DIMENSIONS_LIMIT = 8

ITEM_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F8_E8M0": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
    "C64": 8,
}
FLOATS: dict[str, FloatType] = {"F32": "f32", "F16": "f16", "BF16": "bf16"}


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies: `offset` from the file's start, `dtype` as the header spells it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int


def read_tensors(path: Path) -> tuple[Stored, ...]:
    """Every tensor of the file, by name; `InputError` when the header does not fit the file."""
    try:
        with path.open("rb") as file:
            size_bytes = file.seek(0, 2)
            file.seek(0)
            length = _header_length(path, file.read(_LENGTH_BYTES), size_bytes)
            header = file.read(length)
    except OSError as error:
        raise read_error(path, error) from error
    table = parse_object(header, path)
    table.pop("__metadata__", None)
    start = _LENGTH_BYTES + length
    tensors = [_tensor(path, name, entry, start) for name, entry in table.items()]
    _check_layout(path, tensors, start, size_bytes)
    return tuple(sorted(tensors, key=lambda tensor: tensor.name))


def _header_length(path: Path, prefix: bytes, size_bytes: int) -> int:
    if size_bytes < _LENGTH_BYTES:
        raise InputError(f"{path}: {size_bytes} bytes, no safetensors file", hint=_AGAIN)
    length = int.from_bytes(prefix, "little")
    if length > min(HEADER_LIMIT_BYTES, size_bytes - _LENGTH_BYTES):
        raise InputError(
            f"{path}: claims a header of {length} bytes, but the file has {size_bytes} "
            f"and a header at most {HEADER_LIMIT_BYTES}",
            hint=_AGAIN,
        )
    return length


def _tensor(path: Path, name: str, entry: Any, start: int) -> Stored:
    where = f"{path}: tensor {name[:200]!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise InputError(f"{where}: expected dtype, shape and data_offsets, nothing else")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise InputError(f"{where}: dtype = {str(dtype)[:40]!r} is unknown")
    if not _whole_numbers(shape) or len(shape) > _DIMENSIONS_LIMIT:
        raise InputError(f"{where}: shape = {str(shape)[:80]}, expected a list of sizes")
    if not _whole_numbers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise InputError(f"{where}: data_offsets = {str(offsets)[:80]}, expected begin and end")
    size_bytes = prod(shape) * ITEM_BYTES[dtype]
    if offsets[1] - offsets[0] != size_bytes:
        raise InputError(
            f"{where}: {offsets[1] - offsets[0]} bytes, but {dtype} of shape {shape} "
            f"needs {size_bytes}"
        )
    return Stored(name, dtype, tuple(shape), start + offsets[0], size_bytes)


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _check_layout(path: Path, tensors: list[Stored], start: int, size_bytes: int) -> None:
    """The tensors must fill the file exactly: no gap, no overlap, no rest."""
    end = start
    for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.size_bytes)):
        if tensor.offset != end:
            what = "overlaps the one before it" if tensor.offset < end else "leaves a gap before it"
            raise InputError(f"{path}: tensor {tensor.name[:200]!r} {what}", hint=_AGAIN)
        end += tensor.size_bytes
        if end > size_bytes:
            raise InputError(
                f"{path}: ends inside tensor {tensor.name[:200]!r} "
                f"({size_bytes} bytes, expected {end} or more)",
                hint=_AGAIN,
            )
    if end != size_bytes:
        raise InputError(f"{path}: {size_bytes - end} bytes behind the last tensor", hint=_AGAIN)


_AGAIN = "download it again: plm-edge pull OWNER/NAME"
