"""Task results as tables for people: scores with intervals beside baselines, then the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from plm_edge import console

if TYPE_CHECKING:
    from rich.table import Table

    from plm_edge.eval.record import Record
    from plm_edge.eval.tasks.spec import Task

NONE = "–"
_PIPE_COLUMNS = 160


def plan(tasks: Sequence[Task], command: str, *, as_json: bool) -> None:
    """What a run would ask."""
    rows = [
        {"task": task.name, "kind": task.spec.kind, "items": len(task.items), "data": task.data}
        for task in tasks
    ]
    if as_json:
        console.print_json({"command": command, "tasks": rows})
        return
    for row in rows:
        print(f"would ask {row['items']} items of {row['task']} ({row['kind']}) from {row['data']}")


def records(found: Sequence[Record], *, as_json: bool) -> None:
    """Both tables, or the rows as JSON."""
    from dataclasses import asdict

    if as_json:
        console.print_json([asdict(record) for record in found])
        return
    out = console.stdout()
    if not out.is_terminal:
        out.width = _PIPE_COLUMNS
    for table in (scores(found), device(found)):
        out.print(table)


def scores(found: Sequence[Record]) -> Table:
    """One line per task and score; the best baseline beside the first."""
    table = _table("task", "score", "value", "95 %", "items", "best without a model")
    for record in found:
        values = record.values
        for number, (name, score) in enumerate(_primary_first(values).items()):
            first = number == 0
            table.add_row(
                values["task"] if first else "",
                name,
                f"{score['value']:.3f}",
                f"{score['low']:.3f}–{score['high']:.3f}",
                str(score["items"]),
                _best_baseline(values["baselines"]) if first else "",
            )
    return table


def _primary_first(values: dict[str, Any]) -> dict[str, Any]:
    """The leading score, the others, then the leading one by group."""
    found: dict[str, Any] = values["scores"]
    groups = {f"  of {name}": score for name, score in values["groups"].items()}
    return {values["primary"]: found[values["primary"]], **found, **groups}


def _best_baseline(values: dict[str, float]) -> str:
    name = max(values, key=lambda key: values[key])
    return f"{values[name]:.3f} {name}"


def device(found: Sequence[Record]) -> Table:
    """One line per task: medians with the 90th percentile of what hurts when it is high."""
    columns = ["first token", "p90", "in tok/s", "out tok/s", "total", "p90", "CPU"]
    table = _table("task", *columns, "peak RSS", "°C", "energy")
    for record in found:
        values = record.values["device"]
        table.add_row(
            record.values["task"],
            *(_seconds(values, "first_token_seconds", p) for p in ("p50", "p90")),
            _speed(values, "input_tokens_per_second"),
            _speed(values, "output_tokens_per_second"),
            *(_seconds(values, "total_seconds", p) for p in ("p50", "p90")),
            f"{values['cpu_percent']['p50']:.0f}%" if "cpu_percent" in values else NONE,
            _megabytes(values["peak_rss_bytes"]),
            _known(values.get("temperature_celsius"), "{:.0f}"),
            _known(values.get("energy_joules"), "{:.0f} J"),
        )
    return table


def _table(*columns: str) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False)
    for name in columns:
        side = "left" if name in ("task", "score", "best without a model") else "right"
        table.add_column(name, justify=side, no_wrap=name != "best without a model")  # type: ignore[arg-type]
    return table


def _seconds(values: dict[str, Any], name: str, percentile: str) -> str:
    if name not in values:
        return NONE
    seconds = values[name][percentile]
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _speed(values: dict[str, Any], name: str) -> str:
    return f"{values[name]['p50']:.0f}" if name in values else NONE


def _megabytes(size_bytes: int | None) -> str:
    return NONE if size_bytes is None else f"{size_bytes / 1e6:.0f} MB"


def _known(value: float | None, form: str) -> str:
    return NONE if value is None else form.format(value)
