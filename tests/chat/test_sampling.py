"""Sampling settings: limits with the flag's name, seeds that are always known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from plm_edge.chat.sampling import SEED_LIMIT, Sampling
from plm_edge.errors import UsageError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", float("nan")),
        ("temperature", -0.1),
        ("temperature", float("inf")),
        ("top_k", -1),
        ("top_p", 1.1),
        ("min_p", -0.5),
        ("repeat_penalty", 0.0),
        ("max_tokens", 0),
        ("seed", -1),
        ("seed", SEED_LIMIT),
    ],
)
def test_a_value_out_of_range_names_its_flag(field: str, value: float) -> None:
    with pytest.raises(UsageError, match="--" + field.replace("_", "-")):
        replace(Sampling(), **{field: value})


def test_a_missing_seed_is_picked_and_known() -> None:
    seeds = {Sampling().with_seed().seed for _ in range(8)}
    assert len(seeds) > 1
    assert all(seed is not None and 0 <= seed < SEED_LIMIT for seed in seeds)
    assert Sampling(seed=7).with_seed().seed == 7


def test_each_answer_has_its_own_seed() -> None:
    sampling = Sampling(seed=SEED_LIMIT - 1)
    assert [sampling.for_answer(i).seed for i in range(2)] == [SEED_LIMIT - 1, 0]
