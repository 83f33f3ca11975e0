"""A file's sha256, kept by size and time so that gigabytes are hashed once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from plm_edge import paths
from plm_edge.console import Progress, no_progress

_CHUNK_BYTES = 1 << 22
_LIMIT_BYTES = 1 << 12


def sha256(path: Path, progress: Progress = no_progress) -> str:
    """The sha256 of a file in hexadecimal; `progress` counts bytes when it has to be read."""
    try:
        status = path.stat()
        record = _record(path)
        stamp = [str(path.resolve()), status.st_size, status.st_mtime_ns]
        known = _known(record)
        if known is not None and known[:-1] == stamp:
            return str(known[-1])
        digest = _digest(path, status.st_size, progress)
    except OSError as error:
        raise paths.read_error(path, error) from error
    paths.write_text_atomic(record, json.dumps([*stamp, digest]) + "\n")
    return digest


def _record(path: Path) -> Path:
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:24]
    return paths.cache_dir() / "fingerprints" / f"{name}.json"


def _known(record: Path) -> list[object] | None:
    if not record.is_file():
        return None
    try:
        value = json.loads(paths.read_bytes(record, limit_bytes=_LIMIT_BYTES))
    except ValueError:
        return None
    is_ours = isinstance(value, list) and len(value) == 4 and isinstance(value[-1], str)
    return value if is_ours else None


def _digest(path: Path, size_bytes: int, progress: Progress) -> str:
    hasher, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            hasher.update(chunk)
            done += len(chunk)
            progress(done, size_bytes)
    return hasher.hexdigest()
