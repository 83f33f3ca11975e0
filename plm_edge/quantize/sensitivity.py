"""What each format of each matrix costs: KL of the model's output, measured or foretold.

Measured: the model with that one matrix rounded. Foretold: rounding noise is small and random, so
KL grows with the square of the error; the measured KL of one format times the ratio of the errors
that two formats put out. Every measurement is kept in a journal as it is made; a search that was
killed goes on after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plm_edge import results
from plm_edge.console import Progress, no_progress
from plm_edge.quantize.candidates import PROBE_TYPE, Candidate

Pair = tuple[str, str]
"""A tensor's name and a type."""

Measure = Callable[[str, str], float]
"""KL of the model with that one tensor rounded to that type, in nats a token."""

# Below this a divergence is the noise of 32-bit sums.
_FLOOR = 1e-8


@dataclass(frozen=True)
class Journal:
    """Measurements on disk: one line each, whole or not at all."""

    path: Path

    def read(self) -> dict[Pair, float]:
        """All measurements so far."""
        if not self.path.exists():
            return {}
        rows = results.read(self.path).rows
        return {(row["tensor"], row["type"]): float(row["divergence"]) for row in rows}

    def add(self, pair: Pair, divergence: float) -> None:
        """Keep one measurement."""
        name, kind = pair
        results.append(self.path, {"tensor": name, "type": kind, "divergence": divergence})


def pairs(candidates: Sequence[Candidate], *, all_types: bool) -> list[Pair]:
    """What to measure: one format of each matrix, or all of them besides."""
    found = [(one.tensor.name, probe_type(one)) for one in candidates]
    if all_types:
        found += [(one.tensor.name, kind) for one in candidates for kind in one.types]
    return list(dict.fromkeys(found))


def probe_type(candidate: Candidate) -> str:
    """The one format to measure a matrix in: 4 bits, near where choices are made."""
    return PROBE_TYPE


def measure(
    wanted: Sequence[Pair], how: Measure, journal: Journal, progress: Progress = no_progress
) -> dict[Pair, float]:
    """Every wanted measurement, those of the journal taken as they are."""
    found = journal.read()
    for number, pair in enumerate(wanted):
        progress(number, len(wanted))
        if pair not in found:
            found[pair] = how(*pair)
            journal.add(pair, found[pair])
    progress(len(wanted), len(wanted))
    return found


def costs(
    candidates: Sequence[Candidate],
    measured: Mapping[Pair, float],
    share: Callable[[Pair], float],
) -> dict[Pair, float]:
    """The cost of every format of every matrix; `share` is its error as a share of the output."""
    return {
        (one.tensor.name, kind): _cost(one, kind, measured, share)
        for one in candidates
        for kind in one.types
    }


def _cost(
    one: Candidate,
    kind: str,
    measured: Mapping[Pair, float],
    share: Callable[[Pair], float],
) -> float:
    name = one.tensor.name
    if (name, kind) in measured:
        return max(measured[name, kind], _FLOOR)
    probe = (name, probe_type(one))
    ratio = share((name, kind)) / max(share(probe), 1e-30)
    return max(measured[probe] * ratio, _FLOOR * min(ratio, 1.0))


def proxy_rank_correlation(
    candidates: Sequence[Candidate],
    measured: Mapping[Pair, float],
    share: Callable[[Pair], float],
) -> float | None:
    """Spearman's correlation of what one probe per matrix foretells with what was measured.

    Over all formats but the probe's and the matrix's own; None unless everything was measured.
    """
    probes = {
        (one.tensor.name, probe_type(one)): measured[one.tensor.name, probe_type(one)]
        for one in candidates
    }
    foretold = costs(candidates, probes, share)
    own = {(one.tensor.name, one.tensor.type) for one in candidates}
    pairs_ = [pair for pair in foretold if pair not in probes and pair not in own]
    if len(pairs_) < 2 or any(pair not in measured for pair in pairs_):
        return None
    return rank_correlation(
        [foretold[pair] for pair in pairs_], [measured[pair] for pair in pairs_]
    )


def rank_correlation(left: Sequence[float], right: Sequence[float]) -> float:
    """Spearman's correlation of two measurements of the same things."""
    return float(np.corrcoef(_ranks(left), _ranks(right))[0, 1])


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 0, those of equal values averaged."""
    array = np.asarray(values)
    return [float((array < value).sum() + ((array == value).sum() - 1) / 2) for value in array]
