"""Intervals against published values and simulation, percentiles against definition."""

from __future__ import annotations

import numpy as np
import pytest

from plm_edge.eval.tasks import statistics


def test_wilson_against_published_values() -> None:
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    assert statistics.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert statistics.wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert statistics.wilson(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
    assert statistics.wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_bootstrap_covers_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(5)
    hits = 0
    for _ in range(40):
        low, high = statistics.bootstrap(draw.uniform(size=60).tolist())
        hits += low <= 0.5 <= high
    assert hits >= 33  # 38 expected; below 33 has a chance of 1 in 200


def test_hits_and_misses_get_wilson_s_interval() -> None:
    found = statistics.score([1.0, 0.0, 1.0, 1.0])
    assert (found.value, found.items) == (0.75, 4)
    assert (found.low, found.high) == statistics.wilson(3, 4)


def test_shares_get_the_bootstrap_s() -> None:
    found = statistics.score([0.5, 0.25, 1.0])
    assert found.low <= found.value <= found.high
    assert found == statistics.score([0.5, 0.25, 1.0])


def test_pairs_are_told_apart_where_means_alone_are_not() -> None:
    hard = np.linspace(0, 1, 50)
    ours = (hard + 0.01).tolist()
    difference = statistics.paired_difference(ours, hard.tolist())
    assert difference.low > 0
    assert statistics.score(ours).low < statistics.score(hard.tolist()).value


def test_percentiles() -> None:
    found = statistics.percentiles([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (found["p50"], found["mean"]) == (3, 3)
    assert found["p10"] == pytest.approx(1.4)
    assert found["p90"] == pytest.approx(4.6)
