"""Where plm-edge keeps things, and how it writes files so that nothing half-written is left."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plm_edge.errors import InputError, SpaceError
from plm_edge.shell import quote


def cache_dir() -> Path:
    """$PLM_EDGE_CACHE, else plm-edge under the XDG cache folder."""
    return _folder("PLM_EDGE_CACHE", "XDG_CACHE_HOME", ".cache")


def config_dir() -> Path:
    """$PLM_EDGE_CONFIG, else plm-edge under the XDG config folder."""
    return _folder("PLM_EDGE_CONFIG", "XDG_CONFIG_HOME", ".config")


def state_dir() -> Path:
    """$PLM_EDGE_STATE (results, chat sessions, history), else under the XDG state folder."""
    return _folder("PLM_EDGE_STATE", "XDG_STATE_HOME", ".local/state")


def _folder(own: str, xdg: str, default: str) -> Path:
    if value := os.environ.get(own):
        return Path(value)
    base = os.environ.get(xdg)
    return (Path(base) if base else Path.home() / default) / "plm-edge"


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `target`, renamed onto it on success and removed on failure.

    A process killed in between leaves at most a `.part` file, never one under the final name.
    Raises `InputError`/`SpaceError` for an unwritable or full folder.
    """
    temporary = _temporary_sibling(target)
    try:
        yield temporary
        _sync(temporary)
        temporary.chmod(_usual_mode())
        temporary.replace(target)
    except OSError as error:
        _remove(temporary)
        raise write_error(target, error) from error
    except BaseException:
        _remove(temporary)
        raise


def _temporary_sibling(target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{target.name[:100]}.", suffix=".part", dir=target.parent
        )
    except OSError as error:
        raise write_error(target, error) from error
    os.close(handle)
    return Path(name)


def _usual_mode() -> int:
    """What open() would give: 0600, from mkstemp or a library's own, surprises who shares it."""
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def write_error(target: Path, error: OSError) -> InputError | SpaceError:
    """The user's version of an OSError met while writing `target`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SpaceError(f"{target}: the disk is full", hint=quote(["df", "-h", target.parent]))
    reason = os.strerror(error.errno) if error.errno else str(error)
    return InputError(f"{target}: cannot write: {reason}", hint=quote(["ls", "-ld", target.parent]))


def write_text_atomic(target: Path, text: str) -> None:
    """Write `text` as UTF-8 to `target`, whole or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def require_space(target: Path, size_bytes: int) -> None:
    """Raise `SpaceError` unless the folder of `target` has room for `size_bytes`."""
    folder = target.parent
    while not folder.exists():
        folder = folder.parent
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < size_bytes:
        raise SpaceError(
            f"{target}: needs {size_bytes / 1e9:.2f} GB, but {folder} has "
            f"{free_bytes / 1e9:.2f} GB free",
            hint=quote(["df", "-h", folder]),
        )


def read_bytes(path: Path, *, limit_bytes: int) -> bytes:
    """The content of a small file; `InputError` if it is absent, unreadable or above the limit."""
    try:
        size_bytes = path.stat().st_size
        if size_bytes > limit_bytes:
            raise InputError(f"{path}: {size_bytes} bytes, expected at most {limit_bytes}")
        return path.read_bytes()
    except OSError as error:
        raise read_error(path, error) from error


def read_error(path: Path, error: OSError) -> InputError:
    """The user's version of an OSError met while reading `path`."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return InputError(f"{path}: cannot read: {reason}", hint=quote(["ls", "-l", path]))
