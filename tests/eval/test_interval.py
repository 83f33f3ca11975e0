"""Intervals cover what they should, and pairing takes away what both models share."""

from __future__ import annotations

import numpy as np
import pytest

from plm_edge.eval import interval


def test_the_same_values_give_the_same_interval() -> None:
    values = [1.0, 2.0, 4.0, 3.0]
    assert interval.mean(values) == interval.mean(values)
    assert interval.mean(values).value == 2.5


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        found = interval.mean(list(draw.exponential(1.0, 60)))
        covered += found.low <= 1.0 <= found.high
    assert 178 <= covered <= 198


def test_pairing_sees_a_small_difference_between_wide_results() -> None:
    draw = np.random.default_rng(2)
    hard = draw.normal(5, 2, 40)
    left = list(hard + 0.05 + draw.normal(0, 0.02, 40))
    found = interval.difference(left, list(hard))
    assert found.is_clear and 0.03 < found.low < 0.05 < found.high < 0.07
    alone = interval.mean(left)
    assert alone.high - alone.low > 20 * (found.high - found.low)


def test_windows_must_be_the_same_ones() -> None:
    with pytest.raises(ValueError, match="2 windows against 1"):
        interval.difference([1.0, 2.0], [1.0])
