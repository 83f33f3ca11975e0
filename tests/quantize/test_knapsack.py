"""The choice under a budget: brute force on small cases, bounds and time on large ones."""

from __future__ import annotations

import itertools
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plm_edge.quantize.knapsack import Option, smallest, solve

option = st.builds(Option, st.integers(1, 40), st.integers(0, 50).map(float))
items_strategy = st.lists(st.lists(option, min_size=1, max_size=4), min_size=1, max_size=5)


def brute_force(items: list[list[Option]], budget: int) -> float | None:
    costs = [
        sum(option.cost for option in choice)
        for choice in itertools.product(*items)
        if sum(option.size for option in choice) <= budget
    ]
    return min(costs, default=None)


@settings(max_examples=300, deadline=None)
@given(items_strategy, st.integers(0, 220))
def test_the_choice_is_the_best_there_is(items: list[list[Option]], budget: int) -> None:
    found, best = solve(items, budget), brute_force(items, budget)
    if best is None:
        assert found is None and budget < smallest(items)
        return
    assert found is not None and found.is_exact
    assert found.cost == pytest.approx(best)
    assert found.size <= budget
    assert found.bound <= best + 1e-9
    chosen = [options[i] for options, i in zip(items, found.chosen, strict=True)]
    assert (found.size, found.cost) == (sum(o.size for o in chosen), sum(o.cost for o in chosen))


@settings(max_examples=100, deadline=None)
@given(items_strategy, st.integers(0, 220))
def test_coarse_units_never_break_the_budget(items: list[list[Option]], budget: int) -> None:
    found, best = solve(items, budget, most_units=12), brute_force(items, budget)
    assert (found is None) == (best is None)
    if found is not None and best is not None:
        assert found.size <= budget
        assert found.bound - 1e-9 <= best <= found.cost + 1e-9


def large(count: int) -> list[list[Option]]:
    """As PLM-1.8B: matrices of a few sizes, errors that fall fourfold with each bit."""
    draw = random.Random(1)
    items = []
    for _ in range(count):
        values, weight = draw.choice((1, 4, 8, 18)) * 1_179_648, draw.lognormvariate(0, 1.5)
        bits = (2.625, 3.4375, 4.5, 5.5, 6.5625, 8.5)
        items.append([Option(int(values * b / 8), weight * 4 ** (4 - b)) for b in bits])
    return items


def test_a_model_of_1_8_billion_weights_is_solved_within_seconds() -> None:
    items = large(225)
    started = time.process_time()
    found = solve(items, int(smallest(items) * 1.7))
    assert found is not None
    assert time.process_time() - started < 20
    assert found.cost <= found.bound * 1.001
    assert found.size <= int(smallest(items) * 1.7)


def test_no_budget_is_too_large() -> None:
    items = [[Option(3, 1.0), Option(5, 0.5)], [Option(2, 0.1), Option(9, 0.2)]]
    found = solve(items, 10**15)
    assert found is not None and found.chosen == (1, 0)
