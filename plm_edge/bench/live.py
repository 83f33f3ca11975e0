"""Which share of the neurons fires, layer by layer, as the engine counted it.

With PLM_EDGE_PROFILE set, the engine prints a `plm-live TENSOR LIVE ALL` line per layer at exit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from plm_edge import shell
from plm_edge.bench.plan import Side
from plm_edge.bench.runner import TOOL
from plm_edge.engine.cache import Engine

ENVIRONMENT = {"PLM_EDGE_PROFILE": "1"}
TOKENS = 16
_LINE = re.compile(r"^plm-live blk\.(\d+)\.\S+ (\d+) (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Live:
    """Live share of the neurons by layer, and over all of them."""

    layers: Mapping[int, float]
    fraction: float


def measure(side: Side, engine: Engine) -> Live | None:
    """Generate a few tokens and count; None if the engine does not skip neurons of this file."""
    words = ["-m", str(side.file), "-o", "json", "-r", "1", "-p", "0", "-n", str(TOKENS)]
    done = shell.capture(
        [engine.tool(TOOL), *words, "-t", str(side.threads)],
        env={**engine.run_environment(), **ENVIRONMENT},
    )
    return parse(done.stderr)


def parse(text: str) -> Live | None:
    """The counts in the engine's stderr."""
    counts: dict[int, list[int]] = {}
    for layer, live, total in _LINE.findall(text):
        sums = counts.setdefault(int(layer), [0, 0])
        sums[0] += int(live)
        sums[1] += int(total)
    whole = sum(total for _, total in counts.values())
    if not whole:
        return None
    layers = {layer: live / total for layer, (live, total) in sorted(counts.items()) if total}
    return Live(layers, sum(live for live, _ in counts.values()) / whole)
