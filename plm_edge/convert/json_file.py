"""JSON files of a checkpoint: small, an object at the top, every failure one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from plm_edge.errors import ConfigError
from plm_edge.paths import read_bytes

LIMIT_BYTES = 64 << 20


def read_object(path: Path, *, limit_bytes: int = LIMIT_BYTES) -> dict[str, Any]:
    """The object in a JSON file; `ConfigError` names the file and what is wrong."""
    return parse_object(read_bytes(path, limit_bytes=limit_bytes), path)


def read_object_if_there(path: Path) -> dict[str, Any]:
    """As `read_object`, and an empty object for an absent file."""
    return read_object(path) if path.is_file() else {}


def parse_object(data: bytes, path: Path) -> dict[str, Any]:
    """The JSON object in `data`, which came from `path`; a key that comes twice is an error."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_without_twins)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error.reason}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid JSON: {_first_line(error)}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: holds a {type(value).__name__}, expected an object")
    return value


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice[:80]!r} appears twice")
    return table


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
