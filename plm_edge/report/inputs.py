"""Everything a report is made from: results files, GGUF headers, and what `inspect` printed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plm_edge import schema
from plm_edge.bench import rows as bench_rows
from plm_edge.bench.rows import Row
from plm_edge.errors import ConfigError, InputError
from plm_edge.eval import record
from plm_edge.eval.record import Record, RecordsRead
from plm_edge.gguf_header import GgufHeader, is_gguf, read_header
from plm_edge.paths import read_bytes
from plm_edge.shell import quote

_JSON_LIMIT_BYTES = 16 << 20
# What the sections read without asking; a later version may have renamed it.
_NEEDED = {
    "eval": ("judged", "surprise", "divergence", "same_top", "bits_per_weight"),
    "task": ("task", "primary", "scores", "groups", "baselines", "item_scores", "device"),
    "harness": ("task", "items", "metrics"),
}
_TYPES = (str, int, float, list, dict)


@dataclass(frozen=True)
class LayerActivity:
    """A layer as `plm-edge inspect --sparsity --json` tells it."""

    zero_share: float
    never_share: float


@dataclass(frozen=True)
class Activity:
    """What `plm-edge inspect --sparsity --json` prints."""

    tokens: int
    layers: tuple[LayerActivity, ...]
    zero_share: float
    name: str = ""


@dataclass(frozen=True)
class Inputs:
    """All results by kind, oldest first, and a line for each one that could not be read."""

    sources: tuple[str, ...] = ()
    bench: tuple[Row, ...] = ()
    evals: tuple[Record, ...] = ()
    tasks: tuple[Record, ...] = ()
    harness: tuple[Record, ...] = ()
    files: tuple[GgufHeader, ...] = ()
    activities: tuple[Activity, ...] = ()
    skipped: tuple[str, ...] = ()

    def plus(self, other: Inputs) -> Inputs:
        """Both together."""
        return Inputs(
            self.sources + other.sources,
            self.bench + other.bench,
            self.evals + other.evals,
            self.tasks + other.tasks,
            self.harness + other.harness,
            self.files + other.files,
            self.activities + other.activities,
            self.skipped + other.skipped,
        )

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to report."""
        return not (self.bench or self.evals or self.tasks or self.harness) and not (
            self.files or self.activities
        )


def read(paths: Sequence[Path]) -> Inputs:
    """The contents of all files; `InputError` if none of them holds a result."""
    found = Inputs()
    for path in paths:
        found = found.plus(_read_one(path))
    if found.is_empty:
        names = ", ".join(map(str, paths))
        raise InputError(
            f"{names}: no result of bench, eval or tasks in it",
            hint="plm-edge bench FILE --results results.jsonl",
        )
    return found


def _read_one(path: Path) -> Inputs:
    if is_gguf(path):
        return Inputs(sources=(path.name,), files=(read_header(path),))
    if path.suffix == ".json":
        return Inputs(sources=(path.name,), activities=(_activity(path),))
    measured = bench_rows.read(path)
    by_kind = {kind: _records(path, kind) for kind in _NEEDED}
    skipped = [*measured.skipped, *(line for one in by_kind.values() for line in one.skipped)]
    return Inputs(
        sources=(path.name,),
        bench=measured.rows,
        evals=by_kind["eval"].records,
        tasks=by_kind["task"].records,
        harness=by_kind["harness"].records,
        # Half a line is told by each reader; once is enough.
        skipped=tuple(dict.fromkeys(skipped)),
    )


def _records(path: Path, kind: str) -> RecordsRead:
    """The results of a kind that hold what a page shows of them; the others are told."""
    found = record.read(path, kind)
    kept, skipped = [], list(found.skipped)
    for one in found.records:
        missing = [name for name in _NEEDED[kind] if not isinstance(one.values.get(name), _TYPES)]
        if missing:
            where = f"{path}: {kind} of {one.header.date}"
            skipped.append(f"{where}: {', '.join(missing)} missing; row skipped")
        else:
            kept.append(one)
    return RecordsRead(tuple(kept), tuple(skipped))


def _activity(path: Path) -> Activity:
    raw = read_bytes(path, limit_bytes=_JSON_LIMIT_BYTES)
    try:
        table = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(table, dict):
        raise ConfigError(
            f"{path}: not what inspect prints",
            hint=f"plm-edge inspect FILE --sparsity TEXT --json > {quote([path])}",
        )
    return schema.build({**table, "name": path.stem}, Activity, path)
