"""Writes checkpoints of random weights, in Hugging Face layout, whose FFN is as sparse as asked.

They have PLM's shapes, tokenizer form and sparsity but no knowledge, stand in for a trained model
in benchmarks and tests, and say so in `config.json` (`"plm_edge_random": true`).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plm_edge.console import Progress, no_progress
from plm_edge.convert.synth_config import write_config
from plm_edge.convert.synth_layer import (
    CONSTANT_SHARE,
    LayerMaker,
    Synthesis,
    norm_weight,
    unit,
    without,
)
from plm_edge.convert.synth_storage import (
    DTYPES,
    Array,
    TensorFile,
    decode,
    encode,
)
from plm_edge.convert.synth_tokenizer import (
    Vocabulary,
    make_vocabulary,
    write_tokenizer,
)
from plm_edge.errors import InputError, UsageError
from plm_edge.paths import require_space, write_error
from plm_edge.shape import PlmShape
from plm_edge.shell import quote

SHAPES = {
    "plm-1.8b": PlmShape(),
    # PLM's ratios at 1/8 of the width; every row a multiple of what K-quants and q8_0 need.
    "nano": PlmShape(
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=8,
        kv_lora_rank=64,
        qk_nope_head_dim=32,
        qk_rope_head_dim=32,
        v_head_dim=32,
        intermediate_size=1024,
        vocab_size=2048,
    ),
    # For tests: as small as q8_0's blocks of 32 allow.
    "tiny": PlmShape(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        kv_lora_rank=32,
        qk_nope_head_dim=32,
        qk_rope_head_dim=32,
        v_head_dim=32,
        intermediate_size=256,
        vocab_size=512,
        max_position_embeddings=512,
    ),
}

ZERO_FRACTION = 0.909
"""The share of zeros among PLM-1.8B's squared-ReLU outputs."""

# Standard deviation of the logits, as wide as a trained model's.
_LOGIT_SPREAD = 3.0
# Rows without a token get nearly the same logit everywhere, too low to be sampled.
_PADDING_SCALE = 0.05
_ROWS_PER_CHUNK = 8192
_SEQUENCE_TOKENS = 256
# What one layer may multiply to calibrate: 256 + 256 tokens at the true shape, more below it.
_CALIBRATION_BUDGET = 1 << 33
_SMALL_FILES_BYTES = 32 << 20


@dataclass(frozen=True)
class SynthReport:
    """What was written.

    `zero_fractions` are per layer, on sequences of up to 256 tokens that were not used to set
    them. Shorter contexts have up to 0.007 less, contexts of thousands of tokens as much more.
    """

    folder: Path
    shape: PlmShape
    seed: int
    dtype: str
    wanted_zero_fraction: float
    zero_fractions: tuple[float, ...]
    weight_bytes: int

    @property
    def worst_error(self) -> float:
        """The largest distance of a layer's zero fraction from the wish."""
        return max(abs(value - self.wanted_zero_fraction) for value in self.zero_fractions)


def weight_bytes(shape: PlmShape, dtype: str) -> int:
    """Bytes of weights a checkpoint of this shape takes."""
    return shape.parameters * DTYPES[dtype][1]


def write_checkpoint(
    folder: Path,
    shape: PlmShape,
    *,
    seed: int = 0,
    dtype: str = "bf16",
    zero_fraction: float = ZERO_FRACTION,
    progress: Progress = no_progress,
) -> SynthReport:
    """Write a random checkpoint into `folder`, which must not exist or be empty.

    `progress` counts bytes of weights. The same arguments give the same weights.
    """
    vocabulary = check_request(folder, shape, dtype=dtype, zero_fraction=zero_fraction, seed=seed)
    require_space(folder, weight_bytes(shape, dtype) + _SMALL_FILES_BYTES)
    synthesis = Synthesis(shape, seed, dtype, zero_fraction)
    with _new_folder(folder) as place:
        write_tokenizer(place, vocabulary, shape.max_position_embeddings)
        write_config(place, shape, vocabulary, dtype)
        path = place / "model.safetensors"
        with TensorFile(path, tensor_shapes(shape), dtype) as file:
            fractions = _write_weights(file, synthesis, vocabulary, progress)
    return SynthReport(
        folder, shape, seed, dtype, zero_fraction, fractions, weight_bytes(shape, dtype)
    )


