"""Which rows may stand beside each other, and why others may not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plm_edge.bench.rows import Row
from plm_edge.bench.stats import Ratio, ratio


@dataclass(frozen=True)
class Pair:
    """A row and the stock engine's on the same test, of the same run, if it was measured."""

    row: Row
    stock: Row | None

    @property
    def ratio(self) -> Ratio | None:
        """Ours over stock's."""
        if self.stock is None or not (self.row.samples and self.stock.samples):
            return None
        return ratio(self.row.samples, self.stock.samples)


@dataclass(frozen=True)
class History:
    """How a row compares with the last one before it that may be compared, and what may not."""

    before: Row | None
    ratio: Ratio | None
    refused: tuple[str, ...]


def pairs(rows: Sequence[Row]) -> list[Pair]:
    """Every row of the edge engine with its stock partner, then the stock rows left over."""
    taken: list[Row] = []
    found = []
    for row in rows:
        if row.engine.variant == "edge":
            partner = _partner(row, rows)
            found.append(Pair(row, partner))
            taken += [partner] if partner else []
    alone = [row for row in rows if row.engine.variant == "stock" and row not in taken]
    return [*found, *(Pair(row, None) for row in alone)]


def _partner(row: Row, rows: Sequence[Row]) -> Row | None:
    """Stock's row: with as many threads if there is one, else its own best."""
    candidates = [
        other
        for other in rows
        if other.engine.variant == "stock"
        and (other.run, other.case, other.test) == (row.run, row.case, row.test)
        and other.machine.key == row.machine.key
    ]
    equal = [other for other in candidates if other.settings.threads == row.settings.threads]
    return next(iter(equal or candidates), None)


def history(row: Row, earlier: Sequence[Row]) -> History:
    """Compare a row with earlier runs of the same thing; say what looks alike but is not."""
    alike = [other for other in earlier if other.run != row.run and _asks_the_same(row, other)]
    comparable = [other for other in alike if not differences(row, other)]
    refused = sorted({reason for other in alike for reason in differences(row, other)})
    if not comparable or not row.samples:
        return History(None, None, tuple(refused))
    before = comparable[-1]
    return History(before, ratio(row.samples, before.samples), tuple(refused))


def _asks_the_same(row: Row, other: Row) -> bool:
    return (
        (row.case, row.test, row.settings) == (other.case, other.test, other.settings)
        and row.engine.variant == other.engine.variant
        and row.model.name == other.model.name
        and bool(other.samples)
    )


def differences(row: Row, other: Row) -> list[str]:
    """Why two rows on the same test must not be compared; empty if they may."""
    reasons = []
    if row.machine.key != other.machine.key:
        reasons.append(f"another machine ({other.machine.cpu}, {other.machine.cores} cores)")
    if row.model.sha256 != other.model.sha256:
        reasons.append(f"another file named {other.model.name}")
    return reasons
