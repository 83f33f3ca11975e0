"""The suite covers what it claims to, with recipes that exist."""

from __future__ import annotations

import pytest

from plm_edge import resources
from plm_edge.bench import suite
from plm_edge.errors import UsageError
from plm_edge.quantize import recipe


def test_cases_are_named_once_and_use_shipped_recipes() -> None:
    names = [case.name for case in suite.CASES]
    assert len(set(names)) == len(names)
    shipped = {resource.name for resource in resources.list_all("quant")}
    assert {case.recipe for case in suite.CASES} <= shipped
    assert {case.stock_mix for case in suite.CASES} <= set(recipe.BASE_NAMES.values())


def test_the_table_has_its_rows() -> None:
    asked = {
        (case.name, test.kind, test.depth, cache)
        for case in suite.CASES
        for test in case.tests
        for cache in case.cache_types
    }
    assert ("q4", "generation", 0, "f16") in asked
    assert ("q4", "generation", 1024, "f16") in asked
    assert ("q4-deep", "generation", 4096, "q8_0") in asked
    assert ("q4-deep-prompt", "prompt", 3584, "f16") in asked
    assert ("q4-turn", "prompt", 4096, "f16") in asked
    assert ("q8", "prompt", 0, "f16") in asked


def test_only_chooses_and_names_what_there_is() -> None:
    assert suite.chosen([]) == suite.CASES
    assert [case.name for case in suite.chosen(["q8", "q4"])] == ["q4", "q8"]
    with pytest.raises(UsageError, match="--only 'q5': expected one of q4, "):
        suite.chosen(["q5"])
