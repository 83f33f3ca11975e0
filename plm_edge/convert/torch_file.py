"""Reads `pytorch_model*.bin` with torch (an extra): weights only, so that no code in it runs."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plm_edge.convert.encode import RAW_DTYPES, FloatType, Raw
from plm_edge.errors import InputError, MissingToolError

_MADV_DONTNEED = 4


@dataclass(frozen=True)
class TorchTensor:
    """A tensor of a mapped torch file; contiguous, so that its pages are the file's own."""

    name: str
    dtype: FloatType
    shape: tuple[int, ...]
    values: Any

    def read(self, first: int, count: int) -> Raw:
        """Copies the values out, then hands the mapped pages back: they count as our memory."""
        part = self.values.view(-1)[first : first + count]
        raw: Raw = part.view(_integers(part)).numpy().view(RAW_DTYPES[self.dtype]).copy()
        _forget_pages(part.data_ptr(), count * raw.itemsize)
        return raw


def open_file(path: Path) -> Iterator[TorchTensor]:
    """Every tensor of a torch file in its order."""
    torch = _torch()
    names = {torch.bfloat16: "bf16", torch.float16: "f16", torch.float32: "f32"}
    for name, values in _load(torch, path).items():
        if not isinstance(name, str) or not isinstance(values, torch.Tensor):
            raise InputError(f"{path}: {str(name)[:80]!r} is no tensor")
        if values.dtype not in names:
            raise InputError(
                f"{path}: tensor {name!r} is {values.dtype}, expected bfloat16, float16 or float32"
            )
        if not values.is_contiguous():
            raise InputError(
                f"{path}: tensor {name!r} is a view with strides; save the model again"
            )
        dtype: FloatType = names[values.dtype]  # type: ignore[assignment]
        yield TorchTensor(name, dtype, tuple(values.shape), values.detach())


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingToolError(
            "pytorch_model.bin needs torch, which is not installed",
            hint="pip install 'plm-edge[torch]'",
        ) from error
    return torch


def _load(torch: Any, path: Path) -> dict[Any, Any]:
    try:
        loaded = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # torch documents no set of exceptions for a broken file
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{path}: torch cannot read it as weights: {reason}") from error
    if not isinstance(loaded, dict):
        raise InputError(f"{path}: holds a {type(loaded).__name__}, expected a table of tensors")
    return loaded


def _integers(values: Any) -> Any:
    torch = _torch()
    return torch.int32 if values.element_size() == 4 else torch.int16


def _forget_pages(address: int, size_bytes: int) -> None:
    """Drop the whole pages of a range from memory; they are read again when needed."""
    first = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (address + size_bytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if last > first:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _MADV_DONTNEED)
