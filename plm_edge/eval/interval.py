"""How sure a mean over windows of text is, and a difference of two on the same windows.

Predictions within a window depend on each other, so windows are what is drawn from, not tokens.
Two models on the same windows are compared window by window: what makes a window hard is in both
and cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_ROUNDS = 4000
_COVERAGE = 0.95
# Fewer windows than this make the bootstrap's intervals too narrow.
FEW_WINDOWS = 10


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether zero lies outside."""
        return self.low > 0 or self.high < 0


def mean(windows: Sequence[float]) -> Interval:
    """The mean of one value per window; the same values always give the same interval."""
    values = np.asarray(windows, dtype=np.float64)
    draw = np.random.default_rng(0)
    picked = draw.integers(0, len(values), (_ROUNDS, len(values)))
    low, high = np.quantile(values[picked].mean(axis=1), [(1 - _COVERAGE) / 2, (1 + _COVERAGE) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def difference(left: Sequence[float], right: Sequence[float]) -> Interval:
    """The mean of left - right over the same windows."""
    if len(left) != len(right):
        raise ValueError(f"{len(left)} windows against {len(right)}")
    return mean([a - b for a, b in zip(left, right, strict=True)])
