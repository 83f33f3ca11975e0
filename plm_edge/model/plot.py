"""Curves of training runs as an SVG, by matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from plm_edge.errors import InputError
from plm_edge.model.metrics import curve
from plm_edge.paths import atomic_path

SIZE_INCHES = (7.0, 4.0)


def read_curves(runs: list[Path], key: str) -> dict[str, dict[int, float]]:
    """run's name → step → value; `InputError` for a run that has no such key."""
    found = {}
    for run in runs:
        found[run.name] = curve(run, key)
        if not found[run.name]:
            raise InputError(f"{run}: no values of {key!r} in its metrics.jsonl")
    return found


def draw(curves: Mapping[str, Mapping[int, float]], label: str, target: Path) -> None:
    """One line a run over its steps; the same input gives the same file."""
    import matplotlib

    matplotlib.use("svg")
    # without these every file has its own ids and date
    matplotlib.rcParams["svg.hashsalt"] = "plm-edge"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=SIZE_INCHES, layout="constrained")
    for name, values in curves.items():
        axes.plot(list(values), list(values.values()), label=name, linewidth=1.2)
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_path(target) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
    pyplot.close(figure)
