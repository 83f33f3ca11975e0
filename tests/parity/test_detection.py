"""The bounds mean something: models that are wrong in one detail fall far outside of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from plm_edge.model.reference import Reference
from plm_edge.shape import PlmShape
from tests.parity.models import ModelStore
from tests.parity.tolerance import BOUNDS, Difference

Change = Callable[[PlmShape, str, np.ndarray], np.ndarray]


def half_split_pairs(shape: PlmShape, name: str, weight: np.ndarray) -> np.ndarray:
    """Rope on halves instead of adjacent pairs."""
    width = shape.qk_rope_head_dim
    order = np.arange(width).reshape(2, -1).T.ravel()
    if name.endswith("q_proj"):
        rows = weight.reshape(shape.num_attention_heads, shape.qk_head_dim, -1).copy()
        rows[:, -width:] = rows[:, -width:][:, order]
        return rows.reshape(weight.shape)
    if name.endswith("kv_a_proj_with_mqa"):
        return np.concatenate([weight[:-width], weight[-width:][order]])
    return weight


def scale_without_rope(shape: PlmShape, name: str, weight: np.ndarray) -> np.ndarray:
    """Scores over the root of the part without position, not of the whole head."""
    factor = (shape.qk_head_dim / shape.qk_nope_head_dim) ** 0.5
    return weight * factor if name.endswith("q_proj") else weight


def no_latent_norm_weight(shape: PlmShape, name: str, weight: np.ndarray) -> np.ndarray:
    """The latent normed, but not weighted."""
    return np.ones_like(weight) if name.endswith("kv_a_layernorm") else weight


def heads_swapped(shape: PlmShape, name: str, weight: np.ndarray) -> np.ndarray:
    """Two heads of kv_b in each other's place."""
    if not name.endswith("kv_b_proj"):
        return weight
    heads = weight.reshape(shape.num_attention_heads, -1, shape.kv_lora_rank)
    return heads[[1, 0, *range(2, len(heads))]].reshape(weight.shape)


def some_neurons_skipped(shape: PlmShape, name: str, weight: np.ndarray) -> np.ndarray:
    """One neuron in sixteen taken for dead."""
    if not name.endswith("down_proj"):
        return weight
    weight = weight.copy()
    weight[:, ::16] = 0
    return weight


@pytest.mark.parametrize(
    "change",
    [
        half_split_pairs,
        scale_without_rope,
        no_latent_norm_weight,
        heads_swapped,
        some_neurons_skipped,
    ],
)
@pytest.mark.parametrize("name", ["tiny", "nano"])
def test_a_wrong_detail_is_far_outside(models: ModelStore, name: str, change: Change) -> None:
    right = models.get(name).reference
    wrong = Reference(
        right.shape, lambda weight: change(right.shape, weight, right.weights(weight))
    )
    tokens = models.get(name).tokens(100)
    difference = Difference.between(wrong.logits(tokens), right.logits(tokens))
    assert difference.overall > 3 * BOUNDS["q8_0"].overall


def test_a_wrong_theta_is_far_outside(models: ModelStore) -> None:
    right = models.get("tiny").reference
    wrong = Reference(replace(right.shape, rope_theta=10000.0), right.weights)
    tokens = models.get("tiny").tokens(100)
    difference = Difference.between(wrong.logits(tokens), right.logits(tokens))
    assert difference.overall > 3 * BOUNDS["q8_0"].overall


def test_one_wrong_token_shows_in_the_worst(models: ModelStore) -> None:
    right = models.get("tiny").reference.logits(models.get("tiny").tokens(100))
    wrong = right.copy()
    wrong[50] = right[51]
    difference = Difference.between(wrong, right)
    assert difference.worst > 3 * BOUNDS["q8_0"].worst
