"""Float formats in, GGUF formats out: bit-equal to upstream's `gguf.quants`, at memory speed.

Raw arrays hold the bits: uint16 for bf16 and f16, uint32 for f32. Work goes through blocks small
enough to stay in the second-level cache, which is what makes numpy fast here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, reduce
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

FloatType = Literal["f32", "f16", "bf16"]
OutputType = Literal["f32", "f16", "bf16", "q8_0"]
Raw: TypeAlias = "npt.NDArray[np.unsignedinteger[Any]]"
Bytes: TypeAlias = "npt.NDArray[np.uint8]"
Floats: TypeAlias = "npt.NDArray[np.float32]"

FLOAT_TYPES: tuple[FloatType, ...] = ("f32", "f16", "bf16")
OUTPUT_TYPES: tuple[OutputType, ...] = ("f32", "f16", "bf16", "q8_0")
RAW_DTYPES: dict[FloatType, np.dtype[Any]] = {
    "f32": np.dtype(np.uint32),
    "f16": np.dtype(np.uint16),
    "bf16": np.dtype(np.uint16),
}
# First bit pattern without sign that is no finite number.
_INFINITY: dict[FloatType, int] = {"f32": 0x7F800000, "f16": 0x7C00, "bf16": 0x7F80}

Q8_BLOCK = 32
Q8_BYTES = 34
# Copied whole a block at a time: an array of bytes would be copied byte by byte.
_Q8_DTYPE = np.dtype([("scale", "V2"), ("values", f"V{Q8_BLOCK}")])
_CHUNK = 1 << 17  # values: 256 to 512 KiB a temporary, a few of which fit into the caches

# bf16 below this has an exponent that f16 keeps only as a subnormal number (or as zero).
_BF16_F16_NORMAL = 0x3880
_BF16_F16_BIAS = 0x3800
# The largest float below a half: adding it and cutting rounds halves away from zero, exactly.
_ALMOST_HALF = np.nextafter(np.float32(0.5), np.float32(0)).view(np.uint32)
_SIGN = np.uint32(1 << 31)


def row_bytes(width: int, type_name: OutputType) -> int:
    """Bytes of a row of `width` values; a q8_0 row is whole blocks."""
    if type_name == "q8_0":
        return width // Q8_BLOCK * Q8_BYTES
    return width * (4 if type_name == "f32" else 2)


def is_finite(raw: Raw, source: FloatType) -> bool:
    """Whether no value is infinite or not a number; two integer maxima, no temporaries."""
    if not raw.size:
        return True
    infinity = _INFINITY[source]
    signed = np.dtype(f"i{raw.itemsize}")
    sign = 1 << (8 * raw.itemsize - 1)
    return int(raw.max()) < sign + infinity and int(raw.view(signed).max()) < infinity


def not_finite_count(raw: Raw, source: FloatType) -> tuple[int, int]:
    """How many values are NaN and how many infinite."""
    infinity = raw.dtype.type(_INFINITY[source])
    magnitude = raw & raw.dtype.type((1 << (8 * raw.itemsize - 1)) - 1)
    return int((magnitude > infinity).sum()), int((magnitude == infinity).sum())


def to_float32(raw: Raw, source: FloatType) -> Floats:
    """The values of a raw array."""
    if source == "f32":
        return raw.view(np.float32)
    if source == "f16":
        return raw.view(np.float16).astype(np.float32)
    return np.left_shift(raw, 16, dtype=np.uint32, casting="unsafe").view(np.float32)


def encode(raw: Raw, source: FloatType, target: OutputType) -> Bytes:
    """The bytes of `raw` (rows × width, contiguous) in the target format, row after row.

    A q8_0 width must be a multiple of 32. Finite values too large for f16 become infinite, as
    upstream writes them; ask `overflows`.
    """
    if source == target:
        return raw.reshape(-1).view(np.uint8)
    flat = raw.reshape(-1)
    out = np.empty(row_bytes(flat.size, target), np.uint8)
    for first in range(0, flat.size, _CHUNK):
        chunk = flat[first : first + _CHUNK]
        start = row_bytes(first, target)
        part = out[start : start + row_bytes(chunk.size, target)]
        _encode_chunk(chunk, source, target, part)
    return out


def _encode_chunk(chunk: Raw, source: FloatType, target: OutputType, out: Bytes) -> None:
    if target == "f16" and source == "bf16":
        _bf16_to_f16(chunk, out.view(np.uint16))
    elif target == "f16":
        with np.errstate(over="ignore"):
            out.view(np.float16)[:] = to_float32(chunk, source)
    elif target == "f32":
        out.view(np.float32)[:] = to_float32(chunk, source)
    elif target == "bf16":
        out.view(np.uint16)[:] = _round_to_bf16(to_float32(chunk, source))
    else:
        _quantize_q8(chunk, source, out)


def overflows(encoded: Bytes, target: OutputType) -> bool:
    """Whether encoding finite values made an infinity: f16 and q8_0's f16 scales are narrow."""
    if target == "q8_0":
        scales = encoded.reshape(-1, Q8_BYTES)[:, :2].copy().reshape(-1)
        return not is_finite(scales.view(np.uint16), "f16")
    return target == "f16" and not is_finite(encoded.view(np.uint16), "f16")


