"""Tasks: scores with intervals beside baselines, paired differences, and what answers cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plm_edge.eval.record import Record
from plm_edge.eval.tasks import statistics
from plm_edge.report import conditions
from plm_edge.report.conditions import Group
from plm_edge.report.figures_text import NONE, interval, known, label, seconds, size, speed
from plm_edge.report.inputs import Inputs
from plm_edge.report.page import Dot, Dots, Figure, Section, Table

_COLUMNS = ("task", "model", "score", "value (95 %)", "items", "best without a model", "difference")
_COST_COLUMNS = (
    *("task", "model", "first token p50", "p90", "p99", "in tok/s", "out tok/s"),
    *("total p50", "p90", "CPU", "peak RSS", "°C", "energy"),
)


def section(inputs: Inputs) -> Section | None:
    """All tasks; a difference stands only between models under the same conditions."""
    by_task = _by_task(inputs.tasks)
    if not by_task:
        return None
    rows: list[tuple[str, ...]] = []
    dots: list[Dot] = []
    refused: list[str] = []
    for made in by_task:
        refused += [f"{made[0].first.header.text}: {line}" for line in conditions.refusals(made)]
        dots += [_dot(one) for one in made[0].records]
        for group in made:
            rows += _rows(group)
    commands = tuple(dict.fromkeys(one.header.command for one in inputs.tasks))
    return Section(
        id="tasks",
        title="Tasks",
        lead="Scores lie between 0 and 1. Intervals are 95 %: Wilson's for hits and misses, the "
        "bootstrap's otherwise. The difference is from the first model of the same task, item by "
        "item. The mark is the best one gets without any model.",
        figures=(Figure("Leading score of each task", Dots("score", tuple(dots), 0, 1), commands),),
        tables=(Table(_COLUMNS, tuple(rows), numbers_from=3),),
        refused=tuple(refused),
        commands=commands,
    )


def device_section(inputs: Inputs) -> Section | None:
    """What the answers of each task cost the machine."""
    newest = [group for made in _by_task(inputs.tasks) for group in made]
    if not newest:
        return None
    records = [one for group in newest for one in group.records]
    return Section(
        id="cost",
        title="What answers cost",
        lead="Over the items of a task: median and tails of the time to the first token and of the "
        "whole answer, medians of the speeds, and what the machine tells of itself.",
        tables=(Table(_COST_COLUMNS, tuple(_cost(one) for one in records), numbers_from=2),),
        commands=tuple(dict.fromkeys(one.header.command for one in records)),
    )


def harness_section(inputs: Inputs) -> Section | None:
    """Results of lm-evaluation-harness, as it names its metrics."""
    if not inputs.harness:
        return None
    rows = [
        (
            one.header.text,
            label(one.header.model, is_random=one.header.is_random),
            name,
            f"{value:.4f}",
            known(one.values["metrics"].get(f"{name}_stderr"), "{:.4f}"),
            str(one.values["items"]),
        )
        for one in inputs.harness
        for name, value in one.values["metrics"].items()
        if not name.endswith("_stderr")
    ]
    columns = ("task", "model", "metric", "value", "standard error", "items")
    return Section(
        id="harness",
        title="lm-evaluation-harness",
        lead="Its tasks, prompts and metrics on our engine.",
        tables=(Table(columns, tuple(rows), numbers_from=3),),
        commands=tuple(dict.fromkeys(one.header.command for one in inputs.harness)),
    )


def _by_task(records: Sequence[Record]) -> list[list[Group]]:
    names = dict.fromkeys(one.header.text for one in records)
    return [conditions.groups([r for r in records if r.header.text == name]) for name in names]


def _rows(group: Group) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for one in group.records:
        values = one.values
        primary = values["primary"]
        groups = {f"{primary} of {name}": score for name, score in values["groups"].items()}
        scores = {primary: values["scores"][primary], **values["scores"], **groups}
        for name, score in scores.items():
            is_first = name == primary
            found.append(
                (
                    values["task"],
                    label(one.header.model, is_random=one.header.is_random),
                    name,
                    interval(score),
                    str(score["items"]),
                    _best_baseline(values) if is_first else "",
                    _difference(one, group.first) if is_first else "",
                )
            )
    return found


def _best_baseline(values: dict[str, Any]) -> str:
    baselines: dict[str, float] = values["baselines"]
    name = max(baselines, key=lambda key: baselines[key])
    return f"{baselines[name]:.3f} {name}"


def _difference(one: Record, first: Record) -> str:
    if one is first:
        return NONE
    mine, theirs = one.values["item_scores"], first.values["item_scores"]
    if len(mine) != len(theirs) or one.values.get("left_out") != first.values.get("left_out"):
        return f"not compared: {len(mine)} and {len(theirs)} items, not the same"
    return interval(vars(statistics.paired_difference(mine, theirs)), "{:+.3f}")


def _dot(one: Record) -> Dot:
    values = one.values
    score = values["scores"][values["primary"]]
    name = f"{values['task']}: {one.header.model.removesuffix('.gguf')}{_place(one)}"
    best = max(values["baselines"].values()) if values["baselines"] else None
    return Dot(name, score["value"], score["low"], score["high"], best)


def _place(one: Record) -> str:
    device = one.values["device"]
    return f" on {device['name']}" if "name" in device else ""


def _cost(one: Record) -> tuple[str, ...]:
    device = one.values["device"]

    def part(name: str, percentile: str) -> float | None:
        found = device.get(name)
        return found[percentile] if isinstance(found, dict) else None

    return (
        one.values["task"],
        label(one.header.model, is_random=one.header.is_random) + _place(one),
        *(seconds(part("first_token_seconds", p)) for p in ("p50", "p90", "p99")),
        speed(part("input_tokens_per_second", "p50")),
        speed(part("output_tokens_per_second", "p50")),
        *(seconds(part("total_seconds", p)) for p in ("p50", "p90")),
        known(part("cpu_percent", "p50"), "{:.0f}%"),
        size(device.get("peak_rss_bytes")),
        known(device.get("temperature_celsius"), "{:.0f}"),
        known(device.get("energy_joules"), "{:.1f} J"),
    )
