"""One option for each item, at the least cost within a budget: the multiple-choice knapsack.

Exact by dynamic programming over sizes in units of their greatest common divisor, where there are
few enough units. Where not, sizes are rounded up to a coarser unit, so the budget still holds, and
`bound` (the best that a mixture of options could do) tells how much that may have cost.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MOST_UNITS = 400_000


@dataclass(frozen=True)
class Option:
    """One way for an item: what it takes and what it costs."""

    size: int
    cost: float


@dataclass(frozen=True)
class Solution:
    """The chosen option of each item. `bound`: no choice within the budget costs less."""

    chosen: tuple[int, ...]
    size: int
    cost: float
    bound: float
    is_exact: bool


Items = Sequence[Sequence[Option]]


def smallest(items: Items) -> int:
    """The least size any choice can have."""
    return sum(min(option.size for option in options) for options in items)


def solve(items: Items, budget: int, most_units: int = _MOST_UNITS) -> Solution | None:
    """The cheapest choice that fits; None if none does."""
    spare = budget - smallest(items)
    if spare < 0:
        return None
    useful = [_undominated(options) for options in items]
    sizes = [
        options[index].size for options, kept in zip(items, useful, strict=True) for index in kept
    ]
    least = [options[kept[0]].size for options, kept in zip(items, useful, strict=True)]
    largest = sum(options[kept[-1]].size for options, kept in zip(items, useful, strict=True))
    spare = min(spare, largest - sum(least))
    steps = [size - low for size, low in zip(sizes, _repeat(least, useful), strict=True)]
    unit = math.gcd(*steps) or 1
    coarse = max(unit, -(-spare // most_units))
    chosen = _program(items, useful, spare // coarse, coarse)
    if coarse > unit:
        chosen = _spend(items, useful, chosen, spare + sum(least))
    return _solution(items, chosen, _bound(items, useful, spare), is_exact=coarse == unit)


def _repeat(least: Sequence[int], useful: Sequence[Sequence[int]]) -> list[int]:
    return [low for low, kept in zip(least, useful, strict=True) for _ in kept]


def _undominated(options: Sequence[Option]) -> list[int]:
    """Options worth having, smallest first: each costs less than all smaller ones."""
    order = sorted(range(len(options)), key=lambda i: (options[i].size, options[i].cost))
    kept: list[int] = []
    for index in order:
        if not kept or options[index].cost < options[kept[-1]].cost:
            kept.append(index)
    return kept


def _program(items: Items, useful: Sequence[Sequence[int]], units: int, unit: int) -> list[int]:
    """The least cost for every number of units, item by item; then the way back."""
    costs: NDArray[np.float64] = np.zeros(units + 1)
    picks: list[NDArray[np.int8]] = []
    for options, kept in zip(items, useful, strict=True):
        low = options[kept[0]].size
        best = np.full(units + 1, np.inf)
        pick = np.zeros(units + 1, np.int8)
        for place, index in enumerate(kept):
            need = -(-(options[index].size - low) // unit)
            if need > units:
                break
            tried = costs[: units + 1 - need] + options[index].cost
            is_better = tried < best[need:]
            best[need:][is_better] = tried[is_better]
            pick[need:][is_better] = place
        costs = best
        picks.append(pick)
    return _way_back(items, useful, picks, unit)


def _way_back(
    items: Items, useful: Sequence[Sequence[int]], picks: list[NDArray[np.int8]], unit: int
) -> list[int]:
    left = len(picks[0]) - 1 if picks else 0
    chosen: list[int] = []
    for options, kept, pick in zip(reversed(items), reversed(useful), reversed(picks), strict=True):
        index = kept[pick[left]]
        left -= -(-(options[index].size - options[kept[0]].size) // unit)
        chosen.append(index)
    return chosen[::-1]


def _spend(
    items: Items, useful: Sequence[Sequence[int]], chosen: list[int], budget: int
) -> list[int]:
    """Use up what rounding sizes up has left over: the best single step that still fits, again."""
    left = budget - sum(options[i].size for options, i in zip(items, chosen, strict=True))
    while True:
        steps = [
            (item.cost - items[row][chosen[row]].cost, row, index)
            for row, kept in enumerate(useful)
            for index in kept
            for item in [items[row][index]]
            if item.cost < items[row][chosen[row]].cost
            and item.size - items[row][chosen[row]].size <= left
        ]
        if not steps:
            return chosen
        _, row, index = min(steps)
        left -= items[row][index].size - items[row][chosen[row]].size
        chosen[row] = index


def _bound(items: Items, useful: Sequence[Sequence[int]], spare: int) -> float:
    """The cost when options may be mixed: the hull's steepest steps first, the last one in part."""
    cost = sum(options[kept[0]].cost for options, kept in zip(items, useful, strict=True))
    steps: list[tuple[float, int]] = []
    for options, kept in zip(items, useful, strict=True):
        hull = _hull([options[index] for index in kept])
        for left, right in itertools.pairwise(hull):
            size = right.size - left.size
            steps.append(((right.cost - left.cost) / size, size))
    for slope, size in sorted(steps):
        taken = min(size, spare)
        cost += slope * taken
        spare -= taken
        if not spare:
            break
    return cost


def _hull(options: Sequence[Option]) -> list[Option]:
    """The lower convex hull of options sorted by size."""
    hull: list[Option] = []
    for option in options:
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], option):
            hull.pop()
        hull.append(option)
    return hull


def _slope(left: Option, right: Option) -> float:
    return (right.cost - left.cost) / (right.size - left.size)


def _solution(items: Items, chosen: list[int], bound: float, *, is_exact: bool) -> Solution:
    picked = [options[index] for options, index in zip(items, chosen, strict=True)]
    return Solution(
        tuple(chosen),
        sum(option.size for option in picked),
        sum(option.cost for option in picked),
        bound,
        is_exact,
    )
