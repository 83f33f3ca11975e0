"""What flows into every matrix of a model while it reads text: mean squares, per input column.

llama.cpp's own collector sees only ggml's plain matrix products; most of PLM runs in one operation
of our own (`ggml-plm.h`), so the graph's hook reads that operation's inputs here.

What a matrix is weighed by:
  attn_k_b      per head, the part of the query that it turns towards the latent
  attn_v_b      per head, the latent after that head's attention has mixed it
  attn_kv_b     (stock layout) the latent, the same for all heads
  ffn_down      (edge layout) one number per neuron, which is a row and no column: see `neurons`
  all others    their input, per column
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plm_edge.engine.tensor import Tensor, op_namer
from plm_edge.errors import InputError, PlmEdgeError
from plm_edge.gguf_header import GgufHeader

# enum ggml_plm_kind of ggml-plm.h
SPARSE_FFN, SPARSE_DOWN, LATENT_ATTENTION, HEAD_MATVEC, PRODUCT = range(5)

_NUMPY = {0: np.float32, 1: np.float16}
_BF16 = 30
# The types whose FFN runs unfused and so shows its activations.
PLAIN_TYPES = ("f32", "f16", "bf16")


@dataclass
class Sums:
    """Sums of squares, (matrices, columns), over `count` tokens."""

    values: NDArray[np.float64]
    count: int = 0


@dataclass
class Collector:
    """The hook: adds up what it sees under the names of the matrices.

    `neurons` holds, by the name of a neuron-major ffn_down, the squares of each neuron's output.
    """

    op_name: Callable[[int], str]
    names: frozenset[str]
    columns: dict[str, Sums] = field(default_factory=dict)
    neurons: dict[str, Sums] = field(default_factory=dict)
    failure: BaseException | None = None

    def __call__(self, address: int, asks: bool, _data: object) -> bool:
        # An exception cannot cross C: it is kept, and raised by `check`.
        try:
            node = Tensor.from_address(address)
            seer = self._seer(node)
            if seer is not None and not asks:
                seer(node)
        except BaseException as error:
            self.failure = self.failure or error
            return False
        return seer is not None

    def check(self) -> None:
        """Raise what went wrong inside the hook."""
        if self.failure is not None:
            raise self.failure

    def clear(self) -> None:
        """Forget what was seen."""
        self.columns, self.neurons = {}, {}

    def _seer(self, node: Tensor) -> Callable[[Tensor], None] | None:
        op = self.op_name(node.op)
        if op == "MUL_MAT":
            return self._see_product if _name(node.src[0]) in self.names else None
        if op != "PLM":
            return None
        kinds = {
            PRODUCT: self._see_product,
            SPARSE_DOWN: self._see_neurons,
            LATENT_ATTENTION: self._see_attention,
        }
        return kinds.get(node.op_params[0], self._refuse)

    def _see_product(self, node: Tensor) -> None:
        self._add(self.columns, _name(node.src[0]), _array(node.src[1])[None])

    def _see_neurons(self, node: Tensor) -> None:
        self._add(self.neurons, _name(node.src[0]), _array(node.src[1])[None])

    def _see_attention(self, node: Tensor) -> None:
        query, cache = _array(node.src[0]), _array(node.src[1])  # (tokens, heads, d), (cells, row)
        k_b, v_b = node.src[3].contents, node.src[4].contents
        rank, nope = v_b.ne[0], query.shape[-1] - (cache.shape[-1] - v_b.ne[0])
        tokens = len(query)
        mask = _array(node.src[2])[:tokens].astype(np.float32)
        if node.op_params[2]:  # the two halves of stock's attn_kv_b, both fed by the latent
            seen = cache[(mask == 0).any(axis=0)][-tokens:, :rank]
            self._add(self.columns, _whole_name(k_b), seen[None])
            return
        scale = ctypes.c_float.from_buffer_copy(ctypes.c_int32(node.op_params[1])).value
        keys = _array(node.src[3])  # (heads, rank, nope)
        mixed = [
            _mix(query[:, head], keys[head], cache, mask, (nope, scale))
            for head in range(query.shape[1])
        ]
        self._add(self.columns, _name(node.src[3]), query[..., :nope].swapaxes(0, 1))
        self._add(self.columns, _name(node.src[4]), np.stack(mixed))

    def _refuse(self, node: Tensor) -> None:
        raise PlmEdgeError("the engine runs an operation whose inputs are not known")

    def _add(self, to: dict[str, Sums], name: str, inputs: NDArray[Any]) -> None:
        """Add the squares of (matrices, tokens, columns)."""
        with np.errstate(invalid="ignore", over="ignore"):
            squares = np.einsum("mtc,mtc->mc", inputs, inputs, dtype=np.float64)
        if not np.isfinite(squares).all():
            raise InputError(f"what flows into {name} is not numbers; the file is damaged")
        sums = to.setdefault(name, Sums(np.zeros_like(squares)))
        sums.values += squares
        sums.count += inputs.shape[1]


def _mix(
    query: NDArray[Any],
    keys: NDArray[Any],
    cache: NDArray[Any],
    mask: NDArray[Any],
    numbers: tuple[int, float],
) -> NDArray[np.float32]:
    """The latent as one head's attention mixes it for each token, (tokens, rank)."""
    nope, scale = numbers
    rank = len(keys)
    scores = query[:, :nope] @ keys.T.astype(np.float32) @ cache[:, :rank].T
    scores += query[:, nope:] @ cache[:, rank:].T
    scores = scores * scale + mask
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    mixed: NDArray[np.float32] = weights @ cache[:, :rank]
    return mixed


def collector(header: GgufHeader, lib_dir: Path) -> Collector:
    """A hook for this file; `InputError` where its types hide what a neuron gives."""
    for tensor in header.tensors:
        if tensor.name.endswith("ffn_up.weight") and tensor.type not in PLAIN_TYPES:
            raise InputError(
                f"{header.path}: {tensor.name} is {tensor.type}, whose fused FFN shows no "
                "activations",
                hint="collect from the f16 or f32 file; the result fits all of them",
            )
    return Collector(op_namer(lib_dir), frozenset(tensor.name for tensor in header.tensors))


def _name(pointer: Any) -> str:
    return _whole_name(pointer.contents)


def _whole_name(tensor: Tensor) -> str:
    whole = tensor.view_src.contents if tensor.view_src else tensor
    name: bytes = whole.name
    return name.decode()


def _array(pointer: Any) -> NDArray[np.float32]:
    """A tensor's values in numpy's order without outer dimensions of 1, copied."""
    tensor = pointer.contents
    sizes, strides = list(tensor.ne)[::-1], list(tensor.nb)[::-1]
    while len(sizes) > 2 and sizes[0] == 1:
        sizes, strides = sizes[1:], strides[1:]
    kind = np.dtype(np.uint16 if tensor.type == _BF16 else _NUMPY[tensor.type])
    extent = sum((n - 1) * step for n, step in zip(sizes, strides, strict=True)) + kind.itemsize
    raw = (ctypes.c_uint8 * extent).from_address(tensor.data)
    values = np.ndarray(sizes, kind, raw, strides=strides)
    if tensor.type == _BF16:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return np.array(values, np.float32)
