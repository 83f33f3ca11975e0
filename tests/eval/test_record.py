"""Results carry where they come from, and are compared only where that is the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from plm_edge.eval import record
from plm_edge.eval.record import Record
from tests.report.examples import HEADER


def test_another_model_may_be_compared() -> None:
    assert record.differences(HEADER, replace(HEADER, model_sha256="c" * 64)) == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"text_sha256": "c" * 64}, "different texts (abababababab, cccccccccccc)"),
        ({"ctx": 256}, "different contexts (512, 256 tokens)"),
        ({"engine": "other"}, "different engines (edge-host-1, other)"),
        ({"machine": "other"}, "different machines (k1, other)"),
        ({"kind": "tasks"}, "different kinds (eval, tasks)"),
    ],
)
def test_what_makes_results_incomparable_is_said(change: dict[str, object], said: str) -> None:
    assert record.differences(HEADER, replace(HEADER, **change)) == (said,)


def test_a_result_comes_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    written = Record(HEADER, {"perplexity": 4.5, "windows": [1.0, 2.0]})
    record.write(path, written)
    record.write(path, Record(replace(HEADER, kind="tasks"), {}))
    assert record.read(path, "eval").records == (written,)


def test_half_a_last_line_and_a_strange_row_are_skipped_and_said(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    record.write(path, Record(HEADER, {}))
    with path.open("a") as file:
        file.write('{"kind": "eval", "version": 1, "header": {"kind": "eval"}, "values": {}}\n')
        file.write('{"kind": "eval", "version": 9}\n{"kind": "ev')
    found = record.read(path, "eval")
    assert len(found.records) == 1
    assert len(found.skipped) == 3
    assert "header" in found.skipped[1] and "missing" in found.skipped[1]
    assert "row version 9" in found.skipped[2]
