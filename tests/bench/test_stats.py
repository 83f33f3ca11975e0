"""Medians and quartiles by hand; ratios whose interval covers what it must."""

from __future__ import annotations

import random

from plm_edge.bench.stats import ratio, summary


def test_summary_by_hand() -> None:
    found = summary([10.0, 30.0, 20.0, 50.0, 40.0])
    assert (found.count, found.median) == (5, 30.0)
    assert (found.lower_quartile, found.upper_quartile) == (20.0, 40.0)
    assert found.spread == 10 / 30


def test_one_sample_has_no_spread() -> None:
    assert summary([7.0]).spread == 0
    assert summary([0.0, 0.0]).spread == 0


def test_a_ratio_is_of_medians_and_repeats_itself() -> None:
    found = ratio([20.0, 22.0, 90.0], [10.0, 11.0, 1.0])
    assert found.value == 2.2
    assert found.low <= found.value <= found.high
    assert found == ratio([20.0, 22.0, 90.0], [10.0, 11.0, 1.0])
    assert ratio([4.0], [2.0]).low == ratio([4.0], [2.0]).high == 2.0


def test_the_interval_covers_the_true_ratio() -> None:
    draw = random.Random(3)
    covered = 0
    for _ in range(60):
        ours = [2 * draw.gauss(10, 0.5) for _ in range(9)]
        theirs = [draw.gauss(10, 0.5) for _ in range(9)]
        found = ratio(ours, theirs)
        covered += found.low <= 2 <= found.high
    assert covered >= 50  # 95 % of 60 is 57; the bootstrap of few samples is a little narrow
