"""Medians, spreads and ratios of a handful of measurements.

Medians and quartiles, since a shared machine makes outliers in one direction only; a ratio's
interval comes from the bootstrap (Efron 1979), which assumes nothing about their shape.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_BOOTSTRAP_ROUNDS = 2000
_COVERAGE = 0.95


@dataclass(frozen=True)
class Summary:
    """Some measurements of one thing: their median and the quartiles around it."""

    count: int
    median: float
    lower_quartile: float
    upper_quartile: float

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a share of the median."""
        return (self.upper_quartile - self.lower_quartile) / 2 / self.median if self.median else 0.0


@dataclass(frozen=True)
class Ratio:
    """A ratio of two medians with its 95 % interval."""

    value: float
    low: float
    high: float


def summary(samples: Sequence[float]) -> Summary:
    """The summary of at least one measurement."""
    middle = statistics.median(samples)
    if len(samples) < 2:
        return Summary(len(samples), middle, middle, middle)
    lower, _, upper = statistics.quantiles(samples, n=4, method="inclusive")
    return Summary(len(samples), middle, lower, upper)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """median(ours) ÷ median(theirs); both hold speeds, so above 1 means ours is faster.

    Drawn with a fixed seed: the same samples always give the same interval.
    """
    draw = random.Random(0)  # noqa: S311 - resampling, not a secret
    drawn = sorted(
        _resampled(draw, ours) / _resampled(draw, theirs) for _ in range(_BOOTSTRAP_ROUNDS)
    )
    tail = int(len(drawn) * (1 - _COVERAGE) / 2)
    value = statistics.median(ours) / statistics.median(theirs)
    return Ratio(value, drawn[tail], drawn[-1 - tail])


def _resampled(draw: random.Random, samples: Sequence[float]) -> float:
    return statistics.median(draw.choices(samples, k=len(samples)))
