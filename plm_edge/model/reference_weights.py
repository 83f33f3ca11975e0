"""Weights for the reference, by Hugging Face name, converted to float64 when they are asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plm_edge.errors import InputError
from plm_edge.gguf_header import read_header
from plm_edge.paths import read_bytes
from plm_edge.shape import PlmShape

Weights = Callable[[str], NDArray[np.float64]]
"""The float64 tensor of a Hugging Face name without `.weight`."""

_CONFIG_LIMIT_BYTES = 1 << 20
_HEADER_LIMIT_BYTES = 100 << 20
_NUMPY_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}

# Hugging Face name within a layer to GGUF name within a block, where a tensor is kept as it is.
_GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "self_attn.kv_b_proj": "attn_kv_b",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def checkpoint_weights(folder: Path) -> tuple[PlmShape, Weights]:
    """The shape and weights of a Hugging Face folder."""
    path = folder / "config.json"
    try:
        config = json.loads(read_bytes(path, limit_bytes=_CONFIG_LIMIT_BYTES))
    except ValueError as error:
        raise InputError(f"{path}: is not JSON: {error}") from error
    shape = PlmShape.from_config(config, str(path))
    tensors: dict[str, tuple[Path, dict[str, Any], int]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        header, start = _safetensors_header(file)
        tensors |= {name: (file, entry, start) for name, entry in header.items()}

    def weight(name: str) -> NDArray[np.float64]:
        if f"{name}.weight" not in tensors:
            raise InputError(f"{folder}: has no tensor {name}.weight")
        return _safetensors_values(*tensors[f"{name}.weight"])

    return shape, weight


def _safetensors_header(file: Path) -> tuple[dict[str, Any], int]:
    """The entries by name, and where the data starts."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > _HEADER_LIMIT_BYTES:
            raise InputError(f"{file}: header of {length} bytes, expected a safetensors file")
        header = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    return header, 8 + length


def _safetensors_values(file: Path, entry: dict[str, Any], start: int) -> NDArray[np.float64]:
    begin, end = entry["data_offsets"]
    kind = _NUMPY_TYPES[entry["dtype"]]
    count = (end - begin) // np.dtype(kind).itemsize
    stored = np.fromfile(file, kind, count=count, offset=start + begin)
    if entry["dtype"] == "BF16":
        stored = (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.reshape(entry["shape"]).astype(np.float64)


def gguf_weights(path: Path) -> tuple[PlmShape, Weights]:
    """The shape and weights of a GGUF in either layout."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    header = read_header(path)
    header.require_architecture()
    shape = PlmShape.from_metadata(header.metadata, str(path))
    tensors = {tensor.name: tensor for tensor in GGUFReader(path).tensors}

    def stored(name: str) -> NDArray[np.float64]:
        if f"{name}.weight" not in tensors:
            raise InputError(f"{path}: has no tensor {name}.weight")
        tensor = tensors[f"{name}.weight"]
        values = dequantize(tensor.data, tensor.tensor_type)
        return np.asarray(values, np.float64).reshape(tensor.shape[::-1].tolist())

    def weight(name: str) -> NDArray[np.float64]:
        if name in ("model.embed_tokens", "model.norm"):
            return stored({"model.embed_tokens": "token_embd", "model.norm": "output_norm"}[name])
        _, _, layer, part = name.split(".", 3)
        block = f"blk.{layer}"
        if part == "self_attn.kv_b_proj" and f"{block}.attn_k_b.weight" in tensors:
            return joined_kv_b(stored(f"{block}.attn_k_b"), stored(f"{block}.attn_v_b"))
        values = stored(f"{block}.{_GGUF_NAMES[part]}")
        is_neuron_major = part == "mlp.down_proj" and header.layout == "edge"
        return values.T if is_neuron_major else values

    return shape, weight


def joined_kv_b(
    key_part: NDArray[np.float64], value_part: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The checkpoint's kv_b, (heads * (nope + v), rank), from the edge layout's two parts.

    `key_part` is (heads, rank, nope), `value_part` (heads, v, rank).
    """
    rows = np.concatenate([key_part.swapaxes(1, 2), value_part], axis=1)
    return rows.reshape(-1, rows.shape[-1])
