from __future__ import annotations

import numpy as np
import pytest

from plm_edge.convert.relayout import HeadSplit, transposed_strips


@pytest.mark.parametrize(("rows", "columns", "at_once"), [(3, 5, 2), (64, 200, 130), (1, 1, 9)])
def test_strips_make_up_the_transpose(rows: int, columns: int, at_once: int) -> None:
    matrix = np.arange(rows * columns, dtype=np.uint16).reshape(rows, columns)
    strips = list(transposed_strips(matrix, at_once))
    assert [first for first, _ in strips] == list(range(0, columns, at_once))
    assert all(strip.flags.c_contiguous for _, strip in strips)
    assert np.array_equal(np.concatenate([strip for _, strip in strips]), matrix.T)


def test_absorbed_attention_gives_the_same_scores_and_values() -> None:
    """k_b and v_b do what kv_b does: q·(k of the latent), and the value of the latent."""
    random = np.random.default_rng(0)
    heads, nope, value, rank = 3, 4, 5, 7
    kv_b = random.standard_normal((heads * (nope + value), rank))
    latent, query = random.standard_normal(rank), random.standard_normal((heads, nope))
    key_b, value_b = HeadSplit(heads, nope, value).split(kv_b)
    assert key_b.shape == (heads, rank, nope)
    assert value_b.shape == (heads, value, rank)
    expanded = (kv_b @ latent).reshape(heads, nope + value)
    scores = (expanded[:, :nope] * query).sum(axis=1)
    absorbed = (key_b @ query[:, :, None])[:, :, 0] @ latent
    np.testing.assert_allclose(absorbed, scores, rtol=1e-12)
    np.testing.assert_allclose(value_b @ latent, expanded[:, nope:], rtol=1e-12)


def test_join_is_the_inverse_of_split() -> None:
    matrix = np.arange(2 * 7 * 6, dtype=np.uint16).reshape(14, 6)
    split = HeadSplit(2, 3, 4)
    assert np.array_equal(split.join(*split.split(matrix)), matrix)
