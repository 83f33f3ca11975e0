"""Divergences against plain numpy in double precision, and what the compact form costs."""

from __future__ import annotations

import numpy as np
import pytest

from plm_edge.eval.distribution import Softmax, pack, row_type, score

VOCABULARY = 3000


def logits(seed: int, spread: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((40, VOCABULARY)).astype("f4") * spread


def plain(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    values -= values.max(axis=1, keepdims=True)
    return values - np.log(np.exp(values).sum(axis=1, keepdims=True))


def divergence(base: np.ndarray, other: np.ndarray) -> np.ndarray:
    log = plain(base)
    return (np.exp(log) * (log - plain(other))).sum(axis=1)


CAME = np.arange(40) * 7
BASE, OTHER = logits(1), logits(1) + logits(2, 0.3)


def test_surprise_is_minus_log_probability() -> None:
    found = score(Softmax(BASE), CAME, None).surprise
    assert found == pytest.approx(-plain(BASE)[np.arange(40), CAME], rel=1e-6)


def test_all_tokens_kept_give_the_true_divergence() -> None:
    rows = pack(Softmax(BASE), CAME, VOCABULARY)
    found = score(Softmax(OTHER), CAME, rows)
    true = divergence(BASE, OTHER)
    assert found.divergence == pytest.approx(true, rel=3e-3)
    assert found.divergence.mean() == pytest.approx(true.mean(), rel=2e-4)
    assert list(found.same_top) == list(BASE.argmax(axis=1) == OTHER.argmax(axis=1))


def test_lumping_the_rest_only_takes_away_and_vanishes() -> None:
    true = divergence(BASE, OTHER).mean()
    found = [
        score(Softmax(OTHER), CAME, pack(Softmax(BASE), CAME, top)).divergence.mean()
        for top in (8, 64, 512, VOCABULARY)
    ]
    assert found == sorted(found)
    assert found[0] < true * 0.98
    assert found[2] == pytest.approx(true, rel=0.03)


def test_a_model_is_at_no_distance_from_itself() -> None:
    for top in (1, 16, VOCABULARY):
        found = score(Softmax(BASE), CAME, pack(Softmax(BASE), CAME, top))
        assert np.abs(found.divergence).max() < 1e-6
        assert found.same_top.all()


def test_a_certain_model_has_no_rest_to_speak_of() -> None:
    certain = np.full((2, VOCABULARY), -80, np.float32)
    certain[:, 5] = 80
    rows = pack(Softmax(certain), np.array([5, 5]), 16)
    assert list(rows["tokens"][:, 0]) == [5, 5]
    found = score(Softmax(logits(3)[:2]), np.array([5, 5]), rows)
    assert np.isfinite(found.divergence).all()
    assert found.divergence == pytest.approx(found.surprise, rel=1e-6)


def test_a_row_is_small() -> None:
    assert row_type(1024).itemsize == 6 * 1024 + 16
