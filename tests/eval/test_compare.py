"""Differences where the conditions are the same, reasons where they are not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from plm_edge.eval import report
from plm_edge.eval.compare import Difference, Refused, compare, newest
from plm_edge.eval.record import Record
from tests.eval.test_record import HEADER

VALUES: dict[str, Any] = {
    "judged": 10,
    "surprise": [1.0, 2.0, 3.0],
    "divergence": [0.2, 0.3, 0.4],
    "same_top": [0.9, 0.8, 0.7],
    "bits_per_weight": 4.5,
    "cache_type": "f16",
    "threads": 1,
    "reference": "base.gguf",
    "reference_sha256": "d" * 64,
    "top": 1024,
}
LEFT = Record(HEADER, VALUES)


def other(**changes: Any) -> Record:
    header = replace(HEADER, model="other.gguf", model_sha256="e" * 64)
    moved = {"surprise": [1.1, 2.1, 3.1], "divergence": [0.1, 0.2, 0.3], "same_top": [0.9] * 3}
    return Record(header, {**VALUES, **moved, **changes})


def test_the_difference_is_paired() -> None:
    found = compare(other(), LEFT)
    assert isinstance(found, Difference) and found.divergence and found.same_top
    assert found.surprise.value == pytest.approx(0.1)
    assert found.surprise.high - found.surprise.low < 1e-9
    assert found.divergence.value == pytest.approx(-0.1) and found.divergence.is_clear
    assert not found.same_top.is_clear


def test_other_conditions_are_refused_with_the_reason() -> None:
    moved = Record(replace(other().header, ctx=256), other().values)
    assert compare(moved, LEFT) == Refused(("different contexts (256, 512 tokens)",))
    for change, said in (
        ({"surprise": [1.0]}, "different numbers of windows (1, 3)"),
        ({"cache_type": "q8_0"}, "different caches (q8_0, f16)"),
    ):
        assert compare(other(**change), LEFT) == Refused((said,))


def test_another_reference_leaves_perplexity_to_compare() -> None:
    found = compare(other(reference_sha256="f" * 64), LEFT)
    assert isinstance(found, Difference)
    assert found.divergence is None and found.same_top is None


def test_the_newest_of_each_model_counts() -> None:
    again = Record(LEFT.header, {**VALUES, "surprise": [9.0, 9.0, 9.0]})
    assert newest([LEFT, other(), again]) == [other(), again]


def test_the_tables_say_what_was_measured_and_what_is_not_compared() -> None:
    moved = Record(replace(other().header, machine="elsewhere"), other().values)
    grid, refused = report.difference_table([LEFT, moved])
    assert grid is None
    assert refused == [
        "other.gguf: not compared: different machines (elsewhere, k1)",
    ]
    rows = report.rows([LEFT, other(), moved])
    assert rows[0]["difference_from_first"] is None
    assert rows[1]["difference_from_first"]["surprise"]["value"] == pytest.approx(0.1)
    assert rows[2]["not_compared"] == ["different machines (elsewhere, k1)"]
    assert any("few windows" in line for line in report.headings([LEFT]))
