"""Tables at a fixed width, from rows alone."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table

from plm_edge.bench import table
from plm_edge.bench.rows import TestRef as Ref
from tests.bench.examples import ROW, memory_row, row

STOCK = row("stock", samples=(10.0, 10.5, 10.0), reading=None)


def lines(shown: Table) -> list[list[str]]:
    out = io.StringIO()
    Console(file=out, width=140, _environ={}).print(shown)
    return [line.split() for line in out.getvalue().splitlines() if line.strip()]


def test_a_speed_line() -> None:
    found = lines(table.speed_table([ROW, STOCK]))
    expected = "generation 32 1024 f16 2 21.0 ±2% 10.0 ±1% 2.10 1.90–2.20 21.0 52%"
    assert found[-1] == expected.split()
    assert "case" not in found[0]


def test_stock_alone_is_marked_and_prompts_have_no_bandwidth() -> None:
    prompt = row("stock", test=Ref("prompt", 512, 0), reading=None, samples=(200.0,))
    found = lines(table.speed_table([prompt]))
    assert " ".join(found[-1]) == "prompt 512 (stock) 0 f16 2 200 ±0% – – – – –"


def test_cases_and_earlier_runs_get_columns() -> None:
    named = row(case="q4")
    before = row(case="q4", run="r0", samples=(10.5,))
    found = lines(table.speed_table([named], [before]))
    assert found[0][0] == "case"
    assert found[0][-1] == "before"
    assert (found[-1][0], found[-1][-1]) == ("q4", "2.00")


def test_memory_lines_say_the_difference_and_stock_once() -> None:
    shown = lines(
        table.memory_table([memory_row("edge", 2_000_000_000), memory_row("stock", 3_100_000_000)])
    )
    assert " ".join(shown[-2]) == "edge f16 36,864 4096 2.00 GB 1.00 GB 1.00 GB -1.10 GB"
    assert " ".join(shown[-1]) == "stock f16 36,864 4096 3.10 GB 1.55 GB 1.55 GB –"


def test_headings_name_machine_files_and_random_weights() -> None:
    text = "\n".join(table.headings([ROW, STOCK]))
    assert "CPU, 2 cores, 16 GiB, reads 40.0 GB/s" in text
    assert "edge: m.gguf (edge, random weights), edge-host-1" in text
    assert "live neurons: 9.1% (measured)" in text


def test_a_busy_machine_is_said() -> None:
    assert "load 3.5 before it began" in table.headings([row(load_average=3.5)])[-1]
    assert not any("busy" in line for line in table.headings([row(load_average=0.2)]))


def test_machine_readable_rows_tell_the_same() -> None:
    found = table.summary_rows([ROW, STOCK, memory_row("edge", 5), memory_row("stock", 9)])
    assert [entry["test"] for entry in found] == ["generation", "memory"]
    assert (found[0]["ratio"], found[0]["bandwidth_share"]) == (2.1, 0.525)
    assert (found[1]["peak_rss_bytes"], found[1]["stock_peak_rss_bytes"]) == (5, 9)
    assert found[0]["random_weights"]
