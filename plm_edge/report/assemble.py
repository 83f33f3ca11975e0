"""From inputs to a whole report: every section that has something to say, in reading order."""

from __future__ import annotations

from collections.abc import Callable

from plm_edge.report import devices, layers, quality, speed, tasks
from plm_edge.report.inputs import Inputs
from plm_edge.report.page import Report, Section

_SECTIONS: tuple[Callable[[Inputs], Section | None], ...] = (
    quality.section,
    speed.section,
    devices.section,
    tasks.section,
    tasks.device_section,
    tasks.harness_section,
    layers.bits_section,
    layers.sparsity_section,
)


def report(inputs: Inputs, title: str) -> Report:
    """The report; sections without data are left out."""
    found = [section for make in _SECTIONS if (section := make(inputs)) is not None]
    return Report(
        title=title,
        sources=inputs.sources,
        sections=tuple(found),
        skipped=inputs.skipped,
        has_random_weights=_has_random(inputs),
    )


def _has_random(inputs: Inputs) -> bool:
    records = (*inputs.evals, *inputs.tasks, *inputs.harness)
    return (
        any(one.header.is_random for one in records)
        or any(row.model.is_random for row in inputs.bench)
        or any(header.is_random for header in inputs.files)
    )
