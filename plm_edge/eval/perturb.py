"""A model whose matrices are replaced in memory, one by one, to see what each one is worth.

What a file with one tensor in another format would answer is measured without writing it: the
tensor's values are rounded as that format would round them, and put where the engine reads them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plm_edge.engine.tensor import Tensor
from plm_edge.errors import InputError
from plm_edge.eval.distribution import Softmax, pack, score
from plm_edge.eval.model import EvalModel, Options
from plm_edge.eval.text import Windows
from plm_edge.gguf_header import GgufHeader

# The first tokens of a window know too little of it to tell much.
_UNJUDGED = 16


class Addresses:
    """The hook that finds where the engine keeps its weights, while it is on."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self.is_on = True
        self.found: dict[str, set[int]] = {}

    def __call__(self, address: int, asks: bool, _data: object) -> bool:
        if self.is_on and asks:
            for source in Tensor.from_address(address).src:
                if source:
                    self._note(source.contents)
        return False

    def _note(self, source: Tensor) -> None:
        whole = source.view_src.contents if source.view_src else source
        name = bytes(whole.name).decode()
        if name in self._names and whole.data:
            self.found.setdefault(name, set()).add(int(whole.data))


class Perturbed:
    """A loaded model, its own distributions over a text, and how far changes move them.

    A change is a tensor replaced in memory, or another file of the same model.
    """

    def __init__(
        self, header: GgufHeader, lib_dir: Path, options: Options, windows: Windows, top: int
    ) -> None:
        self.header = header
        self._lib_dir = lib_dir
        self._options = options
        self._windows = windows
        self._addresses = Addresses(frozenset(tensor.name for tensor in header.tensors))
        unmapped = Options(options.context, options.threads, options.cache_type, is_mapped=False)
        self._model = EvalModel(header, lib_dir, unmapped, self._addresses)
        try:
            kept = min(top, self._model.vocabulary_size)
            self._base = [pack(softmax, came, kept) for softmax, came in self._run(self._model)]
        except BaseException:
            self.close()
            raise
        self._addresses.is_on = False

    def divergence(self) -> float:
        """How far the model now is from what it was when loaded: KL in nats a token."""
        return self._divergence(self._model)

    def divergence_of(self, header: GgufHeader) -> float:
        """How far another file is from the model as it was loaded."""
        with EvalModel(header, self._lib_dir, self._options) as other:
            return self._divergence(other)

    def _divergence(self, model: EvalModel) -> float:
        found = [
            score(softmax, came, rows).divergence
            for (softmax, came), rows in zip(self._run(model), self._base, strict=True)
        ]
        return float(np.concatenate(found).mean())

    @contextmanager
    def replaced(self, tensors: Mapping[str, NDArray[np.uint8]]) -> Iterator[None]:
        """For a while the engine reads these bytes, as the tensor's own type lays them out."""
        places = [(self._places(name, raw), raw) for name, raw in tensors.items()]
        kept = [(place, place.copy()) for found, _ in places for place in found]
        try:
            for found, raw in places:
                for place in found:
                    place[:] = raw
            yield
        finally:
            for place, old in kept:
                place[:] = old

    def _places(self, name: str, raw: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        size_bytes = self.header.tensor(name).size_bytes
        if raw.size != size_bytes:
            raise ValueError(f"{name}: {raw.size} bytes, expected {size_bytes}")
        if name not in self._addresses.found:
            raise InputError(f"{self.header.path}: the engine never reads {name}")
        kind = ctypes.c_uint8 * size_bytes
        return [
            np.ctypeslib.as_array(kind.from_address(address))
            for address in sorted(self._addresses.found[name])
        ]

    def _run(self, model: EvalModel) -> Iterator[tuple[Softmax, NDArray[Any]]]:
        first = min(_UNJUDGED, self._windows.first)
        for window in self._windows.tokens:
            for position, logits in model.logits(window, first):
                came = np.asarray(window[position + 1 : position + 1 + len(logits)], np.int64)
                yield Softmax(logits), came

    def close(self) -> None:
        """Free the model's memory."""
        self._model.close()

    def __enter__(self) -> Perturbed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
