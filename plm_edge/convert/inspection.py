"""What a checkpoint folder or a GGUF file holds, from its headers alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from plm_edge.convert.checkpoint import open_tensors
from plm_edge.convert.hf_config import read_config
from plm_edge.convert.plan import make_plan
from plm_edge.convert.tokenizer import read_tokenizer
from plm_edge.errors import InputError
from plm_edge.gguf_header import GgufHeader, GgufValue, read_header
from plm_edge.shape import PlmShape
from plm_edge.shell import quote

CACHE_TYPES = ("f16", "q8_0")
_TEMPLATE = "tokenizer.chat_template"
_VALUE_BITS = {"bf16": 16, "f16": 16, "f32": 32}


@dataclass(frozen=True)
class TensorLine:
    """One tensor: name, shape (rows first), type and bytes."""

    name: str
    shape: tuple[int, ...]
    type: str
    size_bytes: int

    @property
    def values(self) -> int:
        """Its elements."""
        return prod(self.shape)


@dataclass(frozen=True)
class TokenizerSummary:
    """The tokenizer: llama.cpp's name of its kind and split, sizes, special ids, template."""

    kind: str
    split: str
    tokens: int
    padding: int
    special: dict[str, int]
    template: str | None


@dataclass(frozen=True)
class Inspection:
    """What a model file or folder holds; sizes in bytes."""

    path: Path
    kind: str
    layout: str
    is_random: bool
    shape: PlmShape
    size_bytes: int
    tensors: tuple[TensorLine, ...]
    tokenizer: TokenizerSummary
    notes: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Weights stored."""
        return sum(tensor.values for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Bits of tensor data per weight."""
        return 8 * sum(tensor.size_bytes for tensor in self.tensors) / self.parameters

    @property
    def types(self) -> dict[str, tuple[int, int]]:
        """Per type: number of tensors, bytes."""
        table: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for tensor in self.tensors:
            table[tensor.type][0] += 1
            table[tensor.type][1] += tensor.size_bytes
        return {name: (count, size) for name, (count, size) in sorted(table.items())}

    @property
    def cache_bytes_per_token(self) -> dict[str, tuple[int, int]]:
        """Per cache type: bytes with the latent cache, and with stock llama.cpp's full K and V."""
        sizes = self.shape.cache_bytes_per_token
        return {name: (sizes(name), sizes(name, latent=False)) for name in CACHE_TYPES}


def inspect(path: Path) -> Inspection:
    """Read headers of a folder or file; `InputError` names what is broken."""
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder", hint=quote(["ls", path.parent]))
    return _gguf(path)


def _gguf(path: Path) -> Inspection:
    header = read_header(path)
    header.require_architecture("plm")
    tensors = [TensorLine(t.name, t.shape, t.type, t.size_bytes) for t in header.tensors]
    if not tensors:
        raise InputError(f"{path}: holds no tensor")
    return Inspection(
        path,
        "GGUF",
        header.layout,
        header.is_random,
        PlmShape.from_metadata(header.metadata, str(path)),
        header.size_bytes,
        tuple(tensors),
        _gguf_tokenizer(header),
    )


def _gguf_tokenizer(header: GgufHeader) -> TokenizerSummary:
    metadata = header.metadata
    texts = metadata.get("tokenizer.ggml.tokens", [])
    padding = sum(str(text).startswith("[PAD") for text in texts)
    return _summary(
        metadata,
        str(metadata.get("tokenizer.ggml.model", "none")),
        str(metadata.get("tokenizer.ggml.pre", "")),
        len(texts) - padding,
        padding,
    )


def _summary(
    metadata: Mapping[str, Any], kind: str, split: str, tokens: int, padding: int
) -> TokenizerSummary:
    prefix, suffix = "tokenizer.ggml.", "_token_id"
    special = {
        key.removeprefix(prefix).removesuffix(suffix): int(value)
        for key, value in sorted(metadata.items())
        if key.startswith(prefix) and key.endswith(suffix) and isinstance(value, int)
    }
    template = metadata.get(_TEMPLATE)
    return TokenizerSummary(
        kind, split, tokens, padding, special, str(template) if template is not None else None
    )


def _folder(path: Path) -> Inspection:
    config = read_config(path)
    stored = open_tensors(path)
    plan = make_plan(config, stored, "stock", "f16")  # finds what is missing, extra, misshaped
    tokenizer = read_tokenizer(path, config.shape.vocab_size)
    tensors = [
        TensorLine(t.name, t.shape, t.dtype, _bytes(t.shape, t.dtype)) for t in stored.values()
    ]
    return Inspection(
        path,
        "checkpoint",
        "hugging face",
        config.is_random,
        config.shape,
        sum(tensor.size_bytes for tensor in tensors),
        tuple(tensors),
        _summary(
            _plain(tokenizer.values),
            tokenizer.kind,
            tokenizer.pre,
            tokenizer.tokens,
            tokenizer.padding,
        ),
        (*plan.notes, *tokenizer.notes),
    )


def _plain(values: Mapping[str, GgufValue]) -> dict[str, Any]:
    return {key: entry.value for key, entry in values.items()}


def _bytes(shape: tuple[int, ...], dtype: str) -> int:
    return prod(shape) * _VALUE_BITS[dtype] // 8


def as_table(found: Inspection, *, with_tensors: bool) -> dict[str, Any]:
    """The inspection as plain values, for JSON."""
    shape = {**found.shape.__dict__}
    table: dict[str, Any] = {
        "path": str(found.path),
        "kind": found.kind,
        "layout": found.layout,
        "random_weights": found.is_random,
        "shape": shape,
        "parameters": found.parameters,
        "size_bytes": found.size_bytes,
        "bits_per_weight": round(found.bits_per_weight, 4),
        "types": {
            name: {"tensors": count, "size_bytes": size}
            for name, (count, size) in found.types.items()
        },
        "cache_bytes_per_token": {
            name: {"latent": latent, "full": full}
            for name, (latent, full) in found.cache_bytes_per_token.items()
        },
        "tokenizer": found.tokenizer.__dict__,
        "notes": list(found.notes),
    }
    if with_tensors:
        table["tensors"] = [tensor.__dict__ for tensor in found.tensors]
    return table
