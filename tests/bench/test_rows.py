"""Rows survive the way through the file; foreign and broken lines do not stop the others."""

from __future__ import annotations

import json
from pathlib import Path

from plm_edge import results
from plm_edge.bench import rows
from tests.bench.examples import ROW, memory_row, row


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "neue ergebnisse.jsonl"
    written = (ROW, memory_row("stock", 5), row(reading=None, temperature_celsius=61.5))
    rows.write(path, written)
    assert rows.read(path) == rows.RowsRead(written, ())


def test_half_a_last_line_spoils_itself_only(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    rows.write(path, [ROW])
    with path.open("a") as file:
        file.write('{"kind": "bench", "version": 1, "run": "r')
    read = rows.read(path)
    assert read.rows == (ROW,)
    assert read.skipped == (f"{path}:2: not a whole JSON line, skipped",)
    rows.write(path, [ROW])
    assert rows.read(path).rows == (ROW, ROW)


def test_other_kinds_are_left_alone_and_broken_rows_named(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    results.append(path, {"kind": "eval", "perplexity": 3.0})
    rows.write(path, [ROW])
    line = json.loads(path.read_text().splitlines()[-1])
    results.append(path, {**line, "version": 99})
    results.append(path, {**line, "samples": "fast"})
    results.append(path, {**line, "model": 7})
    read = rows.read(path)
    assert read.rows == (ROW,)
    assert [text.split(": ", 1)[1] for text in read.skipped] == [
        "row version 99, expected 1; row skipped",
        "samples = 'fast', expected a list; row skipped",
        "model = 7, expected a table; row skipped",
    ]


def test_numbers_of_a_row() -> None:
    assert ROW.speed is not None
    assert ROW.speed.median == 21.0
    assert ROW.gigabytes_per_second == 21.0
    assert ROW.bandwidth_share == 21.0 / 40
    assert memory_row("edge", 5).speed is None
    assert memory_row("edge", 5).bandwidth_share is None
    assert ROW.model.label == "m.gguf (edge, random weights)"
