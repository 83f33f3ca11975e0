"""Small PLM files in either layout, written with the `gguf` package and nothing of ours."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from plm_edge.shape import PlmShape

# Rows long enough for every block size except where PLM's own are not (k_b's 128).
SHAPE = PlmShape(
    hidden_size=256,
    num_hidden_layers=3,
    num_attention_heads=4,
    kv_lora_rank=256,
    qk_nope_head_dim=128,
    qk_rope_head_dim=64,
    v_head_dim=64,
    intermediate_size=512,
    vocab_size=96,
    max_position_embeddings=512,
)


def write_model(
    path: Path,
    *,
    layout: str = "edge",
    shape: PlmShape = SHAPE,
    dtype: str = "f16",
    architecture: str = "plm",
    extra_texts: dict[str, str] | None = None,
) -> Path:
    """A PLM GGUF with seeded random weights; without a vocabulary, which quantizing never reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, architecture)
    add_metadata(writer, shape, layout)
    writer.add_array("plm.trial.words", ["a", "über", "日本"])
    writer.add_array("plm.trial.numbers", [1, 2, 3])
    writer.add_tokenizer_model("no_vocab")
    for key, value in (extra_texts or {}).items():
        writer.add_string(key, value)
    random = np.random.default_rng(1)
    for name, size in tensor_shapes(shape, layout).items():
        values = random.standard_normal(size, dtype=np.float32) * 0.05
        add_tensor(writer, name, values, dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_tensor(writer: gguf.GGUFWriter, name: str, values: np.ndarray, dtype: str) -> None:
    """A float32 array as `dtype`; norms stay float32, as in every PLM file."""
    if "norm" in name or dtype == "f32":
        writer.add_tensor(name, values)
        return
    kind = gguf.GGMLQuantizationType[dtype.upper()]
    writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)


def add_metadata(writer: gguf.GGUFWriter, shape: PlmShape, layout: str) -> None:
    """What every PLM file says of its shape, and that its weights are random."""
    writer.add_vocab_size(shape.vocab_size)
    writer.add_context_length(shape.max_position_embeddings)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_block_count(shape.num_hidden_layers)
    writer.add_feed_forward_length(shape.intermediate_size)
    writer.add_head_count(shape.num_attention_heads)
    writer.add_head_count_kv(shape.num_attention_heads)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_rope_dimension_count(shape.qk_rope_head_dim)
    writer.add_layer_norm_rms_eps(shape.rms_norm_eps)
    writer.add_kv_lora_rank(shape.kv_lora_rank)
    writer.add_key_length(shape.qk_head_dim)
    writer.add_value_length(shape.v_head_dim)
    writer.add_bool("plm_edge.random", True)
    if layout == "edge":
        writer.add_string("plm.tensor_data_layout", "edge")


def tensor_shapes(shape: PlmShape, layout: str) -> dict[str, tuple[int, ...]]:
    """Every tensor with its shape, row length last."""
    hidden, heads, rank = shape.hidden_size, shape.num_attention_heads, shape.kv_lora_rank
    nope, value, wide = shape.qk_nope_head_dim, shape.v_head_dim, shape.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (shape.vocab_size, hidden),
        "output_norm.weight": (hidden,),
    }
    for layer in range(shape.num_hidden_layers):
        block = f"blk.{layer}"
        shapes[f"{block}.attn_norm.weight"] = (hidden,)
        shapes[f"{block}.attn_q.weight"] = (heads * shape.qk_head_dim, hidden)
        shapes[f"{block}.attn_kv_a_mqa.weight"] = (shape.latent_width, hidden)
        shapes[f"{block}.attn_kv_a_norm.weight"] = (rank,)
        shapes[f"{block}.attn_output.weight"] = (hidden, heads * value)
        shapes[f"{block}.ffn_norm.weight"] = (hidden,)
        shapes[f"{block}.ffn_up.weight"] = (wide, hidden)
        if layout == "edge":
            shapes[f"{block}.attn_k_b.weight"] = (heads, rank, nope)
            shapes[f"{block}.attn_v_b.weight"] = (heads, value, rank)
            shapes[f"{block}.ffn_down.weight"] = (wide, hidden)
        else:
            shapes[f"{block}.attn_kv_b.weight"] = (heads * (nope + value), rank)
            shapes[f"{block}.ffn_down.weight"] = (hidden, wide)
    return shapes
