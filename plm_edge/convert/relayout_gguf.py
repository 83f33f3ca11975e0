"""GGUF to GGUF of the other layout: what need not change is copied, what turns is encoded again.

A transposed matrix has its quantization blocks along the other axis, so it is dequantized and
encoded anew, as q8_0 unless told otherwise: eight bits on top of four lose next to nothing, while
four bits on top of four would nearly double the error. What was lost is measured and told.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.constants import GGMLQuantizationType

from plm_edge.convert import converter as converters
from plm_edge.convert.converter import TensorRule
from plm_edge.convert.encode import (
    FLOAT_TYPES,
    RAW_DTYPES,
    Bytes,
    Floats,
    OutputType,
    encode,
    overflows,
    row_blocks,
)
from plm_edge.convert.gguf_output import FileLayout, Output, string
from plm_edge.convert.plan import Layout
from plm_edge.convert.relayout import EDGE, HeadSplit
from plm_edge.convert.stream import Chunk, Piece
from plm_edge.errors import InputError
from plm_edge.gguf_header import (
    LAYOUT_KEY,
    TENSOR_TYPE_IDS,
    GgufHeader,
    GgufTensor,
    GgufValue,
)
from plm_edge.paths import read_error
from plm_edge.shape import PlmShape

_COPY_BYTES = 16 << 20
_Q8_BLOCK = 32


@dataclass(frozen=True)
class Loss:
    """How far a tensor is from what it was: root mean square error over root mean square."""

    tensor: str
    was: str
    now: str
    relative_error: float


@dataclass(frozen=True)
class Change:
    """A tensor of the new file; `compute` makes its values, `None` means copied bytes."""

    output: Output
    sources: tuple[GgufTensor, ...]
    compute: Callable[[], Any] | None = None
    first_byte: int = 0


@dataclass
class Relayout:
    """The plan for a file, and the losses once its pieces have run."""

    header: GgufHeader
    changes: tuple[Change, ...]
    losses: list[Loss] = field(default_factory=list)

    @property
    def outputs(self) -> list[Output]:
        """The tensors of the new file in order."""
        return [change.output for change in self.changes]

    def pieces(self, layout: FileLayout) -> list[Piece]:
        """The work, in file order."""
        found: list[Piece] = []
        for change in self.changes:
            offset = layout.offsets[change.output.name]
            if change.compute is None:
                found += _copies(change, self.header.path, offset)
            else:
                make = partial(_computed, change, self, offset)
                found.append(Piece(change.output.size_bytes, make))
        return found


def layout_of(header: GgufHeader) -> Layout:
    """The layout a PLM file says it has; `InputError` for one nobody knows."""
    name = header.metadata.get(LAYOUT_KEY)
    if name is None:
        return "stock"
    if name != EDGE:
        raise InputError(f"{header.path}: {LAYOUT_KEY} = {str(name)[:40]!r}, expected {EDGE!r}")
    return "edge"


def new_values(header: GgufHeader, layout: Layout) -> dict[str, GgufValue]:
    """The metadata of the new file: the old one, but for the layout's name."""
    values = [(key, value) for key, value in header.values.items() if key != LAYOUT_KEY]
    if layout == "edge":
        # Behind the last of the architecture's keys, where converting the checkpoint puts it.
        prefix = header.architecture + "."
        last = max(i for i, (key, _) in enumerate(values) if key.startswith(prefix))
        values.insert(last + 1, (LAYOUT_KEY, string(EDGE)))
    return dict(values)


def plan_relayout(header: GgufHeader, layout: Layout, type_name: OutputType | None) -> Relayout:
    """Decide what becomes of every tensor; `type_name` is for those that are encoded anew."""
    if header.metadata.get("split.count", 1) != 1:
        raise InputError(
            f"{header.path}: one part of {header.metadata['split.count']}, expected a whole file",
            hint="llama-gguf-split --merge FIRST-PART WHOLE",
        )
    if layout_of(header) == layout:
        raise InputError(f"{header.path}: is in {layout} layout already")
    shape = PlmShape.from_metadata(header.metadata, str(header.path))
    maker = _Maker(header, layout, type_name, shape)
    changes = [change for tensor in header.tensors for change in maker.changes(tensor)]
    return Relayout(header, tuple(changes))


