"""Streams tensors into one safetensors file, rounding float32 to the type it stores.

Follows the format's description: an 8-byte length, a JSON header, then the data without holes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

# safetensors' name and the bytes of a value, by our name of the type.
DTYPES = {"bf16": ("BF16", 2), "f16": ("F16", 2), "f32": ("F32", 4)}
TORCH_NAMES = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}


def encode(values: Array, dtype: str) -> NDArray[Any]:
    """`values` in the bits `dtype` stores, rounded to nearest even."""
    if dtype == "f32":
        return values.astype("<f4", copy=False)
    if dtype == "f16":
        return values.astype("<f2")
    bits = np.ascontiguousarray(values).view(np.uint32)
    half = ((bits >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF)
    stored: NDArray[Any] = ((bits + half) >> np.uint32(16)).astype("<u2")
    return stored


def decode(stored: NDArray[Any], dtype: str) -> Array:
    """The float32 values of what `encode` returned."""
    if dtype == "bf16":
        stored = (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    values: Array = stored.astype(np.float32, copy=False)
    return values


class TensorFile:
    """A safetensors file being written; every tensor is appended whole, in the header's order."""

    def __init__(self, path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str) -> None:
        self._dtype = dtype
        self._sizes = {name: self._size(shape) for name, shape in shapes.items()}
        self._file = path.open("wb")
        header = self._header(shapes)
        self._file.write(len(header).to_bytes(8, "little") + header)
        self.written_bytes = 0
        self.total_bytes = sum(self._sizes.values())

    def _size(self, shape: tuple[int, ...]) -> int:
        return int(np.prod(shape, dtype=np.int64)) * DTYPES[self._dtype][1]

    def _header(self, shapes: Mapping[str, tuple[int, ...]]) -> bytes:
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        offset = 0
        for name, shape in shapes.items():
            end = offset + self._sizes[name]
            entry = {"dtype": DTYPES[self._dtype][0], "shape": list(shape)}
            header[name] = {**entry, "data_offsets": [offset, end]}
            offset = end
        text = json.dumps(header, separators=(",", ":")).encode()
        return text + b" " * (-len(text) % 8)

    def append(self, stored: NDArray[Any]) -> None:
        """Write the next tensor, or the next rows of it, as `encode` returned them."""
        self._file.write(np.ascontiguousarray(stored).data)
        self.written_bytes += stored.nbytes

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        if kind is None and self.written_bytes != self.total_bytes:
            raise AssertionError(f"wrote {self.written_bytes} of {self.total_bytes} bytes")
