"""The Pareto picture: who is beaten, which speeds belong to it, and what is kept apart."""

from __future__ import annotations

from dataclasses import replace

from plm_edge.bench import rows
from plm_edge.report import quality
from plm_edge.report.inputs import Inputs
from plm_edge.report.page import Points
from tests.bench import examples as bench
from tests.report.examples import elsewhere, evaluation, generation


def test_a_larger_and_worse_model_is_beaten() -> None:
    small = evaluation("5a", header={"model_bytes": 10})
    good = evaluation("6b", divergence=-0.005, header={"model_bytes": 20})
    beaten = evaluation("7c", header={"model_bytes": 30})
    found = quality.section(Inputs(evals=(small, good, beaten)))
    assert found is not None
    (figure,) = found.figures
    assert isinstance(figure.chart, Points)
    assert [point.is_best for point in figure.chart.points] == [True, True, False]
    assert [row[-1] for row in found.tables[0].rows] == ["", "", "yes"]


def test_a_faster_model_is_not_beaten_by_a_smaller_and_better_one() -> None:
    slow = evaluation("5a", header={"model_bytes": 10})
    fast = evaluation("6b", divergence=0.1, header={"model_bytes": 20})
    speeds = tuple(
        generation(model=replace(bench.MODEL, sha256=sha), samples=(speed,))
        for sha, speed in (("5a", 10.0), ("6b", 20.0))
    )
    found = quality.section(Inputs(evals=(slow, fast), bench=speeds))
    assert found is not None
    assert [row[-2:] for row in found.tables[0].rows] == [("10.0", ""), ("20.0", "")]


def test_speeds_of_other_machines_files_and_engines_do_not_count() -> None:
    one = evaluation("5a")
    right = generation(1024)
    others = (
        generation(0, "stock"),
        elsewhere(generation()),
        generation(model=replace(bench.MODEL, sha256="other")),
        bench.row(test=rows.TestRef("prompt", 512, 0)),
    )
    assert quality.generation_of(one, others) is None
    assert quality.generation_of(one, (*others, right)) is right


def test_the_newest_run_counts_and_in_it_the_fastest_settings() -> None:
    old = generation(samples=(99.0,))
    slow = generation(run="r2", samples=(10.0,))
    fast = generation(run="r2", samples=(12.0,), settings=rows.Settings(4, "f16", "auto"))
    assert quality.generation_of(evaluation(), (old, slow, fast)) is fast


def test_results_under_other_conditions_get_a_table_of_their_own() -> None:
    other = evaluation("7c", header={"ctx": 256})
    found = quality.section(Inputs(evals=(evaluation("5a"), evaluation("6b"), other)))
    assert found is not None
    assert [len(table.rows) for table in found.tables] == [2, 1]
    assert "different contexts" in found.refused[0]


def test_the_reference_has_no_point() -> None:
    base = evaluation("f0", header={"model_bytes": 99})
    found = quality.section(Inputs(evals=(evaluation("5a"), base)))
    assert found is not None
    assert isinstance(found.figures[0].chart, Points)
    assert len(found.figures[0].chart.points) == 1
    assert "reference" in found.tables[0].rows[0]  # the smallest comes first


def test_without_a_reference_perplexity_is_drawn() -> None:
    bare = {"divergence": [], "same_top": [], "reference": None, "reference_sha256": None}
    records = tuple(
        replace(evaluation(sha), values={**evaluation(sha).values, **bare}) for sha in "ab"
    )
    found = quality.section(Inputs(evals=records))
    assert found is not None
    chart = found.figures[0].chart
    assert isinstance(chart, Points)
    assert (chart.y_label, chart.is_log) == ("perplexity", False)


def test_no_evaluations_no_section() -> None:
    assert quality.section(Inputs()) is None
