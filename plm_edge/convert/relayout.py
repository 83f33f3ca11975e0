"""What the edge layout does to a tensor, and back; on raw bits, so that nothing is rounded.

The layouts are drawn in `docs/convert.md`. Shapes are numpy's, rows first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

EDGE = "edge"

Array = npt.NDArray[Any]

_TILE = 128  # 2026-11, AMD EPYC: 0.6 ns a value, against 7 ns for a plain copy of the transpose


@dataclass(frozen=True)
class HeadSplit:
    """How the rows of kv_b are shared out: in every head key rows, then value rows."""

    heads: int
    key_rows: int
    value_rows: int

    def split(self, raw: Array) -> tuple[Array, Array]:
        """(heads·(key+value), rank) to k_b (heads, rank, key) and v_b (heads, value, rank)."""
        by_head = raw.reshape(self.heads, self.key_rows + self.value_rows, raw.shape[-1])
        key = by_head[:, : self.key_rows].transpose(0, 2, 1)
        return np.ascontiguousarray(key), np.ascontiguousarray(by_head[:, self.key_rows :])

    def join(self, key: Array, value: Array) -> Array:
        """The inverse of `split`."""
        by_head = np.concatenate([key.transpose(0, 2, 1), value], axis=1)
        return by_head.reshape(-1, value.shape[-1])


def transposed_strips(raw: Array, rows_at_once: int) -> Iterator[tuple[int, Array]]:
    """The transpose of `raw` in contiguous pieces of its rows: (first row, rows)."""
    for first in range(0, raw.shape[1], rows_at_once):
        count = min(rows_at_once, raw.shape[1] - first)
        strip = np.empty((count, raw.shape[0]), raw.dtype)
        for column in range(0, count, _TILE):
            _transpose_slab(
                raw[:, first + column : first + min(column + _TILE, count)],
                strip[column : column + _TILE],
            )
        yield first, strip


def _transpose_slab(slab: Array, out: Array) -> None:
    # Copied together first: rows a power of two apart would all want the same cache lines.
    slab = np.ascontiguousarray(slab)
    for row in range(0, slab.shape[0], _TILE):
        out[:, row : row + _TILE] = slab[row : row + _TILE].T
