"""The judge: PLM's forward pass in float64, written to be read, not to be fast.

Follows the published model code (pre-norm blocks, DeepSeek-V2 attention with queries that are not
compressed, rotary embedding of adjacent pairs, ungated squared-ReLU FFN, tied embedding). It
shares no code with the converter, the synthesizer or the PyTorch model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plm_edge.errors import InputError
from plm_edge.model.reference_weights import Weights, checkpoint_weights, gguf_weights
from plm_edge.shape import PlmShape

Array = NDArray[np.float64]

Observer = Callable[[int, Array], None]
"""Called with a layer's number and its squared-ReLU outputs (tokens, intermediate)."""


@dataclass
class Memory:
    """What earlier tokens left behind: per layer the latents and the keys not yet rotated.

    Keeping the keys unrotated makes a shift of positions exact. With `rounding`, the rows go
    through it as an engine's cache would store them, (tokens, rank + rope) with the key rotated.
    """

    rounding: Callable[[Array], Array] | None = None
    positions: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    latents: list[Array] = field(default_factory=list)
    keys: list[Array] = field(default_factory=list)

    def copy(self) -> Memory:
        """A memory that goes its own way from here."""
        return Memory(self.rounding, self.positions.copy(), list(self.latents), list(self.keys))

    def remove(self, start: int, end: int) -> None:
        """Forget the tokens at positions `start` to `end` (excluded)."""
        keep = (self.positions < start) | (self.positions >= end)
        self.positions = self.positions[keep]
        self.latents = [latent[keep] for latent in self.latents]
        self.keys = [key[keep] for key in self.keys]

    def shift(self, start: int, end: int, distance: int) -> None:
        """Move the tokens at positions `start` to `end` (excluded) by `distance`."""
        moved = (self.positions >= start) & (self.positions < end)
        self.positions = self.positions + distance * moved

    def extend(self, layer: int, latent: Array, key: Array) -> tuple[Array, Array]:
        """Append the new tokens' latents and keys; all of them, oldest first."""
        if layer == len(self.latents):
            self.latents.append(latent)
            self.keys.append(key)
        else:
            self.latents[layer] = np.concatenate([self.latents[layer], latent])
            self.keys[layer] = np.concatenate([self.keys[layer], key])
        return self.latents[layer], self.keys[layer]


