"""The header that every evaluation result carries, and the rule of what may be compared.

A result is one line of the results file (`plm_edge/results.py`): this header under `header`, and
what was measured beside it. Two results are compared only where text, context, engine and machine
are the same; the model is what differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from plm_edge import __version__, results, schema

VERSION = 1


def now() -> str:
    """The time of a result, to the second, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Header:
    """Where a result comes from. `text` is the evaluated text, or a task's data."""

    kind: str
    command: str
    model: str
    model_sha256: str
    model_bytes: int
    layout: str
    is_random: bool
    engine: str
    machine: str
    cpu: str
    text: str
    text_sha256: str
    ctx: int
    date: str = field(default_factory=now)
    plm_edge: str = __version__


@dataclass(frozen=True)
class Record:
    """One result: its header and what was measured, by name."""

    header: Header
    values: dict[str, Any]


@dataclass(frozen=True)
class RecordsRead:
    """The results of one kind in a file, oldest first, and a line for each that is unreadable."""

    records: tuple[Record, ...]
    skipped: tuple[str, ...]


def differences(left: Header, right: Header) -> tuple[str, ...]:
    """What makes two results incomparable, one phrase each; empty if they may be compared."""
    return tuple(_differences(left, right))


def _differences(left: Header, right: Header) -> Iterator[str]:
    if left.kind != right.kind:
        yield f"different kinds ({left.kind}, {right.kind})"
    if left.text_sha256 != right.text_sha256:
        yield f"different texts ({_short(left.text_sha256)}, {_short(right.text_sha256)})"
    if left.ctx != right.ctx:
        yield f"different contexts ({left.ctx}, {right.ctx} tokens)"
    if left.engine != right.engine:
        yield f"different engines ({left.engine}, {right.engine})"
    if left.machine != right.machine:
        yield f"different machines ({left.machine}, {right.machine})"


def _short(digest: str) -> str:
    return digest[:12]


def write(path: Path, record: Record) -> None:
    """Append a result to a results file; no value may be NaN."""
    row = {"kind": record.header.kind, "version": VERSION, "header": asdict(record.header)}
    results.append(path, {**row, "values": record.values})


def read(path: Path, kind: str) -> RecordsRead:
    """The results of this kind; rows of other kinds are left alone, broken ones told."""
    return RecordsRead(
        *results.read_kind(path, kind, VERSION, lambda row: schema.build(row, Record, path))
    )
