"""Speed over depth: lines where there are depths, ratios only within a run."""

from __future__ import annotations

from dataclasses import replace

from plm_edge.report import speed
from plm_edge.report.inputs import Inputs
from plm_edge.report.page import Lines
from tests.bench import examples as bench
from tests.report.examples import elsewhere, generation

RUN = tuple(
    generation(depth, variant, samples=(base - depth / 128,) * 3)
    for depth in (0, 1024)
    for variant, base in (("edge", 40.0), ("stock", 20.0))
)


def test_ours_and_stock_are_lines_over_depth() -> None:
    found = speed.section(Inputs(bench=RUN))
    assert found is not None
    chart = found.figures[0].chart
    assert isinstance(chart, Lines)
    assert [(line.label, line.x, line.y) for line in chart.series] == [
        ("ours: m", (0, 1024), (40.0, 32.0)),
        ("stock: m", (0, 1024), (20.0, 12.0)),
    ]
    assert [row[7] for row in found.tables[0].rows] == [
        "2.00 (2.00 to 2.00)",
        "2.67 (2.67 to 2.67)",
    ]


def test_models_of_another_size_and_other_machines_get_axes_of_their_own() -> None:
    large = tuple(
        replace(row, model=replace(row.model, sha256="6b", parameters=10**9)) for row in RUN
    )
    far = tuple(elsewhere(row) for row in RUN)
    found = speed.section(Inputs(bench=(*RUN, *large, *far)))
    assert found is not None
    titles = [figure.title.split(";")[0] for figure in found.figures]
    assert titles == [
        "Generation, 1 B parameters, CPU",
        "Generation, 50 parameters, CPU",
        "Generation, 50 parameters, Other CPU",
    ]


def test_no_ratio_across_machines_or_runs() -> None:
    ours, stock = generation(), generation(variant="stock")
    found = speed.section(Inputs(bench=(ours, elsewhere(stock))))
    assert found is not None
    assert {row[7] for row in found.tables[0].rows} == {"–"}
    assert "not divided by each other" in found.refused[0]


def test_a_later_measurement_replaces_the_earlier() -> None:
    old, new = generation(samples=(1.0,)), generation(run="r2", samples=(2.0,))
    assert speed.newest([old, new]) == [new]
    assert speed.newest([old, elsewhere(new)]) == [old, elsewhere(new)]


def test_one_depth_is_no_line_and_memory_has_a_table() -> None:
    found = speed.section(Inputs(bench=(generation(), bench.memory_row("edge", 5_000_000))))
    assert found is not None
    assert found.figures == ()
    assert found.tables[1].rows[0][4] == "5.00 MB"
