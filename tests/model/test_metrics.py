"""Metrics: JSON lines, TensorBoard's curves, and what a resumed run shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge import results
from plm_edge.errors import PlmEdgeError
from plm_edge.model import metrics

ROWS = [
    {"step": 0, "phase": "one", "loss": 3.0, "zero_fractions": [0.5, 0.75]},
    {"step": 1, "phase": "one", "loss": 2.0},
]


def write(run: Path, rows: list[dict[str, object]], step: int = 0) -> None:
    with metrics.open_metrics(run, step, is_writer=True) as log:
        assert log is not None
        for row in rows:
            log.write(row)


def test_a_curve_counts_repeated_steps_once(tmp_path: Path) -> None:
    write(tmp_path, [*ROWS, {"step": 1, "phase": "one", "loss": 2.5}])
    assert metrics.curve(tmp_path, "loss") == {0: 3.0, 1: 2.5}
    assert metrics.curve(tmp_path, "nothing") == {}
    assert results.read(tmp_path / metrics.FILE).rows[0] == ROWS[0]


def test_only_the_writer_writes(tmp_path: Path) -> None:
    with metrics.open_metrics(tmp_path, 0, is_writer=False) as log:
        assert log is None
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_reads_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra `torch`: make test WITH_TORCH=1")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write(tmp_path, ROWS)
    write(tmp_path, [{"step": 1, "phase": "one", "loss": 2.5}], step=1)
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [(e.step, e.value) for e in board.Scalars("loss")] == [(0, 3.0), (1, 2.5)]
    assert board.Scalars("zero_fractions/1")[0].value == 0.75
    assert set(board.Tags()["scalars"]) == {"loss", "zero_fractions/0", "zero_fractions/1"}


def test_a_disk_that_is_full_for_the_curves_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra `torch`: make test WITH_TORCH=1")
    from torch.utils.tensorboard import SummaryWriter

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SummaryWriter, "add_scalar", full)
    with pytest.raises(PlmEdgeError, match=r"tensorboard: the disk is full"):
        write(tmp_path, ROWS)
    assert metrics.curve(tmp_path, "loss") == {0: 3.0}


def test_without_tensorboard_there_are_lines_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "find_spec", lambda name: None)
    write(tmp_path, ROWS)
    assert [path.name for path in tmp_path.iterdir()] == [metrics.FILE]