class Reference:
    """A PLM that answers in float64."""

    def __init__(self, shape: PlmShape, weights: Weights) -> None:
        self.shape = shape
        self.weights = weights

    @classmethod
    def from_checkpoint(cls, folder: Path) -> Reference:
        """From a Hugging Face folder with safetensors, whole or in shards."""
        return cls(*checkpoint_weights(folder))

    @classmethod
    def from_gguf(cls, path: Path) -> Reference:
        """From a GGUF of either layout, its tensors dequantized."""
        return cls(*gguf_weights(path))

    def logits(self, tokens: Sequence[int]) -> Array:
        """(tokens, vocab): what follows each token, given those before it."""
        return self.run(tokens, Memory())

    def zero_fractions(self, tokens: Sequence[int]) -> tuple[float, ...]:
        """Per layer, the share of zeros among the squared-ReLU outputs."""
        found: list[float] = []
        self.run(tokens, Memory(), lambda _, live: found.append(float((live == 0).mean())))
        return tuple(found)

    def run(self, tokens: Sequence[int], memory: Memory, observe: Observer | None = None) -> Array:
        """(tokens, vocab) for tokens that follow what `memory` holds; `memory` grows by them."""
        ids = self._checked(tokens)
        embedding = self.weights("model.embed_tokens")  # (vocab, hidden)
        residual = embedding[ids]  # (tokens, hidden)
        start = int(memory.positions.max()) + 1 if len(memory.positions) else 0
        memory.positions = np.concatenate([memory.positions, start + np.arange(len(ids))])
        for layer in range(self.shape.num_hidden_layers):
            residual = residual + self._attention(layer, residual, memory)
            live = self._live(layer, residual)
            if observe is not None:
                observe(layer, live)
            residual = residual + live @ self._weight(layer, "mlp.down_proj").T
        return self._norm(residual, self.weights("model.norm")) @ embedding.T

    def _checked(self, tokens: Sequence[int]) -> NDArray[np.int64]:
        ids = np.asarray(tokens, dtype=np.int64)
        wrong = ids[(ids < 0) | (ids >= self.shape.vocab_size)]
        if len(wrong):
            raise InputError(f"token {wrong[0]}, expected 0 to {self.shape.vocab_size - 1}")
        return ids

    def _weight(self, layer: int, name: str) -> Array:
        return self.weights(f"model.layers.{layer}.{name}")

    def _norm(self, values: Array, weight: Array) -> Array:
        mean_square = np.mean(np.square(values), axis=-1, keepdims=True)
        normed: Array = values / np.sqrt(mean_square + self.shape.rms_norm_eps) * weight
        return normed

    def _live(self, layer: int, residual: Array) -> Array:
        """The squared-ReLU outputs, (tokens, intermediate)."""
        normed = self._norm(residual, self._weight(layer, "post_attention_layernorm"))
        live: Array = np.maximum(normed @ self._weight(layer, "mlp.up_proj").T, 0.0)
        return live * live

    def _attention(self, layer: int, residual: Array, memory: Memory) -> Array:
        shape = self.shape
        heads, nope, rank = shape.num_attention_heads, shape.qk_nope_head_dim, shape.kv_lora_rank
        normed = self._norm(residual, self._weight(layer, "input_layernorm"))
        here = memory.positions[-len(residual) :]

        # (tokens, heads * (nope + rope)) -> (heads, tokens, nope + rope), rope part last
        query = normed @ self._weight(layer, "self_attn.q_proj").T
        query = query.reshape(len(residual), heads, shape.qk_head_dim).swapaxes(0, 1)
        # (tokens, rank + rope): the latent, and one rotated key for all heads
        compressed = normed @ self._weight(layer, "self_attn.kv_a_proj_with_mqa").T
        latent = self._norm(compressed[:, :rank], self._weight(layer, "self_attn.kv_a_layernorm"))
        key = compressed[:, rank:]
        if memory.rounding is not None:
            row = np.concatenate([latent, rotate(key, here, shape.rope_theta)], axis=1)
            latent, key = np.split(memory.rounding(row), [rank], axis=1)
            key = rotate(key, -here, shape.rope_theta)
        latents, keys = memory.extend(layer, latent, key)

        # (all, heads * (nope + v)) -> (heads, all, nope + v)
        expanded = latents @ self._weight(layer, "self_attn.kv_b_proj").T
        expanded = expanded.reshape(len(latents), heads, nope + shape.v_head_dim).swapaxes(0, 1)
        # (heads, tokens, all)
        scores = query[..., :nope] @ expanded[..., :nope].swapaxes(-1, -2)
        rotated_keys = rotate(keys, memory.positions, shape.rope_theta)
        scores = scores + rotate(query[..., nope:], here, shape.rope_theta) @ rotated_keys.T
        scores = scores / math.sqrt(shape.qk_head_dim)
        scores[:, memory.positions[None, :] > here[:, None]] = -np.inf
        mixed = softmax(scores) @ expanded[..., nope:]  # (heads, tokens, v)
        mixed = mixed.swapaxes(0, 1).reshape(len(residual), heads * shape.v_head_dim)
        return mixed @ self._weight(layer, "self_attn.o_proj").T


def rotate(values: Array, positions: NDArray[np.int64], theta: float) -> Array:
    """Rotary embedding: the pair (2i, 2i + 1) turns by position * theta^(-2i / width).

    `values` is (..., tokens, width).
    """
    width = values.shape[-1]
    frequencies = theta ** (-np.arange(0, width, 2) / width)
    angles = positions[:, None] * frequencies  # (tokens, width / 2)
    first, second = values[..., 0::2], values[..., 1::2]
    turned = np.empty_like(values)
    turned[..., 0::2] = first * np.cos(angles) - second * np.sin(angles)
    turned[..., 1::2] = first * np.sin(angles) + second * np.cos(angles)
    return turned


def softmax(scores: Array) -> Array:
    """Over the last axis; -inf becomes 0."""
    weights: Array = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights
