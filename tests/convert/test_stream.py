from __future__ import annotations

import errno
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from plm_edge.console import no_progress
from plm_edge.convert import output_file, stream
from plm_edge.convert.gguf_output import FileLayout
from plm_edge.convert.stream import Chunk, Piece, write_file
from plm_edge.errors import InputError

LAYOUT = FileLayout(b"header--", {}, 8 + 100 * 64)


def piece(number: int, delay_seconds: float = 0.0) -> Piece:
    def make() -> list[Chunk]:
        time.sleep(delay_seconds)
        return [(8 + number * 64, np.full(64, number, np.uint8))]

    return Piece(64, make)


def test_pieces_land_where_they_belong_whatever_their_order(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    pieces = [piece(number, 0.002 * (number % 3 == 0)) for number in range(100)]
    write_file(tmp_path / "out", LAYOUT, pieces, lambda *step: seen.append(step), verify=True)
    expected = b"header--" + b"".join(bytes([number]) * 64 for number in range(100))
    assert (tmp_path / "out").read_bytes() == expected
    assert seen[0] == (0, 6400)
    assert seen[-1] == (6400, 6400)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_gaps_are_zero(tmp_path: Path) -> None:
    write_file(tmp_path / "out", LAYOUT, [piece(99)], no_progress)
    content = (tmp_path / "out").read_bytes()
    assert content[8 : 8 + 99 * 64] == bytes(99 * 64)


def test_a_failing_piece_stops_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []
    is_over = threading.Event()

    class Pool(ThreadPoolExecutor):
        """What runs goes on until the rest has been told to stop, however long that takes."""

        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            is_over.set()
            super().shutdown(wait=wait)

    def work(number: int) -> list[Chunk]:
        ran.append(number)
        if number == 0:
            raise InputError("tensor 'x' holds values that are no numbers")
        assert is_over.wait(60)
        return []

    monkeypatch.setattr(stream, "ThreadPoolExecutor", Pool)
    pieces = [Piece(64, lambda number=number: work(number)) for number in range(100)]
    with pytest.raises(InputError, match="'x'"):
        write_file(tmp_path / "out", LAYOUT, pieces, no_progress)
    assert len(ran) <= stream.workers() + 1


def test_a_disk_that_fails_behind_our_back_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    # Only the page cache puts failures off: direct writes fail where they are made.
    monkeypatch.setattr(output_file, "_open_direct", lambda path: None)
    monkeypatch.setattr(stream.os, "fdatasync", full)
    monkeypatch.setattr(stream, "_FLUSH_BYTES", 64)
    for count in (100, 1):  # however late it shows
        pieces = [piece(number) for number in range(count)]
        with pytest.raises(OSError, match="No space left"):
            write_file(tmp_path / "out", LAYOUT, pieces, no_progress)


def test_a_disk_that_gives_other_bytes_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pread

    def lying(handle: int, size: int, offset: int) -> bytes:
        content = bytearray(real(handle, size, offset))
        if offset == 8 + 5 * 64:
            content[3] ^= 1
        return bytes(content)

    monkeypatch.setattr(stream.os, "pread", lying)
    with pytest.raises(InputError, match="reading back 64 bytes at 328"):
        write_file(
            tmp_path / "out", LAYOUT, [piece(n) for n in range(10)], no_progress, verify=True
        )