@cache
def _f16_of_bf16() -> npt.NDArray[np.uint16]:
    every = np.arange(1 << 16, dtype=np.uint32) << 16
    with np.errstate(over="ignore", invalid="ignore"):
        return every.view(np.float32).astype(np.float16).view(np.uint16)


def _bf16_to_f16(chunk: Raw, out: Raw) -> None:
    """Where f16 is normal it only needs another exponent bias; the few others are looked up."""
    magnitude = chunk & 0x7FFF
    np.subtract(magnitude, _BF16_F16_BIAS, out=out)
    np.left_shift(out, 3, out=out)
    np.bitwise_or(out, chunk & 0x8000, out=out)
    # Unsigned wrap-around makes one comparison of "too small or too large".
    magnitude -= np.uint16(_BF16_F16_NORMAL)
    rare = np.flatnonzero(magnitude >= 30 << 7)
    if rare.size:
        out[rare] = _f16_of_bf16()[chunk[rare]]


def _round_to_bf16(values: Floats) -> Raw:
    bits = values.view(np.uint32)
    bits = bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
    rounded: Raw = bits >> np.uint32(16)
    return rounded


def _quantize_q8(chunk: Raw, source: FloatType, out: Bytes) -> None:
    """Blocks of 32: a half-precision scale, then the values over it as signed bytes."""
    scale = to_float32(_largest(chunk), source) / np.float32(127)
    # A scale of zero, too small to divide by, or too large for f16: the last is `overflows`.
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.where(scale == 0, np.float32(0), np.float32(1) / scale)
        stored = scale.astype(np.float16)
    values = to_float32(chunk, source).reshape(-1, Q8_BLOCK) * inverse[:, None]
    # copysign with integers: numpy has no vector code for its own
    signed_half = values.view(np.uint32) & _SIGN
    signed_half |= _ALMOST_HALF
    values += signed_half.view(np.float32)
    blocks = out.view(_Q8_DTYPE).reshape(-1)
    blocks["scale"] = stored.view("V2")
    blocks["values"] = values.astype(np.int8).view(f"V{Q8_BLOCK}").reshape(-1)


def _largest(chunk: Raw) -> Raw:
    """The largest magnitude of each block, as bits without sign: they order as the values do.

    Turned in words of eight bytes, so that numpy's loops run over blocks and not over 32 values.
    """
    magnitude = chunk & chunk.dtype.type((1 << (8 * chunk.itemsize - 1)) - 1)
    words = np.ascontiguousarray(magnitude.reshape(-1, Q8_BLOCK).view(np.uint64).T)
    of_lane = words.view(chunk.dtype).max(axis=0)
    lanes = [of_lane[lane :: 8 // chunk.itemsize] for lane in range(8 // chunk.itemsize)]
    largest: Raw = reduce(np.maximum, lanes)
    return largest


def row_blocks(rows: int, row_size_bytes: int, limit_bytes: int) -> Iterator[tuple[int, int]]:
    """(first row, row count) slices of at most `limit_bytes`, never less than a row."""
    step = max(1, limit_bytes // max(1, row_size_bytes))
    for first in range(0, rows, step):
        yield first, min(step, rows - first)
