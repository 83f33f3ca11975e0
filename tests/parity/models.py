"""The models that parity is checked on: seeded, small, in both layouts, with their judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, quants

from plm_edge.convert.pipeline import convert
from plm_edge.convert.synth import SHAPES, write_checkpoint
from plm_edge.model.reference import Memory, Reference
from plm_edge.shape import PlmShape

TINY = SHAPES["tiny"]

MODELS: dict[str, PlmShape] = {
    "tiny": TINY,
    "nano": SHAPES["nano"],
    # Nothing a multiple of 32, value heads wider than key heads, another theta and epsilon.
    "odd": PlmShape(
        hidden_size=84,
        num_hidden_layers=3,
        num_attention_heads=3,
        kv_lora_rank=44,
        qk_nope_head_dim=20,
        qk_rope_head_dim=12,
        v_head_dim=28,
        intermediate_size=212,
        vocab_size=301,
        max_position_embeddings=512,
        rope_theta=10000.0,
        rms_norm_eps=1e-5,
    ),
    # One head of attention, five layers, a latent wider than keys and values together.
    "one-head": replace(
        TINY, num_attention_heads=1, num_hidden_layers=5, kv_lora_rank=96, qk_nope_head_dim=64
    ),
    # For the depth of a full context.
    "long": replace(TINY, num_attention_heads=2, max_position_embeddings=4096),
    # PLM-1.8B's own attention in two narrow layers, so that the judge gets through 4000 tokens.
    "deep": PlmShape(hidden_size=256, num_hidden_layers=2, intermediate_size=1024, vocab_size=512),
    # PLM-1.8B's own dimensions, two of its layers, a small vocabulary.
    "true-shape": PlmShape(num_hidden_layers=2, vocab_size=512),
}


@dataclass(frozen=True)
class Model:
    """A checkpoint and the places of its GGUF files."""

    folder: Path
    shape: PlmShape

    @cached_property
    def reference(self) -> Reference:
        """The judge on the checkpoint's own weights."""
        return Reference.from_checkpoint(self.folder)

    def gguf(self, layout: str, type_name: str = "f32") -> Path:
        """The converted file, made when first asked for."""
        path = self.folder.with_name(f"{self.folder.name}-{layout}-{type_name}.gguf")
        if not path.exists():
            convert(self.folder, path, layout=layout, type_name=type_name)
        return path

    def tokens(self, count: int, seed: int = 0) -> list[int]:
        """Random ids; the rows of padding are left out."""
        generator = np.random.default_rng(seed)
        return generator.integers(0, self.shape.vocab_size - 4, count).tolist()


class ModelStore:
    """Makes each model once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[tuple[str, int], Model] = {}

    def get(self, name: str, seed: int = 1) -> Model:
        """The model of that name and seed, with f32 weights."""
        if (name, seed) not in self._made:
            folder = self._folder / f"{name}-{seed}"
            write_checkpoint(folder, MODELS[name], seed=seed, dtype="f32")
            self._made[name, seed] = Model(folder, MODELS[name])
        return self._made[name, seed]


def _q8_0(rows: np.ndarray) -> np.ndarray:
    kind = GGMLQuantizationType.Q8_0
    return quants.dequantize(quants.quantize(rows.astype(np.float32), kind), kind).astype(float)


# What a cache type makes of its rows.
ROUNDING: dict[str, Callable[[np.ndarray], np.ndarray] | None] = {
    "f32": None,
    "f16": lambda rows: rows.astype(np.float16).astype(np.float64),
    "q8_0": _q8_0,
}


def expected(
    reference: Reference, tokens: Sequence[int], cache: str = "f32", memory: Memory | None = None
) -> np.ndarray:
    """The judge's logits on a cache of that type, 256 tokens at a time to save memory."""
    memory = memory or Memory(ROUNDING[cache])
    parts = [tokens[start : start + 256] for start in range(0, len(tokens), 256)]
    return np.concatenate([reference.run(part, memory) for part in parts])
