"""Runs the pieces of a conversion over all cores and puts each where it belongs in the file.

A piece reads, computes and writes on its own (numpy and the kernel both let go of Python's lock),
so memory is bounded by the number of workers and the result does not depend on their order.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from plm_edge.console import Progress
from plm_edge.convert.encode import Bytes
from plm_edge.convert.gguf_output import FileLayout
from plm_edge.convert.output_file import OutputFile
from plm_edge.errors import InputError

# At the true shape a worker holds about 100 MB (one transposed FFN matrix and its pieces).
_WORKERS_LIMIT = 4
_READ_BYTES = 16 << 20
# The disk gets to work while the cores still do, not only when the file is synced at its end.
_FLUSH_BYTES = 256 << 20

Chunk = tuple[int, Bytes]
"""(offset in the file, content)"""
Checksum = tuple[int, int, int]
"""(offset in the file, bytes, CRC-32)"""


@dataclass(frozen=True)
class Piece:
    """A part of the work: makes chunks of the file, `size_bytes` in all."""

    size_bytes: int
    make: Callable[[], Iterable[Chunk]]


def write_file(
    path: Path,
    layout: FileLayout,
    pieces: Sequence[Piece],
    progress: Progress,
    *,
    verify: bool = False,
) -> None:
    """Write header and pieces to `path`; with `verify` read everything back and compare.

    Raises what a piece raises, after the running ones have ended.
    """
    with OutputFile(path, layout.size_bytes) as file:
        file.write(memoryview(layout.header), 0)
        checksums = _run(file, pieces, progress, verify)
        if verify:
            _read_back(file, checksums)


def _run(
    file: OutputFile, pieces: Sequence[Piece], progress: Progress, verify: bool
) -> list[Checksum]:
    total, done = sum(piece.size_bytes for piece in pieces), 0
    checksums: list[Checksum] = []
    progress(0, total)
    with ThreadPoolExecutor(workers()) as pool, _Flusher(file) as flusher:
        try:
            futures = {pool.submit(_run_piece, file, verify, piece): piece for piece in pieces}
            for future in as_completed(futures):
                checksums += future.result()
                done += futures[future].size_bytes
                flusher.written(futures[future].size_bytes)
                progress(done, total)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return checksums


class _Flusher:
    """Starts writing what the page cache holds every few hundred megabytes, in the background."""

    def __init__(self, file: OutputFile) -> None:
        self.file = file
        self.unwritten = 0
        self.pool = ThreadPoolExecutor(1)
        self.running: Future[None] | None = None

    def __enter__(self) -> _Flusher:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.pool.shutdown(wait=True)
        if kind is None and self.running:
            self.running.result()

    def written(self, size_bytes: int) -> None:
        if self.file.is_direct:
            return
        self.unwritten += size_bytes
        if self.unwritten < _FLUSH_BYTES or (self.running and not self.running.done()):
            return
        if self.running:
            self.running.result()  # a full disk may show only here
        self.unwritten = 0
        self.running = self.pool.submit(os.fdatasync, self.file.handle)


def workers() -> int:
    """Threads to use: the cores this process may run on, within reason."""
    return max(1, min(_WORKERS_LIMIT, len(os.sched_getaffinity(0))))


def _run_piece(file: OutputFile, verify: bool, piece: Piece) -> list[Checksum]:
    checksums = []
    for offset, content in piece.make():
        view = memoryview(content.data)
        file.write(view, offset)
        if verify:
            checksums.append((offset, len(view), zlib.crc32(view)))
    return checksums


def _read_back(file: OutputFile, checksums: list[Checksum]) -> None:
    for offset, size_bytes, expected in sorted(checksums):
        found = 0
        for part in _parts(file.handle, offset, size_bytes):
            found = zlib.crc32(part, found)
        if found != expected:
            raise InputError(
                f"{file.path}: reading back {size_bytes} bytes at {offset} gave other bytes than "
                "were written; the disk or its memory is at fault"
            )


def _parts(handle: int, offset: int, size_bytes: int) -> Iterator[bytes]:
    for start in range(0, size_bytes, _READ_BYTES):
        yield os.pread(handle, min(_READ_BYTES, size_bytes - start), offset + start)
