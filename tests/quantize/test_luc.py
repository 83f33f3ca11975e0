"""Edge-LLM's rule as published, its flaw, and that flaw mended."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.errors import InputError
from plm_edge.gguf_header import read_header
from plm_edge.quantize import candidates as finding
from plm_edge.quantize import luc
from tests.quantize.tiny import write_model

# 32 layers whose errors fall from 4 to 1, as the released measurements do, one far out.
SMOOTH = [4 - 3 * layer / 31 for layer in range(32)]
OUTLIER = [*SMOOTH[:30], 500.0, SMOOTH[31]]


@pytest.mark.parametrize("scale", ["min-max", "robust"])
@pytest.mark.parametrize("errors", [SMOOTH, OUTLIER])
def test_sparsity_meets_its_target_on_average(errors: list[float], scale: luc.Scale) -> None:
    found = luc.sparsity(errors, 0.5, scale)
    assert sum(found) / 32 == pytest.approx(0.5, abs=0.03)
    assert max(errors) == errors[found.index(min(found))]


def test_one_outlier_makes_all_other_layers_alike_and_the_robust_scale_does_not() -> None:
    def spread(scale: luc.Scale) -> float:
        rest = [v for i, v in enumerate(luc.sparsity(OUTLIER, 0.5, scale)) if i != 30]
        return max(rest) - min(rest)

    assert luc.sparsity(OUTLIER, 0.5, "min-max")[30] == 0
    assert spread("min-max") < 0.01 < 0.3 < spread("robust")
    assert luc.upgraded(OUTLIER, "min-max") == [layer == 30 for layer in range(32)]
    raised = luc.upgraded(OUTLIER, "robust")
    assert 8 <= sum(raised) <= 24 and raised[30] and raised[0] and not raised[31]


def test_layers_all_alike_are_treated_alike() -> None:
    assert luc.sensitivity([2.0] * 4, "min-max") == [0.5] * 4
    assert luc.sparsity([2.0] * 4, 0.3, "robust") == pytest.approx([0.3] * 4)
    assert luc.upgraded([2.0] * 4, "robust") == [False] * 4


def test_the_rule_under_a_budget_raises_the_sensitive_layer(tmp_path: Path) -> None:
    header = read_header(write_model(tmp_path / "m.gguf"))
    found = finding.find(header)
    errors = {0: 1.0, 1: 9.0, 2: 2.0}
    budget = sum(one.size_bytes("q4_0") for one in found) * 5 // 4
    types = luc.types(found, errors, budget, "min-max")
    size = sum(one.size_bytes(types[one.tensor.name]) for one in found)
    assert size <= budget
    assert types["blk.1.ffn_up.weight"] == types["token_embd.weight"]
    assert types["blk.0.ffn_up.weight"] == types["blk.2.ffn_up.weight"]
    assert types["blk.0.ffn_up.weight"] != types["blk.1.ffn_up.weight"]
    with pytest.raises(InputError, match="makes no file within 1,000 bytes"):
        luc.types(found, errors, 1000, "robust")
