"""Bits and sparsity by layer, from files and from the engine's count."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from plm_edge.bench import rows
from plm_edge.gguf_header import GgufTensor, read_header
from plm_edge.report import layers
from plm_edge.report.inputs import Activity, Inputs, LayerActivity
from plm_edge.report.page import Lines, Map
from tests.quantize.tiny import write_model
from tests.report.examples import generation


def test_every_matrix_of_every_layer_has_its_bits(tmp_path: Path) -> None:
    header = read_header(write_model(tmp_path / "m.gguf", dtype="q4_0"))
    found = layers.bits_section(Inputs(files=(header,)))
    assert found is not None
    chart = found.figures[0].chart
    assert isinstance(chart, Map)
    assert chart.columns == ("0", "1", "2")
    assert "ffn_down" in chart.rows and not any("norm" in role for role in chart.rows)
    assert {value for row in chart.values for value in row} == {4.5}
    assert "random weights" in found.figures[0].title
    assert found.tables[0].rows[0][0] == "q4_0"
    assert ("ffn_down", "0 to 2: 4.5") in found.tables[1].rows


def test_runs_of_layers_are_told_together() -> None:
    assert layers._runs({0: 4.5, 1: 4.5, 2: 8.5, 3: 4.5}) == "0 to 1: 4.5, 2: 8.5, 3: 4.5"


def test_bits_per_weight() -> None:
    assert layers.bits_of(GgufTensor("x", (2, 32), "q8_0", 0, 68)) == pytest.approx(8.5)


def test_the_engine_s_count_and_inspect_s_stand_together() -> None:
    counted = generation(reading=rows.Reading(1e9, 0.2, True, (0.1, 0.3)))
    later = replace(counted, run="r2", reading=rows.Reading(1e9, 0.2, True, (0.2, 0.3)))
    activity = Activity(50, (LayerActivity(0.9, 0.5), LayerActivity(0.8, 0.5)), 0.85, "text")
    found = layers.sparsity_section(
        Inputs(bench=(counted, later, generation()), activities=(activity,))
    )
    assert found is not None
    chart = found.figures[0].chart
    assert isinstance(chart, Lines)
    assert [(line.label, line.y) for line in chart.series] == [
        ("m.gguf (random weights)", (80, 70)),
        ("text (50 tokens)", (90, 80)),
    ]
    assert found.tables[0].rows[-1] == ("mean", "75.0%", "85.0%")


def test_without_a_count_there_is_no_section() -> None:
    assert layers.sparsity_section(Inputs(bench=(generation(),))) is None
    assert layers.bits_section(Inputs()) is None
