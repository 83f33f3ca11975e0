from __future__ import annotations

import contextlib
import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from plm_edge.convert import output_file
from plm_edge.convert.output_file import BLOCK_BYTES, OutputFile

SIZE_BYTES = 40 * BLOCK_BYTES + 77
CONTENT = np.random.default_rng(1).integers(0, 256, SIZE_BYTES, np.uint8).tobytes()
WRITES = {
    "whole": [0],
    "blocks": list(range(0, SIZE_BYTES, BLOCK_BYTES)),
    "between blocks": [0, 100, 5000, 5001, 3 * BLOCK_BYTES, 20 * BLOCK_BYTES - 1, SIZE_BYTES - 3],
}


def write(path: Path, starts: list[int], check: str = "") -> None:
    """Write CONTENT backwards in the pieces that begin at `starts`."""
    with OutputFile(path, SIZE_BYTES) as file:
        for first, end in reversed(list(zip(starts, [*starts[1:], SIZE_BYTES], strict=True))):
            file.write(memoryview(CONTENT)[first:end], first)
        assert not check or file.is_direct == (check == "direct")


@pytest.fixture
def direct(tmp_path: Path) -> None:
    """Skip where the file system of the tests knows only the page cache."""
    with OutputFile(tmp_path / "probe", BLOCK_BYTES) as file:
        if not file.is_direct:
            pytest.skip("no direct writes on this file system")


@pytest.mark.parametrize("starts", WRITES.values(), ids=WRITES)
def test_pieces_of_any_place_and_size_arrive(tmp_path: Path, starts: list[int]) -> None:
    write(tmp_path / "out", starts)
    assert (tmp_path / "out").read_bytes() == CONTENT


@pytest.mark.parametrize("starts", WRITES.values(), ids=WRITES)
def test_a_buffer_smaller_than_a_piece_is_filled_again(
    tmp_path: Path, starts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_file, "_BUFFER_BYTES", 2 * BLOCK_BYTES)
    write(tmp_path / "out", starts)
    assert (tmp_path / "out").read_bytes() == CONTENT


@pytest.mark.usefixtures("direct")
def test_whole_blocks_go_past_the_cache_and_only_they(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, cached = os.pwrite, []

    def spy(handle: int, content: memoryview, offset: int) -> int:
        if len(content) % BLOCK_BYTES or offset % BLOCK_BYTES:
            cached.append((offset, len(content)))
        return real(handle, content, offset)

    monkeypatch.setattr(output_file.os, "pwrite", spy)
    write(tmp_path / "out", [0, 100, 3 * BLOCK_BYTES + 1], "direct")
    tail = (40 * BLOCK_BYTES, 77)
    head = (3 * BLOCK_BYTES + 1, BLOCK_BYTES - 1)
    assert cached == [head, tail, (100, BLOCK_BYTES - 100), (3 * BLOCK_BYTES, 1), (0, 100)]


@pytest.mark.parametrize("refusal", ["open", "write", "no flag"])
def test_a_file_system_without_direct_writes_gets_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    if refusal == "open":
        monkeypatch.setattr(output_file, "_open_direct", refuse_to_open(output_file._open_direct))
    elif refusal == "no flag":
        monkeypatch.delattr(output_file.os, "O_DIRECT")
    else:
        monkeypatch.setattr(output_file.os, "pwrite", refuse_pages)
    write(tmp_path / "out", [0, 100, 5000, 20 * BLOCK_BYTES - 1], "cached")
    monkeypatch.undo()
    assert (tmp_path / "out").read_bytes() == CONTENT


def refuse_to_open(real):  # type: ignore[no-untyped-def]
    """`_open_direct` on a file system that answers EINVAL."""

    def refuse(path: Path) -> int | None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(output_file.os, "open", raise_invalid)
            return real(path)

    return refuse


def raise_invalid(*_: object) -> int:
    raise OSError(errno.EINVAL, "Invalid argument")


REAL_PWRITE = os.pwrite


def refuse_pages(handle: int, content: memoryview, offset: int) -> int:
    """As a disk with larger blocks does; our own aligned memory tells the direct writes apart."""
    is_direct = isinstance(content.obj, output_file.mmap.mmap)
    return raise_invalid() if is_direct else REAL_PWRITE(handle, content, offset)


@pytest.mark.usefixtures("direct")
def test_a_direct_write_that_stops_short_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(handle: int, content: memoryview, offset: int) -> int:
        return REAL_PWRITE(handle, content[: max(BLOCK_BYTES, 512)], offset)

    monkeypatch.setattr(output_file.os, "pwrite", short)
    write(tmp_path / "out", [0, 5000], "direct")
    monkeypatch.undo()
    assert (tmp_path / "out").read_bytes() == CONTENT


@pytest.mark.usefixtures("direct")
def test_a_disk_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(handle: int, content: memoryview, offset: int) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(output_file.os, "pwrite", fail)
    with pytest.raises(OSError, match="Input/output"):
        write(tmp_path / "out", [0])


def test_threads_do_not_share_memory(tmp_path: Path) -> None:
    starts = list(range(0, SIZE_BYTES, 3 * BLOCK_BYTES - 5))
    pieces = list(zip(starts, [*starts[1:], SIZE_BYTES], strict=True))
    with OutputFile(tmp_path / "out", SIZE_BYTES) as file:
        threads = [
            threading.Thread(target=file.write, args=(memoryview(CONTENT)[first:end], first))
            for first, end in pieces
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert (tmp_path / "out").stat().st_size == SIZE_BYTES


def test_a_disk_without_room_leaves_no_handle_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(output_file.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        OutputFile(tmp_path / "out", SIZE_BYTES)
    # not their number: other tests' threads open and close some too
    assert not [path for path in open_files() if path.startswith(str(tmp_path))]


def open_files() -> list[str]:
    """The paths of this process's open files."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the listing's own
            found.append(os.readlink(link))
    return found
