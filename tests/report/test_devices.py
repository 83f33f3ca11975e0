"""Several machines: side by side, in a figure where they ran the same, never divided."""

from __future__ import annotations

from dataclasses import replace

from plm_edge.bench.rows import DeviceRef
from plm_edge.report import devices
from plm_edge.report.inputs import Inputs
from plm_edge.report.page import Dots
from tests.report.examples import elsewhere, generation


def test_the_same_file_on_two_machines_is_drawn() -> None:
    here = generation()
    found = devices.section(Inputs(bench=(here, elsewhere(here), generation(1024))))
    assert found is not None
    (figure,) = found.figures
    assert isinstance(figure.chart, Dots)
    assert [dot.label for dot in figure.chart.dots] == ["CPU (k1)", "Other CPU (k2)"]
    assert found.refused == ("ours: m at depth 1024: measured on CPU (k1) alone",)


def test_one_machine_says_so() -> None:
    found = devices.section(Inputs(bench=(generation(),)))
    assert found is not None
    assert "one machine" in found.lead
    assert found.figures == ()


def test_emulated_devices_are_marked_and_power_is_told() -> None:
    emulated = replace(generation(samples=()), device=DeviceRef("rpi5", is_emulated=True))
    powered = elsewhere(replace(generation(), device=DeviceRef("board", watts=5.0)))
    found = devices.section(Inputs(bench=(emulated, powered)))
    assert found is not None
    assert [row[0] for row in found.tables[0].rows] == ["rpi5 (emulated: no speeds)", "board"]
    assert found.tables[1].rows[1][6] == "5.00"
