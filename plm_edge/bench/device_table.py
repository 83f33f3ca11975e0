"""What a device went through during a run: power, heat, clocks, throttling. Derived from rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from plm_edge.bench.rows import DeviceRef, Row

if TYPE_CHECKING:
    from rich.table import Table

NONE = "–"


def headings(rows: Sequence[Row]) -> Iterator[str]:
    """What must be known before the numbers are believed."""
    devices = [(row, row.device) for row in rows if row.device is not None]
    for name in dict.fromkeys(device.name for _, device in devices):
        yield f"device {name}"
    if any(device.is_emulated for _, device in devices):
        tests = len({(row.engine.variant, row.settings, row.test) for row, _ in devices})
        yield f"emulated: all {tests} tests ran to their end; an emulator's speed means nothing"
    if slowed := sum(device.throttled_runs for _, device in devices):
        runs = sum(len(row.samples) for row, _ in devices)
        yield f"{slowed} of {runs} runs were slowed by heat or power (marked *): cool it, run again"
    if hot := sum(device.hot_runs for _, device in devices):
        yield f"{hot} runs began hotter than the first: it did not cool down in time"
    if any(device.has_under_voltage for _, device in devices):
        yield "under-voltage: the power supply is too weak, and the clock was cut"
    if any(device.is_pinned is False for _, device in devices):
        yield "not pinned: the device let threads move between its cores"


def conditions_table(rows: Sequence[Row]) -> Table:
    """One line per timed row that told anything."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column("test", no_wrap=True)
    table.add_column("engine", no_wrap=True)
    for name in ("depth", "power", "J/token", "hottest", "slowest core", "governor", "slowed"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        if row.device is not None and row.samples:
            table.add_row(*_cells(row, row.device))
    return table


def has_conditions(rows: Sequence[Row]) -> bool:
    """Whether the table would say anything."""
    return any(row.device is not None and row.samples for row in rows)


def _cells(row: Row, device: DeviceRef) -> tuple[str, ...]:
    return (
        f"{row.test.kind} {row.test.tokens}",
        row.engine.variant,
        str(row.test.depth),
        _or_none(device.watts, "{:.2f} W"),
        _or_none(device.joules_per_token, "{:.3f}"),
        _or_none(row.temperature_celsius, "{:.0f} °C"),
        _or_none(row.clock_megahertz, "{:.0f} MHz"),
        row.machine.governor or NONE,
        f"{device.throttled_runs} of {len(row.samples)}" if device.throttled_runs else "no",
    )


def _or_none(value: float | None, form: str) -> str:
    return NONE if value is None else form.format(value)


def summary(row: Row) -> dict[str, Any]:
    """The same for machines; nothing for a row of this machine."""
    device = row.device
    if device is None:
        return {}
    return {
        "device": device.name,
        "is_emulated": device.is_emulated,
        "throttled_runs": device.throttled_runs,
        "hot_runs": device.hot_runs,
        "has_under_voltage": device.has_under_voltage,
        "is_pinned": device.is_pinned,
        "watts": device.watts,
        "joules_per_token": device.joules_per_token,
        "temperature_celsius": row.temperature_celsius,
        "clock_megahertz": row.clock_megahertz,
        "governor": row.machine.governor,
    }
