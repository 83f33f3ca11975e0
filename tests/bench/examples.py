"""Rows as a run makes them, for tests that need some."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from plm_edge.bench import rows
from plm_edge.bench.rows import Row

ENGINE = rows.EngineRef("edge", "edge-host-1", "llama-cpp-python", "0.3.36", "abc")
MODEL = rows.ModelRef("/models/m.gguf", "5a", 1000, "edge", 50, {"q4_0": 900}, True)
MACHINE = rows.MachineRef("k1", "CPU", "x86_64", ("avx2",), 2, 16 << 30, "6.1", 40.0)
ROW = Row(
    run="r1",
    date="2026-01-02T03:04:05+00:00",
    case="",
    engine=ENGINE,
    model=MODEL,
    machine=MACHINE,
    test=rows.TestRef("generation", 32, 1024),
    settings=rows.Settings(2, "f16", "auto"),
    command="llama-bench -m m.gguf",
    samples=(20.0, 22.0, 21.0),
    cache_bytes_per_token=36864,
    plm_edge="0.1.0",
    reading=rows.Reading(1e9, 0.091, True),
)


def row(variant: Literal["edge", "stock"] = "edge", **changes: Any) -> Row:
    """The example, as another engine or otherwise changed."""
    return replace(ROW, engine=replace(ENGINE, variant=variant), **changes)


def memory_row(variant: Literal["edge", "stock"], rss_bytes: int) -> Row:
    """A memory test of an engine."""
    return row(
        variant,
        test=rows.TestRef("memory", 4096, 0),
        samples=(),
        reading=None,
        memory=rows.Memory(rss_bytes, rss_bytes // 2, rss_bytes // 2),
    )
