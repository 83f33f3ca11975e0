"""ggml's own quantizers, called in this process (ggml.h)."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plm_edge.gguf_header import TENSOR_TYPE_IDS
from plm_edge.quantize.tensor_types import TYPES

_TO_FLOAT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


_PLAIN = {"f32": np.float32, "f16": np.float16}


class _Traits(ctypes.Structure):
    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", _TO_FLOAT),
        ("from_float_ref", ctypes.c_void_p),
    )


class Ggml:
    """The part of an engine that knows types; the engine itself need not be loaded."""

    def __init__(self, lib_dir: Path) -> None:
        self._library = ctypes.CDLL(str(lib_dir / "libggml-base.so"))
        self._library.ggml_quantize_chunk.restype = ctypes.c_size_t
        self._library.ggml_quantize_chunk.argtypes = [
            *(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
            *(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p),
        ]
        self._library.ggml_get_type_traits.restype = ctypes.POINTER(_Traits)

    def packed(
        self,
        values: NDArray[np.float32],
        type_name: str,
        importance: NDArray[np.float32] | None = None,
    ) -> NDArray[np.uint8]:
        """Rows as a file holds them: (rows, width), whole blocks each.

        `importance` is one weight per column, as an importance matrix gives them.
        """
        values = np.ascontiguousarray(values, dtype=np.float32)
        if type_name in _PLAIN:
            return values.astype(_PLAIN[type_name]).view(np.uint8).ravel()
        rows, width = values.shape
        block = TYPES[type_name]
        packed = np.empty(values.size // block.block_values * block.block_bytes, np.uint8)
        weights = None if importance is None else np.ascontiguousarray(importance, np.float32)
        self._library.ggml_quantize_chunk(
            *(TENSOR_TYPE_IDS[type_name], _address(values), _address(packed)),
            *(0, rows, width, None if weights is None else _address(weights)),
        )
        return packed

    def unpacked(
        self, packed: NDArray[np.uint8], type_name: str, shape: tuple[int, int]
    ) -> NDArray[np.float32]:
        """The values in packed rows."""
        if type_name in _PLAIN:
            return packed.view(_PLAIN[type_name]).reshape(shape).astype(np.float32)
        back = np.empty(shape, np.float32)
        traits = self._library.ggml_get_type_traits(TENSOR_TYPE_IDS[type_name]).contents
        traits.to_float(_address(packed), _address(back), back.size)
        return back

    def rounded(
        self,
        values: NDArray[np.float32],
        type_name: str,
        importance: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Rows as they come back from a file."""
        shape = (values.shape[0], values.shape[1])
        return self.unpacked(self.packed(values, type_name, importance), type_name, shape)


def _address(values: NDArray[Any]) -> int:
    return int(values.ctypes.data)
