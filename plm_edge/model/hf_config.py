"""A checkpoint folder's `config.json`, read without torch: shards need the vocabulary's size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from plm_edge.errors import InputError
from plm_edge.paths import read_bytes

CONFIG = "config.json"
CONFIG_LIMIT_BYTES = 1 << 20


def read_config(folder: Path) -> dict[str, Any]:
    """The parsed `config.json` of a checkpoint folder."""
    path = folder / CONFIG
    try:
        config = json.loads(read_bytes(path, limit_bytes=CONFIG_LIMIT_BYTES))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{path}: a {type(config).__name__}, expected an object")
    return config
