"""What is printed of a device: how it felt, and what must be known before the numbers."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

from rich.console import Console

from plm_edge.bench import device_table, table
from plm_edge.bench.rows import DeviceRef, Row
from tests.bench.examples import MACHINE, row


def text_of(rows: list[Row]) -> str:
    out = Console(file=StringIO(), width=160)
    out.print(device_table.conditions_table(rows))
    assert isinstance(out.file, StringIO)
    return out.file.getvalue()


def felt(**changes: object) -> Row:
    device = DeviceRef("kitchen", **changes)  # type: ignore[arg-type]
    machine = replace(MACHINE, governor="ondemand", bandwidth_source="sbc-bench")
    return row(device=device, machine=machine, temperature_celsius=61.4, clock_megahertz=2400.0)


def test_power_heat_and_throttling_are_shown() -> None:
    rows = [felt(watts=6.2, joules_per_token=0.31, throttled_runs=1)]
    text = text_of(rows)
    for word in ("6.20 W", "0.310", "61 °C", "2400 MHz", "ondemand", "1 of 3"):
        assert word in text
    assert list(device_table.headings(rows)) == [
        "device kitchen",
        "1 of 3 runs were slowed by heat or power (marked *): cool it, run again",
    ]
    assert "21.0 ±2%*" in _speeds(rows)
    assert "reads 40.0 GB/s (sbc-bench)" in table.headings(rows)[0]


def _speeds(rows: list[Row]) -> str:
    out = Console(file=StringIO(), width=160)
    out.print(table.speed_table(rows))
    assert isinstance(out.file, StringIO)
    return out.file.getvalue()


def test_a_weak_supply_and_loose_threads_are_said() -> None:
    rows = [felt(has_under_voltage=True, is_pinned=False, hot_runs=2)]
    lines = list(device_table.headings(rows))
    assert any(line.startswith("2 runs began hotter") for line in lines)
    assert any(line.startswith("under-voltage") for line in lines)
    assert any(line.startswith("not pinned") for line in lines)


def test_what_is_not_told_is_a_dash() -> None:
    quiet = replace(felt(), temperature_celsius=None, clock_megahertz=None, machine=MACHINE)
    assert text_of([quiet]).count("–") == 5


def test_an_emulated_run_shows_no_speed() -> None:
    emulated = replace(felt(is_emulated=True), samples=())
    assert not device_table.has_conditions([emulated])
    assert "an emulator's speed means nothing" in "\n".join(device_table.headings([emulated]))
    found = table.summary_rows([emulated])[0]
    assert (found["tokens_per_second"], found["gigabytes_per_second"]) == (None, None)
    assert found["is_emulated"] is True


def test_rows_of_this_machine_say_nothing() -> None:
    assert list(device_table.headings([row()])) == []
    assert not device_table.has_conditions([row()])
    assert device_table.summary(row()) == {}


def test_an_unknown_bus_is_said() -> None:
    unknown = replace(row(), machine=replace(MACHINE, bandwidth_gigabytes_per_second=None))
    assert "read bandwidth unknown" in table.headings([unknown])[0]
    assert unknown.bandwidth_share is None
