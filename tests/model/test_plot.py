"""Plots of runs: the same metrics give the same SVG; a missing key is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge import results
from plm_edge.errors import InputError
from plm_edge.model import metrics, plot

pytest.importorskip("matplotlib", reason="needs the extra `report`")


def run_of(folder: Path, slope: float) -> Path:
    for step in range(5):
        results.append(folder / metrics.FILE, {"step": step, "loss": 5 - slope * step})
    return folder


def test_a_line_for_every_run_and_no_date(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / "fast", 1.0), run_of(tmp_path / "slow", 0.5)]
    curves = plot.read_curves(runs, "loss")
    assert curves["fast"] == {0: 5.0, 1: 4.0, 2: 3.0, 3: 2.0, 4: 1.0}
    for name in ("one.svg", "two.svg"):
        plot.draw(curves, "loss", tmp_path / name)
    text = (tmp_path / "one.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "two.svg").read_text(encoding="utf-8")
    assert "<svg" in text
    assert "dc:date" not in text


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no values of 'validation_loss'"):
        plot.read_curves([run_of(tmp_path / "run", 1.0)], "validation_loss")
