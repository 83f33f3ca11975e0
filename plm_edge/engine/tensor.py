"""What a hook on the engine's graph sees of a tensor: the head of `struct ggml_tensor` (ggml.h).

The binding does not describe it. Everything read through it lives only during the hook's call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

_NAME_BYTES, _SOURCES = 64, 10
_OP_PARAMETERS = 16


class Tensor(ctypes.Structure):
    """A node of the graph or a weight; `ne` and `nb` are sizes and strides, innermost first."""


Tensor._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * _OP_PARAMETERS),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(Tensor) * _SOURCES),
    ("view_src", ctypes.POINTER(Tensor)),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * _NAME_BYTES),
]


def op_namer(lib_dir: Path) -> Callable[[int], str]:
    """ggml's word for an operation's number in the engine in `lib_dir`: `MUL_MAT` or `PLM`."""
    library = ctypes.CDLL(str(lib_dir / "libggml-base.so"))
    library.ggml_op_name.restype = ctypes.c_char_p

    def name(op: int) -> str:
        found: bytes = library.ggml_op_name(op)
        return found.decode()

    return name
