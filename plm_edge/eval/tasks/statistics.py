"""Intervals and percentiles: how far a score of so many items can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_DRAWS = 2000
_Z = 1.959963984540054  # of a 95 % interval


@dataclass(frozen=True)
class Score:
    """A mean over items with its 95 % interval."""

    value: float
    low: float
    high: float
    items: int


def score(values: Sequence[float]) -> Score:
    """The mean with Wilson's interval for hits and misses, the bootstrap's for anything else."""
    mean = float(np.mean(values))
    if all(value in (0.0, 1.0) for value in values):
        low, high = wilson(round(sum(values)), len(values))
    else:
        low, high = bootstrap(values)
    return Score(mean, low, high, len(values))


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (1927); honest near 0 and 1 and for few items."""
    share, square = hits / count, _Z * _Z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = (
        _Z
        * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
        / (1 + square / count)
    )
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % percentile interval of a mean; a fixed seed gives the same one every time."""
    draw = np.random.default_rng(0)
    array = np.asarray(values, dtype=np.float64)
    means = [float(draw.choice(array, len(array)).mean()) for _ in range(_DRAWS)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> Score:
    """ours − theirs on the same items: what both find hard cancels out."""
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    low, high = bootstrap(differences)
    return Score(float(np.mean(differences)), low, high, len(differences))


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Median, tails and mean."""
    p10, p50, p90, p99 = (float(value) for value in np.quantile(values, [0.1, 0.5, 0.9, 0.99]))
    return {"p10": p10, "p50": p50, "p90": p90, "p99": p99, "mean": float(np.mean(values))}
