"""Token shards: flat arrays of ids on disk, memory-mapped, with an index that says what they are.

A shard folder holds `NAME.bin` (little-endian uint16 or uint32), `NAME.mask` for dialogues (one
byte a token: 1 where the loss counts) with `NAME.starts` (where each dialogue begins), and
`index.json`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plm_edge.errors import InputError
from plm_edge.paths import atomic_path, read_bytes, read_error, write_text_atomic

INDEX = "index.json"
INDEX_LIMIT_BYTES = 1 << 20

Ids = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Shard:
    """One stream of token ids, and which of them the loss counts (None: all)."""

    name: str
    ids: Ids
    mask: npt.NDArray[np.uint8] | None = None
    starts: npt.NDArray[np.uint32] | None = None

    def place(self, generator: np.random.Generator) -> int:
        """A random place to read from: the start of a dialogue where the shard knows them."""
        if self.starts is not None:
            return int(self.starts[generator.integers(len(self.starts))])
        return int(generator.integers(len(self.ids)))

    def window(
        self, start: int, length: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """`length` + 1 ids from `start` (wrapping), and for each target whether it counts."""
        places = (start + np.arange(length + 1)) % len(self.ids)
        ids = self.ids[places].astype(np.int64)
        if self.mask is None:
            return ids, np.ones(length, bool)
        return ids, self.mask[places[1:]].astype(bool)


def tokenizer_hash(tokenizer: Path) -> str:
    """What ties shards and checkpoints to a tokenizer: the sha256 of its tokenizer.json."""
    return hashlib.sha256(read_bytes(tokenizer, limit_bytes=1 << 26)).hexdigest()


def write(
    folder: Path, name: str, streams: Iterable[tuple[list[int], list[bool] | None]], vocab_size: int
) -> int:
    """Write one shard from (ids, counts) pieces; returns its number of tokens."""
    kind = np.uint16 if vocab_size <= 1 << 16 else np.uint32
    pieces = list(streams)
    ids = np.fromiter((i for part, _ in pieces for i in part), dtype=kind)
    with atomic_path(folder / f"{name}.bin") as temporary:
        temporary.write_bytes(ids.tobytes())
    if any(counts is not None for _, counts in pieces):
        mask = np.fromiter((c for _, counts in pieces for c in counts or ()), dtype=np.uint8)
        with atomic_path(folder / f"{name}.mask") as temporary:
            temporary.write_bytes(mask.tobytes())
        starts = np.cumsum([0, *(len(part) for part, _ in pieces[:-1])], dtype=np.uint32)
        with atomic_path(folder / f"{name}.starts") as temporary:
            temporary.write_bytes(starts.tobytes())
    return int(ids.size)


def write_index(folder: Path, tokenizer: Path, vocab_size: int, counts: dict[str, int]) -> None:
    """Write what the shards of `folder` are; last, so that an index means whole shards."""
    index = {
        "tokenizer_sha256": tokenizer_hash(tokenizer),
        "vocab_size": vocab_size,
        "tokens": counts,
    }
    write_text_atomic(folder / INDEX, json.dumps(index, indent=2) + "\n")


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a shard folder."""
    path = folder / INDEX
    try:
        index = json.loads(read_bytes(path, limit_bytes=INDEX_LIMIT_BYTES))
        return {key: index[key] for key in ("tokenizer_sha256", "vocab_size", "tokens")}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not an index of token shards: {error!r}") from error


def open_shard(folder: Path, name: str, at_least: int = 2) -> Shard:
    """Map one shard; `InputError` when it is absent, cut short or has under `at_least` tokens."""
    index = read_index(folder)
    wanted = index["tokens"].get(name)
    if wanted is None:
        known = ", ".join(index["tokens"])
        raise InputError(f"{folder}: no shard named {name!r}", hint=f"known: {known}")
    kind = np.uint16 if index["vocab_size"] <= 1 << 16 else np.uint32
    ids = _map(folder / f"{name}.bin", kind, wanted)
    if len(ids) < at_least:
        raise InputError(f"{folder / name}.bin: {len(ids)} tokens, expected at least {at_least}")
    if not (folder / f"{name}.mask").exists():
        return Shard(name, ids)
    starts = np.fromfile(folder / f"{name}.starts", dtype=np.uint32)
    return Shard(name, ids, _map(folder / f"{name}.mask", np.uint8, wanted), starts)


def _map(path: Path, kind: Any, count: int) -> Any:
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        raise read_error(path, error) from error
    if size_bytes != count * np.dtype(kind).itemsize:
        raise InputError(f"{path}: {size_bytes} bytes, expected {count * np.dtype(kind).itemsize}")
    return np.memmap(path, dtype=kind, mode="r") if count else np.empty(0, kind)
