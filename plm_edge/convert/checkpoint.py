"""A checkpoint in a Hugging Face folder: its files, and every tensor they hold, in one table.

`model.safetensors`, sharded safetensors with an index, or `pytorch_model*.bin`; order is upstream's
(files by name, then tensors by name), so that ours and upstream's GGUF are the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from plm_edge.convert import safetensors_file
from plm_edge.convert.encode import RAW_DTYPES, FloatType, Raw
from plm_edge.convert.json_file import read_object
from plm_edge.errors import InputError
from plm_edge.paths import read_error
from plm_edge.shell import quote

_SAFETENSORS = ("model", ".safetensors")
_PYTORCH = ("pytorch_model", ".bin")


class Tensor(Protocol):
    """A tensor that can be read in pieces from several threads at once."""

    @property
    def name(self) -> str:
        """Its name in the checkpoint."""

    @property
    def dtype(self) -> FloatType:
        """The float format it is stored in."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape, rows first."""

    def read(self, first: int, count: int) -> Raw:
        """`count` of its values from `first` on, flat, as raw bits."""


@dataclass(frozen=True)
class FileTensor:
    """A tensor at a place in a file."""

    name: str
    dtype: FloatType
    shape: tuple[int, ...]
    path: Path
    offset: int

    def read(self, first: int, count: int) -> Raw:
        """Reads with `preadv` into fresh memory: a mapped file would count as our memory."""
        values = np.empty(count, RAW_DTYPES[self.dtype])
        view = values.view(np.uint8).data
        position = self.offset + first * values.itemsize
        try:
            with self.path.open("rb", buffering=0) as file:
                done = 0
                while done < len(view):
                    got = os.preadv(file.fileno(), [view[done:]], position + done)
                    if not got:
                        raise InputError(f"{self.path}: ends inside tensor {self.name!r}")
                    done += got
        except OSError as error:
            raise read_error(self.path, error) from error
        return values


def open_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the checkpoint by name, in file order; only headers are read."""
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise read_error(folder, error) from error
    for (prefix, suffix), opener in ((_SAFETENSORS, _open_safetensors), (_PYTORCH, _open_pytorch)):
        index = folder / f"{prefix}{suffix}.index.json"
        found = [name for name in names if name.startswith(prefix) and name.endswith(suffix)]
        if index.name in names:
            weight_map = _weight_map(index)
            parts = sorted(set(weight_map.values()))
            return _checked_against_index(dict(_all(folder, parts, opener)), weight_map, index)
        if found:
            return dict(_all(folder, found, opener))
    raise InputError(
        f"{folder}: no weights: neither model.safetensors, model.safetensors.index.json "
        "nor pytorch_model.bin",
        hint=quote(["ls", folder]),
    )


def _weight_map(index: Path) -> dict[str, str]:
    table = read_object(index).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise InputError(f"{index}: weight_map is missing or empty")
    for name, part in table.items():
        # A shard's name comes from a downloaded file: it must not lead out of the folder.
        if not isinstance(part, str) or Path(part).name != part or part in ("", ".", ".."):
            raise InputError(f"{index}: tensor {name!r} is said to be in {str(part)[:80]!r}")
    return table


def _all(folder: Path, parts: list[str], opener: _Opener) -> Iterator[tuple[str, Tensor]]:
    seen: set[str] = set()
    for part in parts:
        path = folder / part
        if not path.is_file():
            raise InputError(
                f"{path}: the index names it, but it is not there", hint=quote(["ls", folder])
            )
        for tensor in opener(path):
            if tensor.name in seen:
                raise InputError(f"{path}: tensor {tensor.name!r} is in another file too")
            seen.add(tensor.name)
            yield tensor.name, tensor


def _checked_against_index(
    tensors: dict[str, Tensor], weight_map: dict[str, str], index: Path
) -> dict[str, Tensor]:
    missing = sorted(set(weight_map) - set(tensors))
    if missing:
        part = weight_map[missing[0]]
        raise InputError(f"{index.parent / part}: tensor {missing[0]!r} of the index is not in it")
    extra = sorted(set(tensors) - set(weight_map))
    if extra:
        raise InputError(f"{index}: tensor {extra[0]!r} is in the files but not in the index")
    return tensors


class _Opener(Protocol):
    def __call__(self, path: Path) -> Iterator[Tensor]: ...


def _open_safetensors(path: Path) -> Iterator[Tensor]:
    for stored in safetensors_file.read_tensors(path):
        dtype = safetensors_file.FLOATS.get(stored.dtype)
        if dtype is None:
            raise InputError(
                f"{path}: tensor {stored.name!r} is {stored.dtype}, expected BF16, F16 or F32"
            )
        yield FileTensor(stored.name, dtype, stored.shape, path, stored.offset)


def _open_pytorch(path: Path) -> Iterator[Tensor]:
    from plm_edge.convert.torch_file import open_file

    yield from open_file(path)
