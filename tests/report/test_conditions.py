"""Comparable or refused: each condition that differs is told, none is overlooked."""

from __future__ import annotations

from typing import Any

import pytest

from plm_edge.report import conditions
from tests.report.examples import evaluation


def test_only_the_model_may_differ() -> None:
    (group,) = conditions.groups([evaluation("5a"), evaluation("6b")])
    assert [one.header.model_sha256 for one in group.records] == ["5a", "6b"]


def test_the_newest_result_of_a_model_counts() -> None:
    old, new = evaluation("5a"), evaluation("5a", divergence=1)
    (group,) = conditions.groups([old, new])
    assert group.records == (new,)


@pytest.mark.parametrize(
    ("header", "values", "says"),
    [
        ({"text_sha256": "cd" * 32}, {}, "different texts (abababababab, cdcdcdcdcdcd)"),
        ({"ctx": 256}, {}, "different contexts (512, 256 tokens)"),
        ({"engine": "edge-host-2"}, {}, "different engines (edge-host-1, edge-host-2)"),
        ({"machine": "k2"}, {}, "different machines (k1, k2)"),
        ({}, {"cache_type": "q8_0"}, "different cache_type (f16, q8_0)"),
        ({}, {"reference_sha256": None}, "different reference_sha256 (f0, none)"),
    ],
)
def test_each_other_difference_refuses(
    header: dict[str, Any], values: dict[str, Any], says: str
) -> None:
    made = conditions.groups(
        [evaluation("5a"), evaluation("6b"), evaluation("7c", header=header, **values)]
    )
    assert [len(group.records) for group in made] == [2, 1]
    (line,) = conditions.refusals(made)
    assert line == f"7c.gguf: not compared with 5a.gguf: {says}"