class _Maker:
    """Makes the changes of each tensor in turn."""

    def __init__(
        self, header: GgufHeader, layout: Layout, type_name: OutputType | None, shape: PlmShape
    ) -> None:
        self.header, self.layout, self.type_name = header, layout, type_name
        heads = shape.num_attention_heads
        self.split = HeadSplit(heads, shape.qk_nope_head_dim, shape.v_head_dim)
        self.shapes = {
            "transpose": (shape.hidden_size, shape.intermediate_size),
            "split-heads": (
                heads * (shape.qk_nope_head_dim + shape.v_head_dim),
                shape.kv_lora_rank,
            ),
        }
        converter = converters.for_architecture(header.architecture, header.path)
        self.rules: dict[str, tuple[TensorRule, int]] = {}
        for rule in converter.tensors:
            for layer in range(shape.num_hidden_layers if rule.edge != "keep" else 0):
                for name in (rule.gguf, *rule.edge_names):
                    self.rules[name.replace("{layer}", str(layer))] = (rule, layer)

    def changes(self, tensor: GgufTensor) -> Iterator[Change]:
        rule, layer = self.rules.get(tensor.name, (None, 0))
        if rule is None:
            yield Change(Output(tensor.name, tensor.shape, tensor.type), (tensor,))
        elif rule.edge == "transpose":
            yield self.turned(tensor)
        elif self.layout == "edge":
            yield from self.split_up(tensor, rule, layer)
        elif tensor.name == rule.edge_names[0].replace("{layer}", str(layer)):
            yield self.joined(tensor, rule, layer)

    def turned(self, tensor: GgufTensor) -> Change:
        stock = self.shapes["transpose"]
        self.expect(tensor, stock if self.layout == "edge" else stock[::-1])
        output = self.encoded(tensor.name, tensor.shape[::-1], tensor.type)
        path = self.header.path
        return Change(output, (tensor,), lambda: _values(tensor, path, output).T)

    def split_up(self, tensor: GgufTensor, rule: TensorRule, layer: int) -> Iterator[Change]:
        self.expect(tensor, self.shapes["split-heads"])
        key, value = (name.replace("{layer}", str(layer)) for name in rule.edge_names)
        split, path, rank = self.split, self.header.path, tensor.shape[1]
        output = self.encoded(key, (split.heads, rank, split.key_rows), tensor.type)
        yield Change(output, (tensor,), lambda: split.split(_values(tensor, path, output))[0])
        kept = self.type_name or tensor.type
        rows = Output(value, (split.heads, split.value_rows, rank), kept)
        yield Change(rows, (tensor,), lambda: _rows(tensor, path, rows, split))

    def joined(self, key: GgufTensor, rule: TensorRule, layer: int) -> Change:
        value = self.header.by_name.get(rule.edge_names[1].replace("{layer}", str(layer)))
        split, path = self.split, self.header.path
        if value is None:
            raise InputError(f"{path}: tensor {key.name!r} without its {rule.edge_names[1]!r}")
        rows, rank = self.shapes["split-heads"]
        self.expect(key, (split.heads, rank, split.key_rows))
        self.expect(value, (split.heads, split.value_rows, rank))
        same = key.type if key.type == value.type else "f32"
        both_float = key.type in FLOAT_TYPES and value.type in FLOAT_TYPES
        name = rule.gguf.replace("{layer}", str(layer))
        output = self.encoded(name, (rows, rank), same if both_float else "quantized")

        def compute() -> Any:
            return split.join(_values(key, path, output), _values(value, path, output))

        return Change(output, (key, value), compute)

    def expect(self, tensor: GgufTensor, shape: tuple[int, ...]) -> None:
        if tensor.shape != shape:
            raise InputError(
                f"{self.header.path}: tensor {tensor.name!r} has the shape {list(tensor.shape)}, "
                f"expected {list(shape)} in {layout_of(self.header)} layout"
            )

    def encoded(self, name: str, shape: tuple[int, ...], was: str) -> Output:
        """The output of a tensor whose blocks cannot stay: floats keep their type."""
        kind = self.type_name or (was if was in FLOAT_TYPES else "q8_0")
        if kind == "q8_0" and shape[-1] % _Q8_BLOCK:
            kind = "f16"
        return Output(name, shape, kind)


