"""What rounding a matrix to a format does to what it puts out, from a sample of its rows.

The error of a row counts with what flows into it: squares of the input column by column for most
matrices, the neuron's own output for a neuron-major ffn_down, whose rows are neurons.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plm_edge.errors import InputError
from plm_edge.gguf_header import GgufHeader, GgufTensor
from plm_edge.quantize.ggml import Ggml
from plm_edge.quantize.imatrix import Imatrix

Values = NDArray[np.float32]

_PLAIN: dict[str, Any] = {"f32": np.float32, "f16": np.float16}
_SLAB_VALUES = 1 << 24
SAMPLED_ROWS = 96


@dataclass(frozen=True)
class Loss:
    """Squares put out by the rounding error, and by the matrix itself, per token."""

    error: float
    signal: float

    @property
    def share(self) -> float:
        """The error as a share of the output."""
        return self.error / self.signal if self.signal else 0.0


class Weights:
    """The matrices of a file as float values, with their importance."""

    def __init__(self, header: GgufHeader, ggml: Ggml, imatrix: Imatrix | None) -> None:
        self.header = header
        self.ggml = ggml
        self.imatrix = imatrix

    def importance(self, name: str, matrix: int) -> Values | None:
        """One weight per column of one matrix of a stack, or None where there are none."""
        entry = None if self.imatrix is None else self.imatrix.columns.get(name)
        return None if entry is None else np.asarray(entry.mean[matrix], np.float32)

    def loss(self, tensor: GgufTensor, type_name: str, rows: int = SAMPLED_ROWS) -> Loss:
        """What rounding to `type_name` costs, from about `rows` rows of each matrix."""
        error = signal = 0.0
        for matrix, values in enumerate(self._matrices(tensor)):
            places = np.unique(np.linspace(0, len(values) - 1, rows).astype(np.int64))
            sample = np.asarray(values[places], np.float32)
            columns = self.importance(tensor.name, matrix)
            weight = self._weight(tensor, columns, places)
            moved = self.ggml.rounded(sample, type_name, columns) - sample
            scale = len(values) / len(places)
            error += scale * float((weight * moved**2).sum(dtype=np.float64))
            signal += scale * float((weight * sample**2).sum(dtype=np.float64))
        return Loss(error, signal)

    def _weight(
        self, tensor: GgufTensor, columns: Values | None, places: NDArray[np.int64]
    ) -> Values:
        neurons = None if self.imatrix is None else self.imatrix.neurons.get(tensor.name)
        if neurons is not None:
            return np.asarray(neurons.mean[0][places][:, None], np.float32)
        return np.ones(1, np.float32) if columns is None else columns

    def rounded(self, tensor: GgufTensor, type_name: str, stored_as: str) -> NDArray[np.uint8]:
        """The whole tensor rounded to `type_name`, then written as `stored_as`."""
        pieces = [
            self.ggml.packed(
                self.ggml.rounded(slab, type_name, self.importance(tensor.name, matrix)), stored_as
            )
            for matrix, values in enumerate(self._matrices(tensor))
            for slab in _slabs(values)
        ]
        return np.concatenate(pieces)

    def _matrices(self, tensor: GgufTensor) -> NDArray[np.floating[Any]]:
        """(matrices, rows, columns), mapped from the file."""
        if tensor.type not in _PLAIN:
            raise InputError(
                f"{self.header.path}: {tensor.name} is {tensor.type}, expected f16 or f32",
                hint="plm-edge convert CHECKPOINT -o model.f16.gguf --type f16",
            )
        kind, path = _PLAIN[tensor.type], self.header.path
        mapped = np.memmap(path, kind, "r", tensor.offset, (tensor.values,))
        stacked: NDArray[np.floating[Any]] = mapped.reshape(-1, *tensor.shape[-2:])
        return stacked


def _slabs(values: NDArray[np.floating[Any]]) -> Iterator[Values]:
    rows = max(1, _SLAB_VALUES // values.shape[1])
    for start in range(0, len(values), rows):
        yield np.asarray(values[start : start + rows], np.float32)
