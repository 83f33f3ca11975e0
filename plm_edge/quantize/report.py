"""A plan as a table for people and as rows for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plm_edge.quantize.plan import Group, Plan

if TYPE_CHECKING:
    from rich.table import Table


def rows(plan: Plan) -> list[dict[str, Any]]:
    """One row per tensor group, largest first."""
    return [
        {
            "group": group.name,
            "tensors": group.tensors,
            "from": group.source_type,
            "type": group.type,
            "values": group.values,
            "bytes": group.size_bytes,
            "bits": round(group.bits_per_value, 4),
            "falls_back_from": group.falls_back_from,
        }
        for group in plan.groups()
    ]


def plan_table(plan: Plan) -> Table:
    """The tensor groups with type, bytes and bits per weight."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column("tensors")
    for heading in ("count", "from", "to", "bytes", "bits", "share"):
        table.add_column(heading, justify="right")
    total = sum(group.size_bytes for group in plan.groups())
    for group in plan.groups():
        table.add_row(*_cells(group, total))
    return table


def _cells(group: Group, total_bytes: int) -> tuple[str, ...]:
    mark = "" if group.falls_back_from is None else f" (not {group.falls_back_from})"
    return (
        group.name,
        str(group.tensors),
        group.source_type,
        group.type + mark,
        f"{group.size_bytes:,}",
        f"{group.bits_per_value:.2f}",
        f"{group.size_bytes / total_bytes:.1%}",
    )
