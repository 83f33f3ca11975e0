"""A PLM of 1.6 MB that reads bytes, written with the `gguf` package and nothing of ours."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from plm_edge.shape import PlmShape
from tests.quantize.tiny import add_metadata, add_tensor, tensor_shapes

BYTES = 256
SHAPE = PlmShape(
    hidden_size=256,
    num_hidden_layers=2,
    num_attention_heads=2,
    kv_lora_rank=256,
    qk_nope_head_dim=32,
    qk_rope_head_dim=32,
    v_head_dim=32,
    intermediate_size=256,
    vocab_size=BYTES + 1,
    max_position_embeddings=256,
)
TEXT = "The quick brown fox jumps over the lazy dog; naïve café. 0123456789\n" * 20


def byte_letters() -> list[str]:
    """A printable letter for each byte, as GPT-2's vocabulary has them."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (byte for byte in range(BYTES) if byte not in printable)
    extra = {byte: chr(BYTES + i) for i, byte in enumerate(others)}
    return [extra.get(byte, chr(byte)) for byte in range(BYTES)]


def write_model(
    path: Path,
    *,
    dtype: str = "f32",
    layout: str = "edge",
    seed: int = 1,
    noise: float = 0.0,
    add_bos: bool = False,
) -> Path:
    """A model with seeded weights; `noise` moves all matrices by that share of themselves."""
    writer = gguf.GGUFWriter(path, "plm")
    add_metadata(writer, SHAPE, layout)
    _add_vocabulary(writer, add_bos)
    random, moved = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    for name, size in tensor_shapes(SHAPE, layout).items():
        values = random.standard_normal(size, dtype=np.float32)
        values = 1 + values / 10 if "norm" in name else values / 12
        if "norm" not in name:
            values *= 1 + noise * moved.standard_normal(size, dtype=np.float32)
        add_tensor(writer, name, values, dtype)
    for step in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{step}_to_file")()
    writer.close()
    return path


def _add_vocabulary(writer: gguf.GGUFWriter, add_bos: bool) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([*byte_letters(), "<|end|>"])
    writer.add_token_types([gguf.TokenType.NORMAL] * BYTES + [gguf.TokenType.CONTROL])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(BYTES)
    writer.add_bos_token_id(BYTES)
    writer.add_add_bos_token(add_bos)
