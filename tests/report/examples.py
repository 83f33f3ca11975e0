"""Results of every kind, for tests that need some."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from plm_edge.bench import rows
from plm_edge.bench.rows import Row
from plm_edge.eval.record import Header, Record
from tests.bench import examples as bench

HEADER = Header(
    kind="eval",
    command="plm-edge eval m.gguf --text t.txt",
    model="m.gguf",
    model_sha256="5a",
    model_bytes=2_000_000,
    layout="edge",
    is_random=False,
    engine="edge-host-1",
    machine="k1",
    cpu="CPU",
    text="t.txt",
    text_sha256="ab" * 32,
    ctx=512,
    date="2026-01-02T03:04:05+00:00",
)
EVAL_VALUES: dict[str, Any] = {
    "judged": 100,
    "surprise": [1.0, 1.2, 1.1],
    "divergence": [0.01, 0.03, 0.02],
    "same_top": [0.9, 0.92, 0.94],
    "bits_per_weight": 4.5,
    "cache_type": "f16",
    "threads": 2,
    "reference": "f16.gguf",
    "reference_sha256": "f0",
    "top": 1024,
}
PERCENTILES = {"p10": 0.1, "p50": 0.2, "p90": 0.3, "p99": 0.4, "mean": 0.2}
TASK_VALUES: dict[str, Any] = {
    "task": "own",
    "task_kind": "choice",
    "primary": "accuracy",
    "items": 4,
    "scores": {"accuracy": {"value": 0.5, "low": 0.15, "high": 0.85, "items": 4}},
    "groups": {},
    "baselines": {"random": 0.25, "longest": 0.6},
    "item_scores": [1, 0, 1, 0],
    "cache_type": "f16",
    "device": {
        "first_token_seconds": PERCENTILES,
        "input_tokens_per_second": {**PERCENTILES, "p50": 321.0},
        "total_seconds": PERCENTILES,
        "cpu_percent": {**PERCENTILES, "p50": 99.0},
        "peak_rss_bytes": 77_000_000,
        "temperature_celsius": None,
        "energy_joules": 1.25,
    },
}


def evaluation(
    sha256: str = "5a",
    *,
    divergence: float = 0.0,
    header: dict[str, Any] | None = None,
    **values: Any,
) -> Record:
    """An evaluation of one model; `divergence` is added to the example's."""
    changed = {"model": f"{sha256}.gguf", "model_sha256": sha256, **(header or {})}
    moved = [value + divergence for value in EVAL_VALUES["divergence"]]
    return Record(replace(HEADER, **changed), {**EVAL_VALUES, "divergence": moved, **values})


def task(sha256: str = "5a", *, header: dict[str, Any] | None = None, **values: Any) -> Record:
    """A task's result of one model."""
    changed = {
        "kind": "task",
        "command": f"plm-edge tasks run {sha256}.gguf --task own",
        "model": f"{sha256}.gguf",
        "model_sha256": sha256,
        "text": "own",
        **(header or {}),
    }
    return Record(replace(HEADER, **changed), {**TASK_VALUES, **values})


def generation(depth: int = 0, variant: Any = "edge", **changes: Any) -> Row:
    """A benchmark row of generation at a depth."""
    return bench.row(variant, test=rows.TestRef("generation", 32, depth), **changes)


def elsewhere(row: Row) -> Row:
    """The same measurement on another machine."""
    machine = replace(row.machine, key="k2", cpu="Other CPU", architecture="aarch64")
    return replace(row, machine=machine, run="r2", samples=(5.0, 6.0, 5.5))
