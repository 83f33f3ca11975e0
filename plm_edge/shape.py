"""PLM's dimensions: the one place that knows them, from an HF config or from GGUF metadata.

PLM is multi-head latent attention (DeepSeek-V2 style, queries not compressed) and an ungated
squared-ReLU FFN. Names follow the Hugging Face config.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, cast

from plm_edge.errors import InputError

# Bytes of a cache row of n values, by cache type: (values per block, bytes per block).
CACHE_BLOCKS = {"f32": (1, 4), "f16": (1, 2), "bf16": (1, 2), "q8_0": (32, 34)}

# Far above any PLM; keeps a hostile config from asking for terabytes.
_LIMITS = {
    "hidden_size": 1 << 16,
    "num_hidden_layers": 1 << 10,
    "num_attention_heads": 1 << 10,
    "kv_lora_rank": 1 << 14,
    "qk_nope_head_dim": 1 << 12,
    "qk_rope_head_dim": 1 << 12,
    "v_head_dim": 1 << 12,
    "intermediate_size": 1 << 18,
    "vocab_size": 1 << 22,
    "max_position_embeddings": 1 << 24,
}


@dataclass(frozen=True)
class PlmShape:
    """The dimensions of a PLM; all sizes are element counts."""

    hidden_size: int = 2048
    num_hidden_layers: int = 32
    num_attention_heads: int = 16
    kv_lora_rank: int = 512
    qk_nope_head_dim: int = 128
    qk_rope_head_dim: int = 64
    v_head_dim: int = 128
    intermediate_size: int = 8192
    vocab_size: int = 151936
    max_position_embeddings: int = 4096
    rope_theta: float = 100000.0
    rms_norm_eps: float = 1e-6

    @property
    def qk_head_dim(self) -> int:
        """Width of a query or key head: the part without and the part with position."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def latent_width(self) -> int:
        """Values in a row of the latent cache: the latent and the shared rotated key."""
        return self.kv_lora_rank + self.qk_rope_head_dim

    @property
    def full_kv_width(self) -> int:
        """Values in a row of the full K and V cache that stock llama.cpp keeps."""
        return self.num_attention_heads * (self.qk_head_dim + self.v_head_dim)

    @property
    def parameters_per_layer(self) -> int:
        """Weights of one layer, norms included."""
        attention = self.hidden_size * self.num_attention_heads * self.qk_head_dim
        attention += self.latent_width * self.hidden_size
        attention += (
            self.kv_lora_rank * self.num_attention_heads * (self.qk_nope_head_dim + self.v_head_dim)
        )
        attention += self.hidden_size * self.num_attention_heads * self.v_head_dim
        norms = 2 * self.hidden_size + self.kv_lora_rank
        return attention + 2 * self.hidden_size * self.intermediate_size + norms

    @property
    def parameters(self) -> int:
        """Weights of the model; embedding and output are one tied matrix."""
        embedding = self.vocab_size * self.hidden_size
        return embedding + self.num_hidden_layers * self.parameters_per_layer + self.hidden_size

    def cache_bytes_per_token(self, cache_type: str, *, latent: bool = True) -> int:
        """Bytes one token takes in the KV cache over all layers (upstream's row sizes)."""
        block_values, block_bytes = CACHE_BLOCKS[cache_type]
        widths = [self.latent_width]
        if not latent:
            heads = self.num_attention_heads
            widths = [heads * self.qk_head_dim, heads * self.v_head_dim]
        per_layer = sum(math.ceil(width / block_values) * block_bytes for width in widths)
        return self.num_hidden_layers * per_layer

    @classmethod
    def from_config(cls, config: Mapping[str, Any], source: str) -> PlmShape:
        """The shape in a Hugging Face `config.json`; `source` names the file in errors."""
        values: dict[str, Any] = {}
        for field in fields(cls):
            values[field.name] = _number(config, field.name, field.name, source)
        return _checked(cls(**values), source)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], source: str) -> PlmShape:
        """The shape in a GGUF's metadata (`plm.*` keys)."""
        get = {key: _number(metadata, gguf, key, source) for key, gguf in GGUF_KEYS.items()}
        key_length = _number(metadata, "plm.attention.key_length", "key_length", source)
        get["qk_nope_head_dim"] = int(key_length - get["qk_rope_head_dim"])
        return _checked(cls(**get), source)


GGUF_KEYS = {
    "hidden_size": "plm.embedding_length",
    "num_hidden_layers": "plm.block_count",
    "num_attention_heads": "plm.attention.head_count",
    "kv_lora_rank": "plm.attention.kv_lora_rank",
    "qk_rope_head_dim": "plm.rope.dimension_count",
    "v_head_dim": "plm.attention.value_length",
    "intermediate_size": "plm.feed_forward_length",
    "vocab_size": "plm.vocab_size",
    "max_position_embeddings": "plm.context_length",
    "rope_theta": "plm.rope.freq_base",
    "rms_norm_eps": "plm.attention.layer_norm_rms_epsilon",
}

_FLOATS = ("rope_theta", "rms_norm_eps")


def _number(table: Mapping[str, Any], key: str, field: str, source: str) -> Any:
    if key not in table:
        raise InputError(f"{source}: {key} is missing")
    value = table[key]
    wanted: tuple[type, ...] = (int, float) if field in _FLOATS else (int,)
    if isinstance(value, bool) or not isinstance(value, wanted):
        word = "a number" if field in _FLOATS else "a whole number"
        raise InputError(f"{source}: {key} = {value!r}, expected {word}")
    return value if field not in _FLOATS else float(cast(float, value))


def _checked(shape: PlmShape, source: str) -> PlmShape:
    for name, limit in _LIMITS.items():
        value = getattr(shape, name)
        if not 0 < value <= limit:
            raise InputError(f"{source}: {name} = {value}, expected 1 to {limit}")
    if shape.qk_rope_head_dim % 2:
        raise InputError(
            f"{source}: qk_rope_head_dim = {shape.qk_rope_head_dim}, expected an even number"
        )
    for name in _FLOATS:
        value = getattr(shape, name)
        if not (math.isfinite(value) and 0 < value < 1e12):
            raise InputError(f"{source}: {name} = {value!r}, expected a positive finite number")
    return shape
