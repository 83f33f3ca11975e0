"""The file a conversion writes, past the page cache where the file system allows it.

Copying into the page cache cost three times the processor time of converting (2026-11, AMD EPYC,
ext4), and pushed out what others had there. So whole blocks go from aligned memory straight to the
disk; the few bytes of a block that two writes share go through the cache, and so does everything
on a file system that knows nothing else. No block is written both ways.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from pathlib import Path
from types import TracebackType

# A multiple of every disk's and file system's block in use; `write` copes where it is not.
BLOCK_BYTES = 4096
_BUFFER_BYTES = 4 << 20


class OutputFile:
    """A new file of a known size, written in any order and by several threads at once."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self.handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        self._direct: int | None = None
        self._buffers = threading.local()
        try:
            # The disk is asked for all of it at once: too little shows now, and it lies in one
            # piece.
            os.posix_fallocate(self.handle, 0, size_bytes)
            self._direct = _open_direct(path)
        except BaseException:
            os.close(self.handle)
            raise
        self.is_direct = self._direct is not None

    def __enter__(self) -> OutputFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self.handle)
        if self._direct is not None:
            os.close(self._direct)

    def write(self, content: memoryview, offset: int) -> None:
        """Write all of `content` (bytes) at `offset`."""
        end = offset + len(content)
        first, last = -(-offset // BLOCK_BYTES) * BLOCK_BYTES, end // BLOCK_BYTES * BLOCK_BYTES
        if not self.is_direct or first >= last:
            self._write_cached(content, offset)
            return
        self._write_cached(content[: first - offset], offset)
        self._write_blocks(content[first - offset : last - offset], first)
        self._write_cached(content[last - offset :], last)

    def _write_cached(self, content: memoryview, offset: int) -> None:
        while content:
            count = os.pwrite(self.handle, content, offset)
            content, offset = content[count:], offset + count

    def _write_blocks(self, content: memoryview, offset: int) -> None:
        for start in range(0, len(content), _BUFFER_BYTES):
            part = content[start : start + _BUFFER_BYTES]
            count = self._write_direct(part, offset + start)
            self._write_cached(part[count:], offset + start + count)

    def _write_direct(self, part: memoryview, offset: int) -> int:
        """Bytes written past the cache: all, or fewer where the file system has its limits."""
        if self._direct is None or not self.is_direct:
            return 0
        buffer = self._buffer()
        buffer[: len(part)] = part
        try:
            return os.pwrite(self._direct, buffer[: len(part)], offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self.is_direct = False  # larger blocks than ours, or no such writes after all
            return 0

    def _buffer(self) -> memoryview:
        """Memory of this thread alone that begins at a page, as such writes want it."""
        found: memoryview | None = getattr(self._buffers, "memory", None)
        if found is None:
            found = self._buffers.memory = memoryview(mmap.mmap(-1, _BUFFER_BYTES))
        return found


def _open_direct(path: Path) -> int | None:
    flag = getattr(os, "O_DIRECT", None)  # Linux and some BSDs have it
    if flag is None:
        return None
    try:
        return os.open(path, os.O_WRONLY | flag)
    except OSError:
        return None