def _read(path: Path, offset: int, size_bytes: int) -> Bytes:
    data = np.empty(size_bytes, np.uint8)
    try:
        with path.open("rb", buffering=0) as file:
            got = os.preadv(file.fileno(), [data.data], offset)
    except OSError as error:
        raise read_error(path, error) from error
    if got != size_bytes:
        raise InputError(f"{path}: ends at {offset + got}, while it was read")
    return data


def _values(tensor: GgufTensor, path: Path, output: Output) -> Any:
    """The tensor as raw bits where the output keeps its float type, else as float32."""
    data = _read(path, tensor.offset, tensor.size_bytes)
    if tensor.type == output.type and tensor.type in FLOAT_TYPES:
        return data.view(RAW_DTYPES[tensor.type]).reshape(tensor.shape)
    values = _dequantized(data, tensor.type, tensor.shape)
    if not np.isfinite(values).all():
        raise InputError(f"{path}: tensor {tensor.name!r} holds values that are no numbers")
    return values


def _rows(tensor: GgufTensor, path: Path, output: Output, split: HeadSplit) -> Any:
    """Value rows are whole rows of kv_b: in its own type they are copied, blocks and all."""
    if tensor.type != output.type:
        return split.split(_values(tensor, path, output))[1]
    data = _read(path, tensor.offset, tensor.size_bytes)
    by_head = data.reshape(split.heads, split.key_rows + split.value_rows, output.row_bytes)
    return np.ascontiguousarray(by_head[:, split.key_rows :])


def _dequantized(data: Bytes, type_name: str, shape: Sequence[int]) -> Floats:
    kind = GGMLQuantizationType(TENSOR_TYPE_IDS[type_name])
    try:
        values = gguf.quants.dequantize(data.reshape(*shape[:-1], -1), kind)
    except RuntimeError as error:  # what gguf says of a type it has no code for
        raise InputError(
            f"tensors of type {type_name} cannot be turned",
            hint="the engine runs stock layout too: use the file as it is",
        ) from error
    floats: Floats = np.asarray(values, np.float32).reshape(shape)
    return floats


def _copies(change: Change, path: Path, offset: int) -> Iterator[Piece]:
    tensor = change.sources[0]
    for first, count in row_blocks(tensor.size_bytes, 1, _COPY_BYTES):

        def make(first: int = first, count: int = count) -> list[Chunk]:
            return [(offset + first, _read(path, tensor.offset + first, count))]

        yield Piece(count, make)


def _computed(change: Change, relayout: Relayout, offset: int) -> list[Chunk]:
    compute = change.compute
    values = np.ascontiguousarray(compute() if compute else None)
    content, error = _encoded(values, change, relayout.header.path)
    if error:  # zero: the new type holds every value exactly
        was = "+".join(dict.fromkeys(source.type for source in change.sources))
        loss = Loss(change.output.name, was, change.output.type, error)
        relayout.losses.append(loss)
    return [(offset, content)]


def _encoded(values: Any, change: Change, path: Path) -> tuple[Bytes, float | None]:
    """The bytes, and the relative error unless they are the very bits of the source."""
    output = change.output
    if values.dtype != np.float32:
        return values.reshape(-1).view(np.uint8), None
    target: OutputType = output.type  # type: ignore[assignment]
    content = encode(values.view(np.uint32), "f32", target)
    if overflows(content, target):
        raise InputError(
            f"{path}: tensor {output.name!r} holds values too large for {target}",
            hint="convert with --type bf16",
        )
    again = _dequantized(content, output.type, output.shape)
    size = float(np.linalg.norm(values))
    return content, float(np.linalg.norm(again - values)) / size if size else 0.0
