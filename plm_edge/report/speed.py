"""Speed over depth, ours and stock's, and the memory a full context takes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from plm_edge.bench import compare
from plm_edge.bench.compare import Pair
from plm_edge.bench.rows import Row
from plm_edge.report.figures_text import NONE, known, parameters, size, speed
from plm_edge.report.inputs import Inputs
from plm_edge.report.page import Figure, Lines, Section, Series, Table


def section(inputs: Inputs) -> Section | None:
    """The newest runs: a ratio stands only between engines of one run on one machine."""
    rows = newest(inputs.bench)
    if not rows:
        return None
    figures = [_figure(group) for group in _comparable([row for row in rows if row.samples])]
    runs = len({row.run for row in rows})
    several = "numbers of different runs stand in their own rows and are not divided by each other"
    return Section(
        id="speed",
        title="Speed over depth",
        lead="Medians of interleaved rounds. The ratio with its 95 % interval is between our "
        "engine and stock's, of the same run on the same machine.",
        figures=tuple(figure for figure in figures if figure is not None),
        tables=(_speed_table(rows), *_memory_tables(rows)),
        refused=(several,) if runs > 1 else (),
        commands=commands(rows),
    )


def newest(rows: Sequence[Row]) -> list[Row]:
    """Of each file, test, setting and machine the last measurement, in the file's order."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        what = (row.engine.variant, row.model.sha256, row.case, row.test)
        key = (*what, row.machine.key, row.settings)
        found.pop(key, None)
        found[key] = row
    return list(found.values())


def commands(rows: Sequence[Row]) -> tuple[str, ...]:
    """What made these rows."""
    return tuple(dict.fromkeys(row.command for row in rows))


def name_of(row: Row) -> str:
    """Engine, file and cache, as a legend shows them."""
    engine = "ours" if row.engine.variant == "edge" else "stock"
    cache = "" if row.settings.cache_type == "f16" else f", {row.settings.cache_type} cache"
    return f"{engine}: {row.model.name.removesuffix('.gguf')}{cache}"


def _comparable(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows by kind of test, size of the model and machine: what belongs on one pair of axes."""
    found: dict[tuple[str, int, str], list[Row]] = {}
    for row in rows:
        key = (row.test.kind, row.model.parameters, row.machine.key)
        found.setdefault(key, []).append(row)
    return sorted(
        found.values(), key=lambda group: (-group[0].model.parameters, group[0].test.kind)
    )


def _figure(rows: Sequence[Row]) -> Figure | None:
    """Lines of what was measured at more than one depth."""
    series, used = [], []
    ordered = sorted(rows, key=_series_key)
    for _, found in groupby(ordered, key=_series_key):
        line = sorted(found, key=lambda row: row.test.depth)
        line = list({row.test.depth: row for row in line}.values())
        if len(line) < 2:
            continue
        used += line
        series.append(_series(line))
    if not series:
        return None
    chart = Lines("tokens in the cache", "tokens per second", tuple(series))
    what = "Generation" if rows[0].test.kind == "generation" else "Prompt"
    count = parameters(rows[0].model.parameters)
    title = f"{what}, {count} parameters, {rows[0].machine.cpu}; bars span the quartiles"
    return Figure(title, chart, commands(used))


def _series_key(row: Row) -> tuple[str, str, str, int, int]:
    return (
        row.engine.variant,
        row.model.name,
        row.settings.cache_type,
        row.settings.threads,
        row.test.tokens,
    )


def _series(line: Sequence[Row]) -> Series:
    summaries = [row.speed for row in line if row.speed is not None]
    return Series(
        name_of(line[0]),
        tuple(float(row.test.depth) for row in line),
        tuple(found.median for found in summaries),
        tuple(found.lower_quartile for found in summaries),
        tuple(found.upper_quartile for found in summaries),
    )


def _speed_table(rows: Sequence[Row]) -> Table:
    columns = ("file", "test", "depth", "cache", "threads", "tok/s", "stock", "ratio (95 %)")
    timed = compare.pairs([row for row in rows if row.samples])
    return Table(
        (*columns, "GB/s", "of bus"), tuple(_speed_row(pair) for pair in timed), numbers_from=2
    )


def _speed_row(pair: Pair) -> tuple[str, ...]:
    row, ratio = pair.row, pair.ratio
    share = row.bandwidth_share
    return (
        row.model.label if row.engine.variant == "edge" else f"stock: {row.model.label}",
        f"{row.test.kind} {row.test.tokens}",
        str(row.test.depth),
        row.settings.cache_type,
        str(row.settings.threads),
        speed(row.speed.median if row.speed else None),
        speed(pair.stock.speed.median if pair.stock and pair.stock.speed else None),
        f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})" if ratio else NONE,
        known(row.gigabytes_per_second, "{:.1f}"),
        known(share, "{:.0%}"),
    )


def _memory_tables(rows: Sequence[Row]) -> list[Table]:
    found = [row for row in rows if row.memory is not None]
    if not found:
        return []
    columns = ("engine and file", "context", "cache", "bytes a token", "peak RSS", "anonymous")
    cells = tuple(
        (
            name_of(row),
            str(row.test.tokens),
            row.settings.cache_type,
            f"{row.cache_bytes_per_token:,}",
            size(row.memory.rss_bytes if row.memory else None),
            size(row.memory.anonymous_bytes if row.memory else None),
        )
        for row in found
    )
    return [Table(columns, cells, caption="Memory with a full context")]
