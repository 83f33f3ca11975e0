"""The `general.*` metadata: names, licence, sampling advice, from model card and configs.

The heuristics are the `gguf` library's own, so that a stock file says what upstream's says; what
goes in is checked first, since the library takes every file for well formed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import yaml  # type: ignore[import-untyped]

from plm_edge.convert.json_file import read_object_if_there
from plm_edge.errors import InputError
from plm_edge.gguf_header import ARRAY, F32, I32, STRING, U32, GgufValue
from plm_edge.paths import read_bytes
from plm_edge.shell import quote

_CARD_LIMIT_BYTES = 16 << 20
_WHOLE_RANGES = {U32: range(1 << 32), I32: range(-(1 << 31), 1 << 31)}


def general_metadata(folder: Path, parameters: int) -> dict[str, GgufValue]:
    """The `general.*` keys upstream would write for `folder`, in its order."""
    _check_card(folder / "README.md")
    metadata = _load(folder, parameters)
    _apply_repetition_penalty(metadata, folder / "generation_config.json")
    if metadata.name is None:
        metadata.name = folder.resolve().name
    if metadata.size_label is None:
        metadata.size_label = gguf.size_label(parameters, parameters, 0, 0)
    writer = gguf.GGUFWriter(None, "plm")
    try:
        metadata.set_gguf_meta_model(writer)
    except (TypeError, ValueError, AttributeError) as error:
        raise _unusable(folder, error) from error
    return _checked(writer.kv_data[0], folder)


def _check_card(path: Path) -> None:
    """Parse the card's front matter once, for an error with its file and line."""
    if not path.is_file():
        return
    try:
        text = read_bytes(path, limit_bytes=_CARD_LIMIT_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text: {error.reason}") from error
    lines = text.splitlines()
    if not lines or lines[0] != "---":
        return
    front = lines[1 : lines.index("---", 1)] if "---" in lines[1:] else lines[1:]
    try:
        yaml.safe_load("\n".join(front).replace("\t", "  ") + "\n")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 2}" if mark is not None else ""
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(f"{path}{where}: the model card's YAML: {reason}") from error


def _load(folder: Path, parameters: int) -> Any:
    # Its remarks would go to stderr; what matters among them is an error here.
    logging.getLogger("metadata").addHandler(logging.NullHandler())
    try:
        return gguf.Metadata.load(None, folder.resolve(), None, parameters)
    except (TypeError, ValueError, AttributeError, KeyError, yaml.YAMLError) as error:
        raise _unusable(folder, error) from error


def _unusable(folder: Path, error: Exception) -> InputError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return InputError(
        f"{folder}: README.md or generation_config.json holds a value of another kind: {reason}",
        hint=quote(["head", "-n", "30", folder / "README.md"]),
    )


def _apply_repetition_penalty(metadata: Any, path: Path) -> None:
    """transformers' name for it, which the released `gguf` does not read yet, but upstream does."""
    if metadata.sampling_penalty_repeat is None:
        metadata.sampling_penalty_repeat = read_object_if_there(path).get("repetition_penalty")


def _checked(table: Mapping[str, Any], folder: Path) -> dict[str, GgufValue]:
    values = {}
    for key, stored in table.items():
        if key == "general.architecture":
            continue
        kind, value = int(stored.type), stored.value
        item_type = None
        if kind == ARRAY:
            item_type = STRING
            value = list(value)
        if not _fits(kind, value):
            raise InputError(f"{folder}: {key} would be {str(value)[:80]!r}, of a wrong kind")
        values[key] = GgufValue(kind, value, item_type)
    return values


def _fits(kind: int, value: Any) -> bool:
    if kind == ARRAY:
        return all(isinstance(item, str) for item in value)
    if isinstance(value, bool):
        return False
    if kind == F32:
        return isinstance(value, (int, float)) and abs(value) < 3e38
    if kind in _WHOLE_RANGES:
        return isinstance(value, int) and value in _WHOLE_RANGES[kind]
    return isinstance(value, str)
