"""Turns the moves of a plan into pieces of work: read, check, relayout, encode."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from plm_edge.convert.checkpoint import Tensor
from plm_edge.convert.encode import (
    Bytes,
    OutputType,
    Raw,
    encode,
    is_finite,
    not_finite_count,
    overflows,
    row_blocks,
)
from plm_edge.convert.gguf_output import FileLayout, Output
from plm_edge.convert.plan import Move, Plan, Twin
from plm_edge.convert.relayout import HeadSplit, transposed_strips
from plm_edge.convert.stream import Chunk, Piece
from plm_edge.errors import InputError

_PIECE_VALUES = 1 << 20
_STRIP_ROWS = 512


def make_pieces(plan: Plan, layout: FileLayout, source: str) -> list[Piece]:
    """The work of a plan, in file order."""
    pieces: list[Piece] = []
    for move in plan.moves:
        pieces += _pieces(move, plan.split, layout, source)
    return pieces


def check_twins(plan: Plan, source: str) -> None:
    """Compare tensors that are said to be copies; `InputError` when one is not."""
    for twin in plan.twins:
        if not _is_copy(twin):
            raise InputError(
                f"{source}: tensor {twin.tensor.name!r} differs from "
                f"{twin.original.name!r}: {twin.reason}"
            )


def _is_copy(twin: Twin) -> bool:
    ours, theirs = twin.tensor, twin.original
    if (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
        return False
    return all(
        np.array_equal(ours.read(first, count), theirs.read(first, count))
        for first, count in row_blocks(prod(ours.shape), 1, _PIECE_VALUES)
    )


def _pieces(move: Move, split: HeadSplit, layout: FileLayout, source: str) -> Iterator[Piece]:
    offsets = [layout.offsets[output.name] for output in move.outputs]
    if move.step == "keep":
        yield from _row_pieces(move.tensor, move.outputs[0], offsets[0], source)
        return
    size_bytes = sum(output.size_bytes for output in move.outputs)
    if move.step == "transpose":
        yield Piece(size_bytes, lambda: _transposed(move, offsets[0], source))
    else:
        yield Piece(size_bytes, lambda: _split(move, split, offsets, source))


def _row_pieces(tensor: Tensor, output: Output, offset: int, source: str) -> Iterator[Piece]:
    width = output.shape[-1]
    for first, rows in row_blocks(prod(output.shape) // width, width, _PIECE_VALUES):
        start = offset + first * output.row_bytes

        def make(first: int = first, rows: int = rows, start: int = start) -> list[Chunk]:
            raw = _read(tensor, first * width, rows * width, source)
            return [(start, _encoded(raw, tensor, output, source))]

        yield Piece(rows * output.row_bytes, make)


def _transposed(move: Move, offset: int, source: str) -> Iterator[Chunk]:
    tensor, output = move.tensor, move.outputs[0]
    raw = _read(tensor, 0, prod(tensor.shape), source).reshape(tensor.shape)
    for first, strip in transposed_strips(raw, _STRIP_ROWS):
        yield offset + first * output.row_bytes, _encoded(strip, tensor, output, source)


def _split(move: Move, split: HeadSplit, offsets: list[int], source: str) -> Iterator[Chunk]:
    tensor = move.tensor
    raw = _read(tensor, 0, prod(tensor.shape), source).reshape(tensor.shape)
    for part, output, offset in zip(split.split(raw), move.outputs, offsets, strict=True):
        yield offset, _encoded(part, tensor, output, source)


def _read(tensor: Tensor, first: int, count: int, source: str) -> Raw:
    raw = tensor.read(first, count)
    if not is_finite(raw, tensor.dtype):
        nans, infinities = not_finite_count(raw, tensor.dtype)
        raise InputError(
            f"{source}: tensor {tensor.name!r} holds values that are no numbers "
            f"({nans} NaN, {infinities} infinite in {count} values from {first})"
        )
    return raw


def _encoded(raw: Raw, tensor: Tensor, output: Output, source: str) -> Bytes:
    target: OutputType = output.type  # type: ignore[assignment]
    content = encode(raw, tensor.dtype, target)
    if tensor.dtype != "f16" and overflows(content, target):
        raise InputError(
            f"{source}: tensor {tensor.name!r} holds values too large for {target}",
            hint="convert with --type bf16",
        )
    return content
