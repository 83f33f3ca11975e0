"""From what the user asked to the sides that run: files checked, threads chosen."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from plm_edge.bench.plan import Flash, Job, Side, Test
from plm_edge.errors import InputError, UsageError
from plm_edge.gguf_header import GgufHeader, read_header
from plm_edge.shape import PlmShape
from plm_edge.shell import quote

SWEEP_TEST = Test("generation", 16, 0)
_SWEEP_ROUNDS = 2


def check_file(path: Path, engine: Literal["edge", "stock"]) -> GgufHeader:
    """The header of a file this engine can run; `InputError` if it cannot."""
    header = read_header(path)
    header.require_architecture()
    PlmShape.from_metadata(header.metadata, str(path))
    if engine == "stock" and header.layout != "stock":
        raise InputError(f"{path}: has the {header.layout} layout, which the stock engine refuses")
    return header


def stock_sibling(header: GgufHeader, given: Path | None) -> Path:
    """The file stock runs: the one given, the same one, or `NAME.stock.gguf` beside it."""
    if given is not None:
        _check_same_shape(header, check_file(given, "stock"))
        return given
    if header.layout == "stock":
        return header.path
    sibling = header.path.with_name(f"{header.path.stem}.stock.gguf")
    if not sibling.is_file():
        raise InputError(
            f"{header.path}: has the {header.layout} layout, which the stock engine refuses, "
            f"and there is no {sibling.name} beside it",
            hint=f"plm-edge convert CHECKPOINT --layout stock -o f16.gguf && "
            f"plm-edge quantize f16.gguf --recipe q4 -o {quote([sibling])}",
        )
    _check_same_shape(header, check_file(sibling, "stock"))
    return sibling


def _check_same_shape(ours: GgufHeader, theirs: GgufHeader) -> None:
    shapes = [PlmShape.from_metadata(h.metadata, str(h.path)) for h in (ours, theirs)]
    if shapes[0] != shapes[1]:
        raise InputError(f"{theirs.path}: is a model of another shape than {ours.path}")


def check_threads(threads: Sequence[int], cores: int) -> None:
    """Raise `UsageError` for more threads than cores: decoding collapses, and that is no result."""
    too_many = [count for count in threads if not 1 <= count <= cores]
    if too_many:
        raise UsageError(f"--threads {too_many[0]}: expected 1 to {cores}, this machine's cores")


def sweep(
    sides: Sequence[Side], cores: int, measure: Callable[[Job], float]
) -> dict[Literal["edge", "stock"], int]:
    """The best thread count of each engine, by a short generation at every count that is sane."""
    best: dict[Literal["edge", "stock"], int] = {}
    for side in sides:
        speeds = {
            threads: statistics.median(
                measure(Job(with_threads(side, threads), (SWEEP_TEST,), number))
                for number in range(_SWEEP_ROUNDS)
            )
            for threads in thread_counts(cores)
        }
        best[side.variant] = max(speeds, key=lambda threads: speeds[threads])
    return best


def thread_counts(cores: int) -> list[int]:
    """1, 2, 4, ... and all cores."""
    powers = {1 << bit for bit in range(cores.bit_length())}
    return sorted(count for count in powers | {cores} if count <= cores)


def with_threads(side: Side, threads: int) -> Side:
    """The same side on so many threads."""
    return replace(side, threads=threads)


def edge_sides(
    file: Path, threads: Sequence[int], cache_types: Sequence[str], flash: Flash
) -> list[Side]:
    """One side for each cache type and thread count."""
    return [
        Side("edge", file, count, cache_type, flash)
        for cache_type in cache_types
        for count in threads
    ]


def stock_sides(file: Path, threads: Sequence[int]) -> list[Side]:
    """Stock's best settings that run: with flash attention on or auto it aborts on PLM."""
    return [Side("stock", file, count, "f16", "off") for count in threads]
