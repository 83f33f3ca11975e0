"""The results file: JSON lines, appended whole, readable after a crash."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plm_edge.paths import read_error, state_dir, write_error


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
