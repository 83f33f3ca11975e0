"""One layer of random weights, scaled by running it: scores, shares of the residual, sparsity.

Random weights alone give a squared ReLU that is zero half of the time. Here the residual stream
carries a constant direction (as trained models do), and each neuron of `up_proj` reads it with a
negative weight; how negative, the activations of real token sequences decide.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plm_edge.convert.synth_storage import Array, decode, encode
from plm_edge.shape import PlmShape

# Spread of attention scores over the keys of a query: few keys carry the weight however many
# there are, so that the size of what attention adds, and with it the sparsity, depends little on
# the length of the context.
SCORE_SPREAD = 3.0
# What attention adds to the residual stream relative to what the FFN adds; for the same reason.
ATTENTION_SHARE = 0.6
# Relative spread of the neurons' thresholds: some fire twice as often as the average, some half.
THRESHOLD_SPREAD = 0.25
# Share of the constant direction in the RMS of the residual stream: enough for `up_proj` to read
# it with small weights, little enough to leave the stream to the tokens.
CONSTANT_SHARE = 0.35
# The first queries see too few keys to tell the spread of their scores.
_FIRST_MEASURED_QUERY = 16


@dataclass(frozen=True)
class Synthesis:
    """What is asked for, and the constants that follow from it."""

    shape: PlmShape
    seed: int
    dtype: str
    zero_fraction: float

    @property
    def ffn_share(self) -> float:
        """RMS that an FFN adds, relative to the residual it is added to."""
        return math.sqrt(min(0.5, 2.0 / self.shape.num_hidden_layers))

    def generator(self, *path: int) -> np.random.Generator:
        """The random numbers of one tensor, the same whatever was drawn before."""
        return np.random.default_rng([self.seed, *path])

    def constant(self) -> Array:
        """The constant direction: one sign per dimension."""
        signs = self.generator(0).integers(0, 2, self.shape.hidden_size) * 2 - 1
        return signs.astype(np.float32)


@dataclass(frozen=True)
class Layer:
    """A layer's tensors as stored, what it makes of the tokens, and how sparse that was."""

    tensors: dict[str, NDArray[Any]]
    residual: Array
    zero_fraction: float


