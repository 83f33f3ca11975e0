"""Which evaluation results may stand side by side: those with nothing different but the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plm_edge.eval import record
from plm_edge.eval.record import Record

# Conditions that the header does not carry but the values do.
_VALUES = ("cache_type", "reference_sha256", "top")


@dataclass(frozen=True)
class Group:
    """Results measured under the same conditions, the newest of each model."""

    records: tuple[Record, ...]

    @property
    def first(self) -> Record:
        """The one that others are compared with."""
        return self.records[0]


def groups(records: Sequence[Record]) -> list[Group]:
    """The records by their conditions, the group with most models first, then the newest."""
    found: dict[tuple[object, ...], dict[str, Record]] = {}
    for one in records:
        models = found.setdefault(_key(one), {})
        models.pop(one.header.model_sha256, None)
        models[one.header.model_sha256] = one
    made = [Group(tuple(models.values())) for models in found.values()]
    made.sort(key=lambda group: max(one.header.date for one in group.records), reverse=True)
    return sorted(made, key=lambda group: -len(group.records))


def refusals(made: Sequence[Group]) -> list[str]:
    """Why the later groups are not compared with the first, a line each."""
    lines = []
    for other in made[1:]:
        names = ", ".join(dict.fromkeys(one.header.model for one in other.records))
        reasons = differences(made[0].first, other.first)
        lines.append(f"{names}: not compared with {made[0].first.header.model}: {reasons}")
    return lines


def differences(left: Record, right: Record) -> str:
    """All that differs besides the model."""
    found = list(record.differences(left.header, right.header))
    for name in _VALUES:
        mine, theirs = left.values.get(name), right.values.get(name)
        if mine != theirs:
            found.append(f"different {name} ({_short(mine)}, {_short(theirs)})")
    return "; ".join(found)


def _key(one: Record) -> tuple[object, ...]:
    header = one.header
    conditions = (header.text_sha256, header.ctx, header.engine, header.machine)
    return (*conditions, *(one.values.get(name) for name in _VALUES))


def _short(value: object) -> str:
    return str(value)[:12] if value is not None else "none"
