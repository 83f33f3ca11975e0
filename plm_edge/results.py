"""The results file: JSON lines, appended whole, readable after a crash."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from plm_edge.errors import ConfigError
from plm_edge.paths import read_error, state_dir, write_error

T = TypeVar("T")


@dataclass(frozen=True)
class ResultsRead:
    """The rows of a results file, and a line for each one that could not be read."""

    rows: list[dict[str, Any]]
    skipped: list[str]


def default_path() -> Path:
    """Where results go unless the user says otherwise."""
    return state_dir() / "results.jsonl"


def append(path: Path, row: dict[str, Any]) -> None:
    """Add one row; whole even when two programs append at once.

    A half line left by a crash is closed first, so that it spoils itself only.
    """
    line = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _ends_whole(file.fileno()):
                line = b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise write_error(path, error) from error


def _ends_whole(handle: int) -> bool:
    size_bytes = os.fstat(handle).st_size
    return size_bytes == 0 or os.pread(handle, 1, size_bytes - 1) == b"\n"


def read(path: Path) -> ResultsRead:
    """Every readable row; the others are kept in the file, skipped and said."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise read_error(path, error) from error
    rows: list[dict[str, Any]] = []
    skipped: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            skipped.append(f"{path}:{number}: not a whole JSON line, skipped")
            continue
        if isinstance(row, dict):
            rows.append(row)
        else:
            skipped.append(f"{path}:{number}: not a JSON object, skipped")
    return ResultsRead(rows, skipped)


def read_kind(
    path: Path, kind: str, version: int, build: Callable[[dict[str, Any]], T]
) -> tuple[tuple[T, ...], tuple[str, ...]]:
    """What `build` makes of each row of a kind, and a line for each row that could not be read.

    `build` gets the row without its kind and version, and raises `ConfigError`; rows of other
    kinds are left alone.
    """
    found = read(path)
    built, skipped = list[T](), list(found.skipped)
    for row in found.rows:
        if row.pop("kind", None) != kind:
            continue
        seen = row.pop("version", None)
        try:
            if seen != version:
                raise ConfigError(f"{path}: row version {seen!r}, expected {version}")
            built.append(build(row))
        except ConfigError as error:
            skipped.append(f"{error.message}; row skipped")
    return tuple(built), tuple(skipped)
