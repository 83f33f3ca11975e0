"""Two results side by side: the difference where there is one to tell, else why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plm_edge.eval import interval, record
from plm_edge.eval.interval import Interval
from plm_edge.eval.measure import Outcome
from plm_edge.eval.record import Record

KIND = "eval"


@dataclass(frozen=True)
class Difference:
    """A result less another one, window by window. `surprise` is that of log-perplexities."""

    surprise: Interval
    divergence: Interval | None = None
    same_top: Interval | None = None


@dataclass(frozen=True)
class Refused:
    """Why two results are not compared."""

    reasons: tuple[str, ...]


def compare(left: Record, right: Record) -> Difference | Refused:
    """left - right, or why not."""
    reasons = record.differences(left.header, right.header)
    mine, theirs = (Outcome.from_values(side.values) for side in (left, right))
    if not reasons and len(mine.surprise) != len(theirs.surprise):
        reasons = (f"different numbers of windows ({len(mine.surprise)}, {len(theirs.surprise)})",)
    if not reasons and left.values["cache_type"] != right.values["cache_type"]:
        reasons = (f"different caches ({left.values['cache_type']}, {right.values['cache_type']})",)
    if reasons:
        return Refused(reasons)
    surprise = interval.difference(mine.surprise, theirs.surprise)
    if not has_same_reference(left, right):
        return Difference(surprise)
    return Difference(
        surprise,
        interval.difference(mine.divergence, theirs.divergence),
        interval.difference(mine.same_top, theirs.same_top),
    )


def has_same_reference(left: Record, right: Record) -> bool:
    """Whether both were measured against the same distributions."""
    keys = [(side.values["reference_sha256"], side.values["top"]) for side in (left, right)]
    return keys[0] == keys[1] and keys[0][0] is not None


def newest(records: Sequence[Record]) -> list[Record]:
    """The last result of each model under the same conditions, oldest first."""
    found: dict[tuple[object, ...], Record] = {}
    for one in records:
        header, values = one.header, one.values
        key = (
            *(header.model_sha256, header.text_sha256, header.ctx, header.engine, header.machine),
            *(values["reference_sha256"], values["cache_type"], len(values["surprise"])),
        )
        found.pop(key, None)
        found[key] = one
    return list(found.values())
