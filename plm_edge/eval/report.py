"""Results as tables for people and as rows for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from plm_edge.eval.compare import Difference, Refused, compare
from plm_edge.eval.interval import FEW_WINDOWS, Interval
from plm_edge.eval.measure import Outcome
from plm_edge.eval.record import Record

if TYPE_CHECKING:
    from rich.table import Table


def headings(records: Sequence[Record]) -> list[str]:
    """What all results of a table have in common."""
    first = records[0]
    header, values = first.header, first.values
    outcome = Outcome.from_values(values)
    lines = [
        f"{header.text} ({header.text_sha256[:12]}), {len(outcome.surprise)} windows of "
        f"{header.ctx} tokens, {outcome.tokens:,} predictions judged",
        f"{header.engine} on {header.cpu} ({header.machine}), {values['cache_type']} cache",
    ]
    if values["reference"]:
        lines.append(f"reference: {values['reference']} ({values['reference_sha256'][:12]})")
    if len(outcome.surprise) < FEW_WINDOWS:
        lines.append(f"few windows: intervals from fewer than {FEW_WINDOWS} are too narrow")
    return lines


def table(records: Sequence[Record]) -> Table:
    """One line per model: size, perplexity, divergence and agreement with their intervals."""
    grid = _grid("model", "bytes", "bits", "perplexity", "KL (nats)", "same top")
    for one in records:
        outcome = Outcome.from_values(one.values)
        label = one.header.model + (" (random weights)" if one.header.is_random else "")
        grid.add_row(
            label,
            f"{one.header.model_bytes:,}",
            f"{one.values['bits_per_weight']:.2f}",
            _number(outcome.perplexity, "{:.4f}"),
            _number(outcome.mean_divergence, "{:.5f}"),
            _number(outcome.top_agreement, "{:.2%}"),
        )
    return grid


def difference_table(records: Sequence[Record]) -> tuple[Table | None, list[str]]:
    """Each result less the first one; and a line for each that may not be compared with it."""
    grid = _grid("less " + records[0].header.model, "log-perplexity", "KL (nats)", "same top")
    refused: list[str] = []
    for one in records[1:]:
        found = compare(one, records[0])
        if isinstance(found, Refused):
            refused.append(f"{one.header.model}: not compared: {'; '.join(found.reasons)}")
        else:
            grid.add_row(one.header.model, *_cells(found))
    return (grid if grid.rows else None), refused


def _cells(found: Difference) -> tuple[str, str, str]:
    return (
        _number(found.surprise, "{:+.5f}"),
        _number(found.divergence, "{:+.5f}"),
        _number(found.same_top, "{:+.2%}"),
    )


def _grid(first: str, *others: str) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    grid = Table(box=SIMPLE, pad_edge=False)
    grid.add_column(first)
    for heading in others:
        grid.add_column(heading, justify="right")
    return grid


def _number(found: Interval | None, form: str) -> str:
    if found is None:
        return "–"
    return f"{form.format(found.value)} [{form.format(found.low)}, {form.format(found.high)}]"


def rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """For machines: each result with its means, and its difference from the first."""
    return [_row(one, records[0], is_first=i == 0) for i, one in enumerate(records)]


def _row(one: Record, first: Record, *, is_first: bool) -> dict[str, Any]:
    outcome = Outcome.from_values(one.values)
    found = None if is_first else compare(one, first)
    return {
        **asdict(one.header),
        "bits_per_weight": one.values["bits_per_weight"],
        "reference": one.values["reference"],
        "windows": len(outcome.surprise),
        "perplexity": asdict(outcome.perplexity),
        "divergence": _table(outcome.mean_divergence),
        "same_top": _table(outcome.top_agreement),
        "difference_from_first": asdict(found) if isinstance(found, Difference) else None,
        "not_compared": list(found.reasons) if isinstance(found, Refused) else [],
    }


def _table(found: Interval | None) -> dict[str, float] | None:
    return None if found is None else asdict(found)
