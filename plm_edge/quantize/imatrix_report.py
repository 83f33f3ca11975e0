"""What an importance matrix says, role by role: for people and for machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from plm_edge.quantize.imatrix import Entry, Imatrix
from plm_edge.quantize.plan import role

if TYPE_CHECKING:
    from rich.table import Table

_TOP_SHARE = 0.01


@dataclass(frozen=True)
class Row:
    """The matrices of one role. `concentration`: the share of all squares in 1 % of the columns."""

    role: str
    tensors: int
    columns: int
    tokens: int
    mean_square: float
    concentration: float
    silent: float


def rows(imatrix: Imatrix) -> list[Row]:
    """One row per role; a neuron counts as a column of `ffn_down.weight (neurons)`."""
    neurons = {f"{name} (neurons)": entry for name, entry in imatrix.neurons.items()}
    return [*_rows(imatrix.columns), *_rows(neurons)]


def _rows(entries: Mapping[str, Entry]) -> list[Row]:
    grouped: dict[str, list[Entry]] = {}
    for name, entry in entries.items():
        grouped.setdefault(role(name), []).append(entry)
    return [_row(name, group) for name, group in sorted(grouped.items())]


def _row(name: str, group: list[Entry]) -> Row:
    means = np.stack([entry.mean.ravel() for entry in group]).astype(np.float64)
    ordered = -np.sort(-means, axis=1)
    top = max(1, round(ordered.shape[1] * _TOP_SHARE))
    total = np.maximum(ordered.sum(axis=1), np.finfo(np.float64).tiny)
    return Row(
        role=name,
        tensors=len(group),
        columns=means.shape[1],
        tokens=group[0].count,
        mean_square=float(means.mean()),
        concentration=float((ordered[:, :top].sum(axis=1) / total).mean()),
        silent=float((means == 0).mean()),
    )


def summary(imatrix: Imatrix) -> dict[str, Any]:
    """Everything for machines."""
    return {**asdict(imatrix.origin), "roles": [asdict(row) for row in rows(imatrix)]}


def table(imatrix: Imatrix) -> Table:
    """Everything for people."""
    from rich.box import SIMPLE
    from rich.table import Table

    grid = Table(box=SIMPLE, pad_edge=False)
    grid.add_column("matrices")
    for heading in ("count", "columns", "tokens", "mean square", "in 1 % of columns", "silent"):
        grid.add_column(heading, justify="right")
    for row in rows(imatrix):
        grid.add_row(
            row.role,
            str(row.tensors),
            f"{row.columns:,}",
            f"{row.tokens:,}",
            f"{row.mean_square:.4g}",
            f"{row.concentration:.1%}",
            f"{row.silent:.1%}",
        )
    return grid
