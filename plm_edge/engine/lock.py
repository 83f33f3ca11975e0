"""One builder at a time: an advisory file lock that ends with the processes that hold it."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from plm_edge.paths import write_error


@contextmanager
def locked(path: Path, on_wait: Callable[[], None]) -> Iterator[int]:
    """Hold the lock file `path`, calling `on_wait` once if somebody else has it.

    Yields the lock's descriptor. A child that inherits it (`pass_fds`) keeps the lock when this
    process is killed, so that an orphaned ninja and its successor never share a folder.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise write_error(path, error) from error
    with file:
        if not _try_lock(file.fileno()):
            on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


@contextmanager
def held_if_free(path: Path, *, needed: bool) -> Iterator[bool]:
    """Hold the lock file `path` if nobody has it; yields whether that worked.

    With `needed` false there is no such lock, and the answer is yes.
    """
    if not needed:
        yield True
        return
    try:
        file = path.open("a")
    except OSError as error:
        raise write_error(path, error) from error
    with file:
        yield _try_lock(file.fileno())


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock file `path` now."""
    try:
        with path.open("a") as file:
            return not _try_lock(file.fileno())
    except OSError:
        return False


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