def check_request(
    folder: Path, shape: PlmShape, *, dtype: str, zero_fraction: float, seed: int
) -> Vocabulary:
    """The vocabulary for the request; `InputError`/`UsageError` if it cannot be fulfilled."""
    PlmShape.from_config(asdict(shape), "shape")
    if dtype not in DTYPES:
        raise UsageError(f"type {dtype!r}, expected one of {', '.join(DTYPES)}")
    if not 0.01 <= zero_fraction <= 0.999:
        raise UsageError(f"zero fraction {zero_fraction:g}, expected 0.01 to 0.999")
    if seed < 0:
        raise UsageError(f"seed {seed}, expected 0 or more")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists already", hint=quote(["rm", "-r", folder]))
    return make_vocabulary(shape.vocab_size)


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A temporary sibling of `folder`, renamed onto it on success and removed on failure."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    except OSError as error:
        raise write_error(folder, error) from error
    try:
        yield place
        place.chmod(0o755)
        place.replace(folder)
    except OSError as error:
        raise write_error(folder, error) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def layer_shapes(shape: PlmShape) -> dict[str, tuple[int, ...]]:
    """A layer's tensors without prefix and suffix, in the order of the forward pass."""
    hidden, heads = shape.hidden_size, shape.num_attention_heads
    expanded = heads * (shape.qk_nope_head_dim + shape.v_head_dim)
    return {
        "input_layernorm": (hidden,),
        "self_attn.q_proj": (heads * shape.qk_head_dim, hidden),
        "self_attn.kv_a_proj_with_mqa": (shape.latent_width, hidden),
        "self_attn.kv_a_layernorm": (shape.kv_lora_rank,),
        "self_attn.kv_b_proj": (expanded, shape.kv_lora_rank),
        "self_attn.o_proj": (hidden, heads * shape.v_head_dim),
        "post_attention_layernorm": (hidden,),
        "mlp.up_proj": (shape.intermediate_size, hidden),
        "mlp.down_proj": (hidden, shape.intermediate_size),
    }


def tensor_shapes(shape: PlmShape) -> dict[str, tuple[int, ...]]:
    """Every tensor of a PLM checkpoint, in the order of the forward pass."""
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (shape.vocab_size, shape.hidden_size),
    }
    for index in range(shape.num_hidden_layers):
        for name, size in layer_shapes(shape).items():
            shapes[f"model.layers.{index}.{name}.weight"] = size
    return shapes | {"model.norm.weight": (shape.hidden_size,)}


def _write_weights(
    file: TensorFile, synthesis: Synthesis, vocabulary: Vocabulary, progress: Progress
) -> tuple[float, ...]:
    """Append every tensor in order; the zero fraction of each layer."""

    def append(stored: NDArray[Any]) -> None:
        file.append(stored)
        progress(file.written_bytes, file.total_bytes)

    norm = _output_norm(synthesis)
    tokens = _sample_tokens(synthesis, len(vocabulary.tokens))
    residual = np.empty((*tokens.shape, synthesis.shape.hidden_size), dtype=np.float32)
    for start, stored in _embedding_rows(synthesis, vocabulary, norm):
        append(stored)
        here = (tokens >= start) & (tokens < start + len(stored))
        residual[here] = decode(stored[tokens[here] - start], synthesis.dtype)
    fractions = []
    for index in range(synthesis.shape.num_hidden_layers):
        layer = LayerMaker(synthesis, index).make(residual)
        for name in layer_shapes(synthesis.shape):
            append(layer.tensors[name])
        residual = layer.residual
        fractions.append(layer.zero_fraction)
    append(encode(norm, synthesis.dtype))
    return tuple(fractions)


def _output_norm(synthesis: Synthesis) -> Array:
    """Norm weights of random sign.

    With the embedding tied, positive weights would make every token predict itself.
    """
    generator = synthesis.generator(3)
    size = synthesis.shape.hidden_size
    signs = (generator.integers(0, 2, size) * 2 - 1).astype(np.float32)
    return signs * norm_weight(generator, size)


def _embedding_rows(
    synthesis: Synthesis, vocabulary: Vocabulary, norm: Array
) -> Iterator[tuple[int, NDArray[Any]]]:
    """The embedding in chunks: first row and stored values."""
    hidden, constant = synthesis.shape.hidden_size, synthesis.constant()
    # Blind to the constant as the head sees it, or it would favour the same ids everywhere.
    seen = unit(norm * constant)
    seen = unit(without(seen[None], unit(constant))[0])
    token_share = np.float32(np.sqrt(1 - CONSTANT_SHARE**2))
    scale = np.float32(_LOGIT_SPREAD / np.sqrt(hidden)) / token_share**2
    for start in range(0, vocabulary.size, _ROWS_PER_CHUNK):
        count = min(_ROWS_PER_CHUNK, vocabulary.size - start)
        rows = synthesis.generator(4, start).standard_normal((count, hidden), dtype=np.float32)
        rows = without(without(rows, unit(constant)), seen) * token_share
        rows[max(0, len(vocabulary.tokens) - start) :] *= np.float32(_PADDING_SCALE)
        rows += constant * np.float32(CONSTANT_SHARE)
        yield start, encode(rows * scale, synthesis.dtype)


def _sample_tokens(synthesis: Synthesis, vocabulary_size: int) -> NDArray[np.int64]:
    """Sequences of ids with a text's unevenness (Zipf-Mandelbrot), (sequences, tokens)."""
    shape = synthesis.shape
    length = min(_SEQUENCE_TOKENS, shape.max_position_embeddings)
    affordable = _CALIBRATION_BUDGET // (shape.parameters_per_layer * length)
    half = int(min(max(affordable, 1), 4))
    weights = 1 / (np.arange(vocabulary_size) + 20.0)
    generator = synthesis.generator(5)
    ids = generator.permutation(vocabulary_size)
    drawn = generator.choice(vocabulary_size, (2 * half, length), p=weights / weights.sum())
    return np.asarray(ids[drawn], dtype=np.int64)