class LayerMaker:
    """Draws and scales the tensors of layer `index`, running each as soon as it is fixed.

    The first half of the sequences calibrates, the second half measures.
    """

    def __init__(self, synthesis: Synthesis, index: int) -> None:
        self.synthesis = synthesis
        self.shape = synthesis.shape
        self._index = index
        self._tensors: dict[str, NDArray[Any]] = {}

    def make(self, residual: Array) -> Layer:
        """The layer for `residual` (sequences, tokens, hidden)."""
        residual = residual + self._attention(residual)
        output, zero_fraction = self._ffn(residual)
        return Layer(self._tensors, residual + output, zero_fraction)

    def _generator(self, name: str) -> np.random.Generator:
        return self.synthesis.generator(1, self._index, zlib.crc32(name.encode()))

    def _normal(self, name: str, rows: int, columns: int) -> Array:
        """Unit-gain weights: standard normal over the square root of the columns."""
        values = self._generator(name).standard_normal((rows, columns), dtype=np.float32)
        values *= np.float32(1 / math.sqrt(columns))
        return values

    def _norm_weight(self, name: str, size: int) -> Array:
        return self._keep(name, norm_weight(self._generator(name), size))

    def _keep(self, name: str, values: Array) -> Array:
        """Store a tensor and return it as the file's reader will see it."""
        stored = encode(values, self.synthesis.dtype)
        self._tensors[name] = stored
        return decode(stored, self.synthesis.dtype)

    def _attention(self, residual: Array) -> Array:
        shape = self.shape
        norm = self._norm_weight("input_layernorm", shape.hidden_size)
        normed = rms_norm(residual, norm, shape.rms_norm_eps)
        constant = unit(norm * self.synthesis.constant())
        expanded, key_rope = self._keys_and_values(normed, constant)
        keys, values = np.split(expanded, [shape.qk_nope_head_dim], axis=-1)
        weights = softmax(self._scores(normed, constant, keys, key_rope))
        mixed = np.matmul(weights, values).transpose(0, 2, 1, 3)
        return self._write_back(
            "self_attn.o_proj", mixed.reshape(*residual.shape[:2], -1), residual
        )

    def _keys_and_values(self, normed: Array, constant: Array) -> tuple[Array, Array]:
        """(sequences, heads, tokens, nope + v), and the rotated keys that all heads share."""
        shape = self.shape
        rank, heads = shape.kv_lora_rank, shape.num_attention_heads
        name = "self_attn.kv_a_proj_with_mqa"
        weight = without(self._normal(name, shape.latent_width, shape.hidden_size), constant)
        compressed = normed @ self._keep(name, weight).T
        norm = self._norm_weight("self_attn.kv_a_layernorm", rank)
        latent = rms_norm(compressed[..., :rank], norm, shape.rms_norm_eps)
        name = "self_attn.kv_b_proj"
        weight = self._normal(name, heads * (shape.qk_nope_head_dim + shape.v_head_dim), rank)
        expanded = split_heads(latent @ self._keep(name, weight).T, heads)
        return expanded, rotate(compressed[:, None, :, rank:], shape.rope_theta)

    def _scores(self, normed: Array, constant: Array, keys: Array, key_rope: Array) -> Array:
        """(sequences, heads, queries, keys), with q_proj scaled to spread them as wanted."""
        shape = self.shape
        name = "self_attn.q_proj"
        rows = shape.num_attention_heads * shape.qk_head_dim
        weight = without(self._normal(name, rows, shape.hidden_size), constant)
        scores = self._raw_scores(normed @ weight.T, keys, key_rope)
        scale = coarse(SCORE_SPREAD / spread(scores))
        self._keep(name, weight * scale)
        return scores * scale

    def _raw_scores(self, query: Array, keys: Array, key_rope: Array) -> Array:
        """Future keys are -inf."""
        shape = self.shape
        heads = split_heads(query, shape.num_attention_heads)
        still, turning = np.split(heads, [shape.qk_nope_head_dim], axis=-1)
        scores: Array = np.matmul(still, keys.swapaxes(-1, -2))
        scores += np.matmul(rotate(turning, shape.rope_theta), key_rope.swapaxes(-1, -2))
        scores /= np.float32(math.sqrt(shape.qk_head_dim))
        future = np.triu(np.ones(scores.shape[-2:], dtype=bool), 1)
        scores[..., future] = -np.inf
        return scores

    def _write_back(self, name: str, values: Array, residual: Array) -> Array:
        """A projection into the residual, scaled to its share and silent along the constant."""
        constant = self.synthesis.constant()
        weight = self._normal(name, self.shape.hidden_size, values.shape[-1])
        weight -= np.outer(unit(constant), unit(constant) @ weight)
        output: Array = values @ weight.T
        share = self.synthesis.ffn_share * (1 if name == "mlp.down_proj" else ATTENTION_SHARE)
        scale = coarse(share * rms(calibration(residual)) / rms(calibration(output)))
        weight *= scale
        output *= scale
        if name == "mlp.down_proj":
            refill = self._refill(values, output, residual)
            weight += (constant * refill)[:, None]
            output += values.sum(-1, keepdims=True) * (constant * refill)
        self._keep(name, weight)
        return output

    def _refill(self, live: Array, output: Array, residual: Array) -> float:
        """What every live neuron adds along the constant, to keep its share as the rest grows."""
        constant = self.synthesis.constant()
        along = calibration(residual) @ constant / np.float32(len(constant))
        rest = calibration(residual + output) - along[..., None] * constant
        wanted = CONSTANT_SHARE / math.sqrt(1 - CONSTANT_SHARE**2) * rms(rest)
        return coarse((wanted - float(along.mean())) / float(calibration(live).sum(-1).mean()))

    def _ffn(self, residual: Array) -> tuple[Array, float]:
        shape = self.shape
        norm = self._norm_weight("post_attention_layernorm", shape.hidden_size)
        normed = rms_norm(residual, norm, shape.rms_norm_eps)
        constant = self.synthesis.constant()
        name = "mlp.up_proj"
        up = self._normal(name, shape.intermediate_size, shape.hidden_size)
        up = without(up, unit(norm * constant))
        # Divided by the norm's weights, the direction reads the constant and nothing else.
        up -= self._thresholds(normed, up, unit(constant / norm))
        up = self._keep(name, up)
        live = np.maximum(normed @ up.T, 0)
        live *= live
        zero_fraction = float((held_out(live) == 0).mean(dtype=np.float64))
        return self._write_back("mlp.down_proj", live, residual), zero_fraction

    def _thresholds(self, normed: Array, up: Array, constant: Array) -> Array:
        """What to take off each neuron's row so that the wanted fraction is not positive."""
        generator = self.synthesis.generator(2, self._index)
        factors = generator.standard_normal(len(up), dtype=np.float32) * THRESHOLD_SPREAD + 1
        factors = np.maximum(factors, 0.25)
        tokens = calibration(normed).reshape(-1, normed.shape[-1])
        ratios = (tokens @ up.T) / ((tokens @ constant)[:, None] * factors)
        threshold = coarse(float(np.quantile(ratios, self.synthesis.zero_fraction)))
        return np.outer(factors * threshold, constant)


