"""A PLM that says what the test tells it to: each token is followed by a known next one.

Embeddings are one-hot and attention adds nothing, so the only neuron that fires is the one of
the last token; what it writes to the residual stream names the next. The answer to any prompt
thus starts at the template's last token, a newline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTROLS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
END = "<|im_end|>"
NEWLINE = "\n"

HEADS, NOPE, ROPE, VALUE, RANK = 2, 32, 32, 32, 32


@dataclass(frozen=True)
class Script:
    """What the model says after the template's newline: pieces of text, then the end or a loop."""

    pieces: Sequence[str | bytes] = ("One", " two", " three")
    loops: bool = False
    template: str | None = CHATML
    context_tokens: int = 4096
    name: str = "scripted"
    certainty: float = 170.0  # logit of the token that follows; all others have 0
    attention_seed: int | None = None  # random attention weights, so that all of the prompt counts
    layers: int = 1  # those after the first do nothing but take time
    overrides: Mapping[str, Any] = field(default_factory=dict)


def write_scripted(path: Path, script: Script = Script()) -> Path:
    """Write the GGUF (stock layout, f32) and return its path."""
    tokens, kinds = _vocabulary(script)
    width = -(-len(tokens) // 32) * 32
    tokens += [f"[PAD{i}]" for i in range(len(tokens), width)]
    kinds += [int(gguf.TokenType.UNUSED)] * (width - len(kinds))
    writer = gguf.GGUFWriter(path, "plm")
    _write_header(writer, script, width)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(["o n"])
    writer.add_eos_token_id(tokens.index(END))
    if script.template is not None:
        writer.add_chat_template(script.template)
    for name, array in _tensors(tokens, script, width).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_header(writer: gguf.GGUFWriter, script: Script, width: int) -> None:
    values: dict[str, Any] = {
        "plm.block_count": script.layers,
        "plm.context_length": script.context_tokens,
        "plm.embedding_length": width,
        "plm.feed_forward_length": width,
        "plm.attention.head_count": HEADS,
        "plm.attention.head_count_kv": HEADS,
        "plm.attention.key_length": NOPE + ROPE,
        "plm.attention.value_length": VALUE,
        "plm.attention.kv_lora_rank": RANK,
        "plm.rope.dimension_count": ROPE,
        "plm.rope.freq_base": 10000.0,
        "plm.attention.layer_norm_rms_epsilon": 1e-6,
        "plm.vocab_size": width,
        **script.overrides,
    }
    writer.add_name(script.name)
    for key, value in values.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_uint32(key, value)


def byte_letters() -> list[str]:
    """GPT-2's printable letter for each byte."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(byte if byte in keep else next(spare)) for byte in range(256)]


def _spelled(piece: str | bytes) -> str:
    raw = piece.encode() if isinstance(piece, str) else piece
    letters = byte_letters()
    return "".join(letters[byte] for byte in raw)


def _vocabulary(script: Script) -> tuple[list[str], list[int]]:
    words = [_spelled(piece) for piece in script.pieces if piece not in CONTROLS]
    plain = list(dict.fromkeys([*byte_letters(), "on", *words]))
    kinds = [int(gguf.TokenType.NORMAL)] * len(plain) + [int(gguf.TokenType.CONTROL)] * 3
    return plain + list(CONTROLS), kinds


def _tensors(tokens: list[str], script: Script, width: int) -> dict[str, np.ndarray]:
    zeros = lambda *shape: np.zeros(shape, np.float32)  # noqa: E731
    identity = np.eye(width, dtype=np.float32)
    following = [*map(_spelled, script.pieces)]
    chain = [_spelled(NEWLINE), *following]
    ends = [*following, following[0] if script.loops else END]
    down = zeros(width, width)
    for now, then in zip(chain, ends, strict=True):
        down[tokens.index(then), tokens.index(now)] = 100.0
    tensors = {
        "token_embd.weight": identity,
        "output_norm.weight": np.full(width, script.certainty / width**0.5, np.float32),
        "blk.0.attn_norm.weight": np.ones(width, np.float32),
        "blk.0.attn_q.weight": zeros(HEADS * (NOPE + ROPE), width),
        "blk.0.attn_kv_a_mqa.weight": zeros(RANK + ROPE, width),
        "blk.0.attn_kv_a_norm.weight": np.ones(RANK, np.float32),
        "blk.0.attn_kv_b.weight": zeros(HEADS * (NOPE + VALUE), RANK),
        "blk.0.attn_output.weight": zeros(width, HEADS * VALUE),
        "blk.0.ffn_norm.weight": np.ones(width, np.float32),
        "blk.0.ffn_up.weight": identity,
        "blk.0.ffn_down.weight": down,
    }
    silent = {
        name.removeprefix("blk.0."): array if "norm" in name else np.zeros_like(array)
        for name, array in tensors.items()
        if name.startswith("blk.0.")
    }
    for layer in range(1, script.layers):
        tensors |= {f"blk.{layer}.{name}": array for name, array in silent.items()}
    if script.attention_seed is not None:
        random = np.random.default_rng(script.attention_seed)
        for name in ("attn_q", "attn_kv_a_mqa", "attn_kv_b", "attn_output"):
            weight = tensors[f"blk.0.{name}.weight"]
            weight[:] = random.standard_normal(weight.shape) / weight.shape[1] ** 0.5
        tensors["blk.0.attn_output.weight"] *= 100.0  # as loud as the FFN
    return tensors
