"""What a run reports of itself: JSON lines, which everything here reads, and TensorBoard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from plm_edge import results
from plm_edge.paths import require_space, write_error

FILE = "metrics.jsonl"
# TensorBoard writes in a thread of its own, whose errors come late and with a trace.
LEAST_ROOM_BYTES = 10_000_000
# `step` is the axis; these are no curves.
NOT_CURVES = frozenset({"step", "phase"})


@dataclass(frozen=True)
class Metrics:
    """Writes one row a step."""

    run: Path
    board: Any = None

    def write(self, row: dict[str, Any]) -> None:
        """Append a row; lists become one curve per place."""
        results.append(self.run / FILE, row)
        if self.board is None:
            return
        for name, value in row.items():
            if isinstance(value, list):
                for place, part in enumerate(value):
                    self.board.add_scalar(f"{name}/{place}", part, row["step"])
            elif name not in NOT_CURVES:
                self.board.add_scalar(name, value, row["step"])


@contextmanager
def open_metrics(run: Path, step: int, *, is_writer: bool) -> Iterator[Metrics | None]:
    """The metrics of a run that goes on at `step`; what a killed run wrote after it is hidden.

    Only the writing process gets one. Without the package `tensorboard` there are JSON lines only.
    """
    if not is_writer:
        yield None
        return
    if find_spec("tensorboard") is None:
        yield Metrics(run)
        return
    from torch.utils.tensorboard import SummaryWriter

    require_space(run / "tensorboard", LEAST_ROOM_BYTES)
    try:
        with SummaryWriter(str(run / "tensorboard"), purge_step=step) as board:
            yield Metrics(run, board)
    except OSError as error:  # its thread's: all other writers here name their file themselves
        raise write_error(run / "tensorboard", error) from error


def curve(run: Path, key: str) -> dict[int, float]:
    """step → value of one key; steps that a resumed run did twice count once."""
    rows = results.read(run / FILE).rows
    return {row["step"]: row[key] for row in rows if isinstance(row.get(key), (int, float))}