def calibration(values: Array) -> Array:
    """The sequences that scales are taken from."""
    return values[: len(values) // 2]


def held_out(values: Array) -> Array:
    """The sequences that results are measured on."""
    return values[len(values) // 2 :]


def norm_weight(generator: np.random.Generator, size: int) -> Array:
    """Positive weights around 1, uneven enough that leaving them out shows."""
    weight: Array = np.exp(0.2 * generator.standard_normal(size, dtype=np.float32))
    return weight


def coarse(value: float) -> float:
    """`value` to three digits, so that the last bits of another CPU's sums change no weight."""
    return float(f"{value:.3g}")


def rms(values: Array) -> float:
    """Root of the mean square over everything."""
    return math.sqrt(float(np.mean(np.square(values), dtype=np.float64)))


def unit(values: Array) -> Array:
    """The vector's direction."""
    direction: Array = values / np.float32(np.linalg.norm(values))
    return direction


def without(matrix: Array, direction: Array) -> Array:
    """The matrix, made blind in place to inputs along the unit vector `direction`."""
    matrix -= np.outer(matrix @ direction, direction)
    return matrix


def rms_norm(values: Array, weight: Array, epsilon: float) -> Array:
    """RMSNorm over the last axis."""
    mean_square: Array = np.mean(np.square(values), axis=-1, keepdims=True)
    normed: Array = values / np.sqrt(mean_square + np.float32(epsilon)) * weight
    return normed


def split_heads(values: Array, heads: int) -> Array:
    """(sequences, tokens, heads * width) as (sequences, heads, tokens, width)."""
    split: Array = values.reshape(*values.shape[:-1], heads, -1).swapaxes(1, 2)
    return split


def rotate(values: Array, theta: float) -> Array:
    """Rotary embedding of adjacent pairs; `values` is (sequences, heads, tokens, width)."""
    pairs = values.shape[-1] // 2
    frequencies = theta ** -(np.arange(pairs) / pairs)
    angles = np.arange(values.shape[2])[:, None] * frequencies
    turned = np.ascontiguousarray(values, dtype=np.float32).view(np.complex64)
    rotated: Array = (turned * np.exp(1j * angles).astype(np.complex64)).view(np.float32)
    return rotated


def softmax(scores: Array) -> Array:
    """Over the last axis; -inf becomes 0."""
    weights: Array = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights


def spread(scores: Array) -> float:
    """The typical standard deviation of a query's scores over the keys it sees."""
    rows = calibration(scores)[:, :, min(_FIRST_MEASURED_QUERY, scores.shape[-1] - 1) :]
    seen = np.isfinite(rows)
    counts = seen.sum(-1)
    values = np.where(seen, rows, 0)
    variance = np.square(values).sum(-1) / counts - np.square(values.sum(-1) / counts)
    return math.sqrt(max(float(variance.mean(dtype=np.float64)), 1e-12))
