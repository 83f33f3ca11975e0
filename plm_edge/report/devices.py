"""The same file on several machines: side by side, never divided by each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plm_edge.bench.rows import Row
from plm_edge.report.figures_text import known, speed
from plm_edge.report.inputs import Inputs
from plm_edge.report.page import Dot, Dots, Figure, Section, Table
from plm_edge.report.speed import commands, name_of, newest

_MACHINE_COLUMNS = ("machine", "architecture", "cores", "memory", "reads")
_SPEED_COLUMNS = ("file", "machine", "depth", "tok/s", "GB/s", "of bus", "W", "J/token")


def section(inputs: Inputs) -> Section | None:
    """Every machine's generation speeds; a figure of each file that several have run."""
    rows = [row for row in newest(inputs.bench) if row.test.kind == "generation"]
    shared = [same for same in _by_test(rows) if len({row.machine.key for row in same}) > 1]
    if not rows:
        return None
    machines = {row.machine.key: row for row in rows}
    tables = (
        Table(_MACHINE_COLUMNS, tuple(_machine_row(row) for row in machines.values())),
        Table(_SPEED_COLUMNS, tuple(_speed_row(row) for row in rows), numbers_from=2),
    )
    lone = "" if len(machines) > 1 else " There is one machine in these results so far."
    return Section(
        id="devices",
        title="Devices",
        lead="Different machines stand side by side and are not divided by each other: clocks, "
        "memory and cooling all differ." + lone,
        figures=tuple(_device_figure(same) for same in shared),
        tables=tables,
        refused=tuple(_unshared(rows)) if len(machines) > 1 else (),
        commands=commands(rows),
    )


def _by_test(rows: Sequence[Row]) -> list[list[Row]]:
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row.samples:
            key = (row.model.sha256, row.test, row.settings.cache_type, row.engine.variant)
            found.setdefault(key, []).append(row)
    return list(found.values())


def _unshared(rows: Sequence[Row]) -> list[str]:
    lone = [same[0] for same in _by_test(rows) if len({row.machine.key for row in same}) == 1]
    return [
        f"{name_of(row)} at depth {row.test.depth}: measured on {_machine(row)} alone"
        for row in lone
    ]


def _device_figure(rows: Sequence[Row]) -> Figure:
    first = rows[0]
    dots = tuple(
        Dot(_machine(row), found.median, found.lower_quartile, found.upper_quartile)
        for row in rows
        if (found := row.speed) is not None
    )
    title = f"{name_of(first)}, generation at depth {first.test.depth}; bars span the quartiles"
    return Figure(title, Dots("tokens per second", dots, left=0), commands(rows))


def _machine(row: Row) -> str:
    return row.device.name if row.device is not None else f"{row.machine.cpu} ({row.machine.key})"


def _machine_row(row: Row) -> tuple[str, ...]:
    machine, device = row.machine, row.device
    is_emulated = device is not None and device.is_emulated
    return (
        _machine(row) + (" (emulated: no speeds)" if is_emulated else ""),
        machine.architecture,
        str(machine.cores),
        f"{machine.memory_bytes / 2**30:.0f} GiB",
        known(machine.bandwidth_gigabytes_per_second, "{:.1f} GB/s"),
    )


def _speed_row(row: Row) -> tuple[str, ...]:
    device = row.device
    return (
        name_of(row),
        _machine(row),
        str(row.test.depth),
        speed(row.speed.median if row.speed else None),
        known(row.gigabytes_per_second, "{:.1f}"),
        known(row.bandwidth_share, "{:.0%}"),
        known(device.watts if device else None, "{:.2f}"),
        known(device.joules_per_token if device else None, "{:.3f}"),
    )
