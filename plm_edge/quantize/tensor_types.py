"""The tensor types a recipe may name, and what stands in where a row is not whole blocks."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from plm_edge.gguf_header import TENSOR_TYPE_IDS, TENSOR_TYPES


@dataclass(frozen=True)
class TensorType:
    """A ggml type: a row is whole blocks of `block_values` values in `block_bytes` bytes."""

    name: str
    block_values: int
    block_bytes: int

    @property
    def is_quantized(self) -> bool:
        """Whether values share a scale; to quantize such a tensor again loses twice."""
        return self.block_values > 1

    @property
    def bits_per_value(self) -> float:
        """Bits a value takes, its share of the block's scales included."""
        return 8 * self.block_bytes / self.block_values

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether rows of a tensor of this shape (row length last) are whole blocks."""
        return shape[-1] % self.block_values == 0

    def size_bytes(self, shape: tuple[int, ...]) -> int:
        """Bytes of a tensor of this shape."""
        return prod(shape) // self.block_values * self.block_bytes


# What the engine's quantizer makes without an importance matrix, and a CPU runs well.
_NAMES = (
    *("f32", "f16", "bf16", "q8_0", "q6_K", "q5_K", "q4_K", "q3_K", "q2_K"),
    *("q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl", "iq4_xs"),
)
TYPES = {name: TensorType(*TENSOR_TYPES[TENSOR_TYPE_IDS[name]]) for name in _NAMES}

# The quantizer's own answer to a row too narrow for Q4_K is Q5_0, for which the engine has no
# sparse and no per-head kernel. Q8_0 has both and loses nothing next to any 256-value type.
_NARROW_FALLBACK = TYPES["q8_0"]
_ANY_FALLBACK = TYPES["f16"]


def fitting(wanted: TensorType, shape: tuple[int, ...]) -> TensorType:
    """`wanted`, or the type that stands in for it where rows are not whole blocks of it."""
    for candidate in (wanted, _NARROW_FALLBACK):
        if candidate.fits(shape):
            return candidate
    return _ANY_FALLBACK
