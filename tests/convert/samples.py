"""Small checkpoints for tests, and ways to change them: other files, dtypes, tokenizers."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from plm_edge.convert.synth import SHAPES, write_checkpoint
from plm_edge.shape import PlmShape

TINY = SHAPES["tiny"]


_PLACE = tempfile.TemporaryDirectory(prefix="plm-edge-samples-")
atexit.register(_PLACE.cleanup)


@cache
def _original(shape: PlmShape) -> Path:
    folder = Path(tempfile.mkdtemp(dir=_PLACE.name)) / "PLM-Tiny"
    write_checkpoint(folder, shape, seed=3, dtype="f32")
    return folder


def make_checkpoint(folder: Path, shape: PlmShape = TINY, dtype: str = "bf16") -> Path:
    """A fresh copy of a small checkpoint that does not say it is random."""
    shutil.copytree(_original(shape), folder)
    change_json(folder / "config.json", lambda config: config.pop("plm_edge_random"))
    if dtype != "f32":
        save_weights(folder / "model.safetensors", read_weights(folder), dtype)
    return folder


def read_weights(folder: Path) -> dict[str, np.ndarray]:
    """The weights of an f32 checkpoint."""
    return load_file(folder / "model.safetensors")


def save_weights(path: Path, weights: Mapping[str, np.ndarray], dtype: str = "f32") -> None:
    """Write weights as safetensors; bf16 by cutting, since numpy has no such type."""
    if dtype == "f32":
        save_file({name: np.ascontiguousarray(w) for name, w in weights.items()}, path)
    elif dtype == "f16":
        save_file({name: w.astype(np.float16) for name, w in weights.items()}, path)
    else:
        raw = {n: (w.view(np.uint32) >> 16).astype(np.uint16) for n, w in weights.items()}
        write_raw(path, {n: ("BF16", list(r.shape), r.tobytes()) for n, r in raw.items()})


def write_raw(path: Path, tensors: Mapping[str, tuple[str, list[int], bytes]]) -> None:
    """A safetensors file from dtype, shape and bytes, in the order given."""
    header, offset = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        ends = [offset, offset + len(data)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": ends}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    content = b"".join(data for _, _, data in tensors.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)


def shard(folder: Path, parts: int = 3) -> None:
    """Split an f32 checkpoint's weights into shards with an index."""
    weights = read_weights(folder)
    names = sorted(weights)
    weight_map = {}
    for part in range(parts):
        file = f"model-{part + 1:05}-of-{parts:05}.safetensors"
        chosen = {name: weights[name] for name in names[part::parts]}
        save_weights(folder / file, chosen)
        weight_map |= dict.fromkeys(chosen, file)
    (folder / "model.safetensors").unlink()
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def change_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Read an object, let `change` alter it in place, write it back."""
    table = json.loads(path.read_text(encoding="utf-8"))
    change(table)
    path.write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")
