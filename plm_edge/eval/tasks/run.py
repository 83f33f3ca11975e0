"""Runs a task item by item, and turns the answers into scores, baselines and device metrics."""

from __future__ import annotations

import statistics as plain
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from plm_edge.console import Progress, no_progress
from plm_edge.errors import InputError, PlmEdgeError
from plm_edge.eval.tasks import statistics
from plm_edge.eval.tasks.kinds import JUDGES
from plm_edge.eval.tasks.model import Answered, TaskModel, Timing, TooLongError
from plm_edge.eval.tasks.spec import Task
from plm_edge.eval.tasks.statistics import Score
from plm_edge.eval.tasks.store import Store

# Fewer items say nothing of a group; the answers' file has them all.
LEAST_IN_GROUP = 10


@dataclass(frozen=True)
class Outcome:
    """A task's answers by item, in the task's order, and how many an earlier run had left.

    `task` holds the items that were asked; `left_out` names those too long for the context.
    """

    task: Task
    answers: tuple[Answered, ...]
    resumed: int
    left_out: tuple[str, ...] = ()

    @property
    def primary(self) -> str:
        """The score that a table shows first."""
        return JUDGES[self.task.spec.kind].primary

    def item_scores(self, name: str) -> list[float]:
        """One score of every item that has it."""
        return [a.scores[name] for a in self.answers if name in a.scores]

    def scores(self) -> dict[str, Score]:
        """Every score over its items, with intervals."""
        names = dict.fromkeys(name for answer in self.answers for name in answer.scores)
        return {name: statistics.score(self.item_scores(name)) for name in names}

    def groups(self) -> dict[str, Score]:
        """The primary score by the items' groups, those that are large enough to say something."""
        found: dict[str, list[float]] = defaultdict(list)
        for item, answer in zip(self.task.items, self.answers, strict=True):
            if group := getattr(item, "group", ""):
                found[group].append(answer.scores[self.primary])
        large = {name: values for name, values in found.items() if len(values) >= LEAST_IN_GROUP}
        return {group: statistics.score(values) for group, values in sorted(large.items())}


def run(task: Task, model: TaskModel, store: Store, progress: Progress = no_progress) -> Outcome:
    """Answer every item that the store does not hold yet; `progress` counts items."""
    judge = JUDGES[task.spec.kind]
    judge.prepare()
    known = store.read()
    resumed = sum(item.id in known for item in task.items)
    left_out: dict[str, TooLongError] = {}
    for number, item in enumerate(task.items):
        progress(number, len(task.items))
        if item.id in known:
            continue
        try:
            known[item.id] = judge.ask(task.spec, item, model)
        except TooLongError as error:
            left_out[item.id] = error
            continue
        except InputError as error:
            raise _named(error, task, item.id) from error
        store.add(item.id, known[item.id])
    progress(len(task.items), len(task.items))
    if len(left_out) == len(task.items):
        raise _named(left_out[task.items[0].id], task, task.items[0].id)
    asked = replace(task, items=tuple(item for item in task.items if item.id not in left_out))
    answers = tuple(known[item.id] for item in asked.items)
    return Outcome(asked, answers, resumed, tuple(left_out))


def _named(error: InputError, task: Task, identity: str) -> PlmEdgeError:
    return PlmEdgeError(f"task {task.name}, item {identity}: {error.message}", hint=error.hint)


def values(outcome: Outcome, device: Mapping[str, Any]) -> dict[str, Any]:
    """What a result row says beside its header."""
    spec, items = outcome.task.spec, outcome.task.items
    judge = JUDGES[spec.kind]
    return {
        "task": outcome.task.name,
        "task_kind": spec.kind,
        "source": spec.source,
        "primary": outcome.primary,
        "ideal": judge.ideal,
        "items": len(items),
        "resumed_items": outcome.resumed,
        "left_out": list(outcome.left_out),
        "scores": {name: asdict(score) for name, score in outcome.scores().items()},
        "groups": {name: asdict(score) for name, score in outcome.groups().items()},
        "baselines": dict(judge.baselines(items)),
        "item_scores": [round(value, 6) for value in outcome.item_scores(outcome.primary)],
        "device": _device([answer.timing for answer in outcome.answers], device),
    }


def _device(taken: Sequence[Timing], told: Mapping[str, Any]) -> dict[str, Any]:
    """Times and what the machine told; an emulator's times mean nothing and are left out."""
    times = {} if told.get("is_emulated") else timings(taken)
    return {**times, **told}


def timings(taken: Sequence[Timing]) -> dict[str, Any]:
    """Percentiles over the items: the first token, both speeds, the whole, and the processor."""
    found: dict[str, Any] = {
        "first_token_seconds": [t.first_token_seconds for t in taken],
        "input_tokens_per_second": [
            t.prompt_tokens / (t.total_seconds - t.answer_seconds)
            for t in taken
            if t.total_seconds > t.answer_seconds
        ],
        "output_tokens_per_second": [
            t.decoded_tokens / t.answer_seconds for t in taken if t.decoded_tokens
        ],
        "total_seconds": [t.total_seconds for t in taken],
        "cpu_percent": [
            100 * t.cpu_seconds / t.total_seconds
            for t in taken
            if t.total_seconds and t.cpu_seconds
        ],
    }
    table = {name: statistics.percentiles(v) for name, v in found.items() if v}
    tokens = {
        "prompt_tokens_mean": plain.fmean(t.prompt_tokens for t in taken),
        "answer_tokens_mean": plain.fmean(t.answer_tokens for t in taken),
    }
    return {**table, **tokens}
