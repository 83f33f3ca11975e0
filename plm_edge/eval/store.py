"""Reference distributions on disk: computed once per model, tokens and engine.

logits/KEY.npy    rows of `distribution.row_type`, (windows, judged positions), memory mapped
logits/KEY.json   what the key was made of, for people
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plm_edge import paths
from plm_edge.eval.distribution import row_type

Fill = Callable[[NDArray[Any]], None]
"""Writes every row of an empty array."""

# A vocabulary up to this size is kept whole. Of 151,936 tokens it is 24 kB a position, not 300.
DEFAULT_TOP = 4096


@dataclass(frozen=True)
class Key:
    """Everything a reference depends on."""

    model_sha256: str
    tokens_sha256: str
    engine: str
    context: int
    windows: int
    cache_type: str
    top: int

    @property
    def path(self) -> Path:
        """Where the rows are, or will be."""
        text = json.dumps(asdict(self), sort_keys=True)
        return folder() / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.npy"

    def size_bytes(self, judged: int) -> int:
        """Bytes of the rows."""
        return row_type(self.top).itemsize * self.windows * judged


def folder() -> Path:
    """The folder of all references."""
    return paths.cache_dir() / "logits"


def find(key: Key, judged: int) -> NDArray[Any] | None:
    """The stored rows, mapped; None if there are none or they are damaged."""
    try:
        rows = np.load(key.path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    expected = (key.windows, judged)
    return rows if rows.dtype == row_type(key.top) and rows.shape == expected else None


def ensure(key: Key, judged: int, fill: Fill) -> NDArray[Any]:
    """The stored rows; `fill` computes them where there are none yet, whole or not at all."""
    if (rows := find(key, judged)) is not None:
        return rows
    paths.require_space(key.path, key.size_bytes(judged))
    shape = (key.windows, judged)
    with paths.atomic_path(key.path) as part:
        mapped = np.lib.format.open_memmap(part, "w+", row_type(key.top), shape)
        fill(mapped)
        mapped.flush()
    paths.write_text_atomic(key.path.with_suffix(".json"), json.dumps(asdict(key)) + "\n")
    rows = find(key, judged)
    assert rows is not None, key.path
    return rows
