"""Rows as tables for people: speeds beside stock's, then memory. Derived from rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from plm_edge.bench import compare, device_table
from plm_edge.bench.compare import Pair
from plm_edge.bench.rows import Row
from plm_edge.bench.stats import Ratio, Summary

if TYPE_CHECKING:
    from rich.table import Table

NONE = "–"
# An idle system's own services stay well below.
BUSY_LOAD = 0.7


def headings(rows: Sequence[Row]) -> list[str]:
    """What the tables below are about: machine, files, engines, date."""
    first = rows[0]
    lines = [f"{first.date}  {first.machine.label}", *device_table.headings(rows)]
    lines += sorted({f"{row.engine.variant}: {row.model.label}, {row.engine.key}" for row in rows})
    fractions = {
        (row.reading.live_fraction, row.reading.live_fraction_is_measured)
        for row in rows
        if row.reading is not None and row.reading.live_fraction is not None
    }
    for fraction, is_measured in sorted(fractions):
        how = "measured" if is_measured else "assumed"
        lines.append(f"live neurons: {fraction:.1%} ({how}); GB/s counts only their rows")
    if first.load_average > BUSY_LOAD:
        lines.append(f"measured on a busy machine: load {first.load_average:.1f} before it began")
    return lines


def speed_table(rows: Sequence[Row], earlier: Sequence[Row] = ()) -> Table:
    """One line per test and setting; with `earlier` rows a column that compares with them."""
    columns = ["test", "depth", "cache", "threads", "tok/s", "stock", "ratio", "95 %"]
    columns += ["GB/s", "of bus"] + (["before"] if earlier else [])
    table = _table(columns, rows)
    for pair in compare.pairs([row for row in rows if row.samples]):
        cells = _speed_cells(pair)
        if earlier:
            cells.append(_ratio(compare.history(pair.row, earlier).ratio))
        table.add_row(*_case(pair.row, rows), *cells)
    return table


def memory_table(rows: Sequence[Row]) -> Table:
    """Peaks at a full context, one line per engine and setting."""
    columns = ["engine", "cache", "B/token", "context", "peak RSS", "anonymous", "file"]
    table = _table([*columns, "than stock"], rows)
    shown: list[Row] = []
    for pair in compare.pairs([row for row in rows if row.memory is not None]):
        table.add_row(*_case(pair.row, rows), *_memory_cells(pair.row, pair.stock))
        if pair.stock is not None and pair.stock not in shown:
            shown.append(pair.stock)
            table.add_row(*_case(pair.stock, rows), *_memory_cells(pair.stock, None))
    return table


def _case(row: Row, rows: Sequence[Row]) -> list[str]:
    """The case's name, where a table has cases at all."""
    return [row.case] if any(other.case for other in rows) else []


def _table(columns: Sequence[str], rows: Sequence[Row]) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False)
    names = [*(["case"] if any(row.case for row in rows) else []), *columns]
    for name in names:
        side = "left" if name in ("case", "test", "engine") else "right"
        table.add_column(name, justify=side, no_wrap=True)  # type: ignore[arg-type]
    return table


def _speed_cells(pair: Pair) -> list[str]:
    row = pair.row
    side = "" if row.engine.variant == "edge" else " (stock)"
    share = row.bandwidth_share
    return [
        f"{row.test.kind} {row.test.tokens}{side}",
        str(row.test.depth),
        row.settings.cache_type,
        str(row.settings.threads),
        _speed(row.speed) + ("*" if row.device and row.device.throttled_runs else ""),
        _speed(pair.stock.speed if pair.stock else None),
        _ratio(pair.ratio),
        _interval(pair.ratio),
        NONE if row.gigabytes_per_second is None else f"{row.gigabytes_per_second:.1f}",
        NONE if share is None else f"{share:.0%}",
    ]


def _memory_cells(row: Row, stock: Row | None) -> list[str]:
    assert row.memory is not None
    difference = NONE
    if stock is not None and stock.memory is not None:
        difference = f"{(row.memory.rss_bytes - stock.memory.rss_bytes) / 1e9:+.2f} GB"
    return [
        row.engine.variant,
        row.settings.cache_type,
        f"{row.cache_bytes_per_token:,}",
        str(row.test.tokens),
        _gigabytes(row.memory.rss_bytes),
        _gigabytes(row.memory.anonymous_bytes),
        _gigabytes(row.memory.file_bytes),
        difference,
    ]


def _speed(speed: Summary | None) -> str:
    return NONE if speed is None else f"{_digits(speed.median)} ±{speed.spread:.0%}"


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _ratio(ratio: Ratio | None) -> str:
    return NONE if ratio is None else f"{ratio.value:.2f}"


def _interval(ratio: Ratio | None) -> str:
    return NONE if ratio is None else f"{ratio.low:.2f}–{ratio.high:.2f}"


def _gigabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f} GB"


def summary_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The same numbers for machines, one object per line of the tables."""
    found = []
    for pair in compare.pairs(rows):
        row, ratio = pair.row, pair.ratio
        found.append(
            {
                "case": row.case,
                "engine": row.engine.variant,
                "model": row.model.label,
                "random_weights": row.model.is_random,
                "test": row.test.kind,
                "tokens": row.test.tokens,
                "depth": row.test.depth,
                "cache_type": row.settings.cache_type,
                "threads": row.settings.threads,
                "tokens_per_second": row.speed.median if row.speed else None,
                "spread": row.speed.spread if row.speed else None,
                "stock_tokens_per_second": _stock_median(pair),
                "ratio": ratio.value if ratio else None,
                "ratio_interval": [ratio.low, ratio.high] if ratio else None,
                "gigabytes_per_second": row.gigabytes_per_second,
                "bandwidth_share": row.bandwidth_share,
                "cache_bytes_per_token": row.cache_bytes_per_token,
                "peak_rss_bytes": row.memory.rss_bytes if row.memory else None,
                "peak_anonymous_bytes": row.memory.anonymous_bytes if row.memory else None,
                "peak_file_bytes": row.memory.file_bytes if row.memory else None,
                "stock_peak_rss_bytes": _stock_peak(pair),
                **device_table.summary(row),
            }
        )
    return found


def _stock_median(pair: Pair) -> float | None:
    speed = pair.stock.speed if pair.stock else None
    return speed.median if speed else None


def _stock_peak(pair: Pair) -> int | None:
    memory = pair.stock.memory if pair.stock else None
    return memory.rss_bytes if memory else None
