"""Task results: baselines beside scores, differences on the same items or a reason why not."""

from __future__ import annotations

from plm_edge.eval.record import Record
from plm_edge.report import tasks
from plm_edge.report.inputs import Inputs
from plm_edge.report.page import Dots
from tests.report.examples import HEADER, task


def test_models_are_compared_item_by_item() -> None:
    found = tasks.section(Inputs(tasks=(task("5a"), task("6b", item_scores=[1, 1, 1, 1]))))
    assert found is not None
    first, second = found.tables[0].rows
    assert first[5:] == ("0.600 longest", "–")
    assert second[6].startswith("+0.500 (")
    chart = found.figures[0].chart
    assert isinstance(chart, Dots)
    assert [(dot.label, dot.baseline) for dot in chart.dots] == [("own: 5a", 0.6), ("own: 6b", 0.6)]


def test_other_items_or_conditions_are_refused() -> None:
    other_data = task("6b", header={"text_sha256": "cd" * 32})
    found = tasks.section(Inputs(tasks=(task("5a"), other_data)))
    assert found is not None
    assert "different texts" in found.refused[0]
    assert [row[6] for row in found.tables[0].rows] == ["–", "–"]
    fewer = tasks.section(Inputs(tasks=(task("5a"), task("6b", item_scores=[1]))))
    assert fewer is not None
    assert fewer.tables[0].rows[1][6] == "not compared: 1 and 4 items, not the same"
    others = tasks.section(Inputs(tasks=(task("5a", left_out=["x"]), task("6b", left_out=["y"]))))
    assert others is not None
    assert others.tables[0].rows[1][6] == "not compared: 4 and 4 items, not the same"


def test_groups_have_rows_of_their_own() -> None:
    group = {"value": 0.25, "low": 0.1, "high": 0.5, "items": 2}
    found = tasks.section(Inputs(tasks=(task(groups={"Age/ambig": group}),)))
    assert found is not None
    assert found.tables[0].rows[1][2:5] == ("accuracy of Age/ambig", "0.250 (0.100 to 0.500)", "2")


def test_what_answers_cost() -> None:
    found = tasks.device_section(Inputs(tasks=(task(),)))
    assert found is not None
    (row,) = found.tables[0].rows
    assert row[2:5] == ("200 ms", "300 ms", "400 ms")
    assert row[5:7] == ("321", "–")
    assert row[9:] == ("99%", "77.00 MB", "–", "1.2 J")


def test_the_harness_s_own_metrics_are_listed() -> None:
    values = {"task": "arc", "items": 9, "metrics": {"acc": 0.25, "acc_stderr": 0.1}}
    found = tasks.harness_section(Inputs(harness=(Record(HEADER, values),)))
    assert found is not None
    assert found.tables[0].rows == (("t.txt", "m.gguf", "acc", "0.2500", "0.1000", "9"),)


def test_nothing_to_say() -> None:
    assert tasks.section(Inputs()) is None
    assert tasks.device_section(Inputs()) is None
    assert tasks.harness_section(Inputs()) is None
