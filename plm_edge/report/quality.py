"""Size, quality and speed of each model: which ones nobody beats on all three."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plm_edge.bench.rows import Row
from plm_edge.eval.measure import Outcome
from plm_edge.eval.record import Record
from plm_edge.report import conditions
from plm_edge.report.conditions import Group
from plm_edge.report.figures_text import NONE, interval, label, size, speed
from plm_edge.report.inputs import Inputs
from plm_edge.report.page import Figure, Point, Points, Section, Table


@dataclass(frozen=True)
class Model:
    """One model's three measures; quality is a divergence or a log-perplexity, lower is better."""

    record: Record
    outcome: Outcome
    generation: Row | None

    @property
    def cost(self) -> tuple[float, float, float]:
        """What Pareto's order goes by, lower is better: bytes, quality, seconds per token."""
        row = self.generation
        seconds = 1 / row.speed.median if row is not None and row.speed else 0.0
        return (self.record.header.model_bytes, self.quality[0], seconds)

    @property
    def is_reference(self) -> bool:
        """Whether the others were measured against this one."""
        reference = self.record.values["reference_sha256"]
        return bool(reference == self.record.header.model_sha256)

    @property
    def quality(self) -> tuple[float, float, float]:
        """Value, low and high of what the chart shows."""
        found = self.outcome.mean_divergence or self.outcome.perplexity
        return found.value, found.low, found.high


def section(inputs: Inputs) -> Section | None:
    """The Pareto picture of the largest group that may be compared, and a table of each group."""
    made = conditions.groups(inputs.evals)
    if not made:
        return None
    by_group = [_models(group, inputs.bench) for group in made]
    figures = [_figure(models) for models in by_group if len(models) > 1]
    return Section(
        id="quality",
        title="Size, quality, speed",
        lead=_lead(by_group[0]),
        figures=tuple(figures[:1]),
        tables=tuple(_table(models) for models in by_group),
        refused=tuple(conditions.refusals(made)),
        commands=_commands([model for models in by_group for model in models]),
    )


def _models(group: Group, bench: Sequence[Row]) -> list[Model]:
    found = [
        Model(one, Outcome.from_values(one.values), generation_of(one, bench))
        for one in group.records
    ]
    return sorted(found, key=lambda model: model.record.header.model_bytes)


def generation_of(one: Record, bench: Sequence[Row]) -> Row | None:
    """The fastest settings of the newest run of this very file on the same machine, depth least."""
    rows = [
        row
        for row in bench
        if row.model.sha256 == one.header.model_sha256
        and row.machine.key == one.header.machine
        and row.test.kind == "generation"
        and row.engine.variant == "edge"
        and row.samples
    ]
    if not rows:
        return None
    depth = min(row.test.depth for row in rows)
    newest = [row for row in rows if row.test.depth == depth]
    newest = [row for row in newest if row.run == newest[-1].run]
    return max(newest, key=lambda row: row.speed.median if row.speed else 0.0)


def best(models: Sequence[Model]) -> list[bool]:
    """Which models no other beats: none is at least as good in all measures and better in one."""
    return [not any(_beats(other, one) for other in models) for one in models]


def _beats(left: Model, right: Model) -> bool:
    mine, theirs = left.cost, right.cost
    if left.generation is None or right.generation is None:
        mine, theirs = (*mine[:2], 0.0), (*theirs[:2], 0.0)  # unknown speeds decide nothing
    return mine != theirs and all(a <= b for a, b in zip(mine, theirs, strict=True))


def _figure(models: Sequence[Model]) -> Figure:
    has_divergence = all(model.outcome.divergence for model in models)
    points = [
        Point(_name(model), model.record.header.model_bytes / 1e6, *model.quality, is_best=is_best)
        for model, is_best in zip(models, best(models), strict=True)
        if not (has_divergence and model.is_reference)  # it has no distance from itself
    ]
    measure = "KL divergence, nats a token" if has_divergence else "perplexity"
    chart = Points("size, MB", measure, tuple(points), is_log=has_divergence)
    title = "Smaller is left, closer to the reference is down; filled: nothing beats it"
    return Figure(title, chart, _commands(models))


def _name(model: Model) -> str:
    text = model.record.header.model.removesuffix(".gguf")
    row = model.generation
    return f"{text}, {speed(row.speed.median)} tok/s" if row is not None and row.speed else text


def _lead(models: Sequence[Model]) -> str:
    header, values = models[0].record.header, models[0].record.values
    reference = f"; reference {values['reference']}" if values.get("reference") else ""
    return (
        f"{header.text}, {len(models[0].outcome.surprise)} windows of {header.ctx} tokens, "
        f"{header.cpu}{reference}. Intervals are 95 %, drawn over windows. Speed is generation "
        "on the same machine, where it was measured."
    )


def _table(models: Sequence[Model]) -> Table:
    header = models[0].record.header
    columns = ("model", "size", "bits", "perplexity", "KL, nats", "same top", "tok/s", "beaten")
    rows = [
        (
            label(model.record.header.model, is_random=model.record.header.is_random),
            size(model.record.header.model_bytes),
            f"{model.record.values['bits_per_weight']:.2f}",
            _cell(model.outcome.perplexity, "{:.5g}"),
            "reference" if model.is_reference else _cell(model.outcome.mean_divergence, "{:.5f}"),
            NONE if model.is_reference else _cell(model.outcome.top_agreement, "{:.2%}"),
            _speed(model.generation),
            "" if is_best else "yes",
        )
        for model, is_best in zip(models, best(models), strict=True)
    ]
    caption = f"{header.text} ({header.text_sha256[:12]}), {header.ctx} tokens, {header.engine}"
    return Table(columns, tuple(rows), caption=caption)


def _cell(found: object | None, form: str) -> str:
    return NONE if found is None else interval(vars(found), form)


def _speed(row: Row | None) -> str:
    return NONE if row is None or row.speed is None else speed(row.speed.median)


def _commands(models: Sequence[Model]) -> tuple[str, ...]:
    own = [model.record.header.command for model in models]
    speeds = [model.generation.command for model in models if model.generation is not None]
    return tuple(dict.fromkeys([*own, *speeds]))
