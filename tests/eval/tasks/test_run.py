"""A run: all items asked once, an interrupted one goes on, the row says all that was measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from plm_edge.errors import InputError, PlmEdgeError
from plm_edge.eval.tasks import run
from plm_edge.eval.tasks.items import Choice
from plm_edge.eval.tasks.model import Likelihoods, Prompt, Timing, TooLongError
from plm_edge.eval.tasks.spec import Task, TaskSpec
from plm_edge.eval.tasks.store import Store
from tests.eval.tasks.examples import SaidModel
from tests.eval.tasks.test_store import SETTINGS

ITEMS = tuple(
    Choice(str(n), f"q{n}", ("yes", "not"), (n % 2,), group="even" if n % 2 == 0 else "odd")
    for n in range(6)
)
TASK = Task("t", TaskSpec("d", "choice", "s", "{question}"), ITEMS, Path("t.jsonl"), "5a")
YES = {f"q{n}": (-1.0, -2.0) for n in range(6)}


class Breaking(SaidModel):
    """Fails at the fourth question, as a power cut would."""

    def likelihoods(self, prompt: Prompt, continuations: Sequence[str]) -> Likelihoods:
        if len(self.asked) == 3:
            raise KeyboardInterrupt
        return super().likelihoods(prompt, continuations)


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run.run(TASK, Breaking(values=YES), Store("t", SETTINGS, tmp_path))
    model = SaidModel(values=YES)
    outcome = run.run(TASK, model, Store("t", SETTINGS, tmp_path))
    assert (outcome.resumed, [p.text for p in model.asked]) == (3, ["q3", "q4", "q5"])
    whole = run.run(TASK, SaidModel(values=YES), Store("t", SETTINGS, tmp_path / "other"))
    assert outcome.answers == whole.answers


def test_a_row_holds_scores_groups_baselines_and_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "LEAST_IN_GROUP", 3)
    seen: list[tuple[int, int]] = []
    store = Store("t", SETTINGS, tmp_path)
    outcome = run.run(TASK, SaidModel(values=YES), store, lambda *step: seen.append(step))
    values = run.values(outcome, {"peak_rss_bytes": 5})
    assert values["scores"]["accuracy"]["value"] == 0.5
    assert values["groups"]["even"]["value"] == 1
    assert values["groups"]["odd"]["value"] == 0
    assert values["item_scores"] == [1, 0, 1, 0, 1, 0]
    assert values["baselines"]["random"] == 0.5
    assert values["device"]["first_token_seconds"]["p50"] == pytest.approx(0.1)
    assert values["device"]["output_tokens_per_second"]["p90"] == pytest.approx(10)
    assert values["device"]["cpu_percent"]["mean"] == pytest.approx(50)
    assert values["device"]["peak_rss_bytes"] == 5
    assert seen[-1] == (6, 6)
    json.dumps(values, allow_nan=False)


def test_small_groups_are_left_out(tmp_path: Path) -> None:
    outcome = run.run(TASK, SaidModel(values=YES), Store("t", SETTINGS, tmp_path))
    assert outcome.groups() == {}


def test_times_of_tasks_that_write_nothing_have_no_output_speed() -> None:
    found = run.timings([Timing(20, 0.5, 0, 0, 0.0, 2.0, 1.0)])
    assert "output_tokens_per_second" not in found
    assert found["input_tokens_per_second"]["p50"] == 10


def test_an_item_that_fails_is_named(tmp_path: Path) -> None:
    class Nan(SaidModel):
        def likelihoods(self, prompt: Prompt, continuations: Sequence[str]) -> Likelihoods:
            raise InputError("m.gguf: logits that are not numbers")

    with pytest.raises(PlmEdgeError, match=r"task t, item 0: m\.gguf: logits"):
        run.run(TASK, Nan(), Store("t", SETTINGS, tmp_path))


class Short(SaidModel):
    """Has no room for the second question."""

    def likelihoods(self, prompt: Prompt, continuations: Sequence[str]) -> Likelihoods:
        if prompt.text not in self.values:
            raise TooLongError("the prompt takes 9 tokens, but the context holds 8")
        return super().likelihoods(prompt, continuations)


def test_items_too_long_for_the_context_are_left_out_and_named(tmp_path: Path) -> None:
    known = {text: values for text, values in YES.items() if text != "q1"}
    outcome = run.run(TASK, Short(values=known), Store("t", SETTINGS, tmp_path))
    values = run.values(outcome, {})
    assert (values["items"], values["left_out"]) == (5, ["1"])
    assert len(values["item_scores"]) == 5


def test_a_task_that_fits_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlmEdgeError, match="item 0: the prompt takes 9 tokens"):
        run.run(TASK, Short(), Store("t", SETTINGS, tmp_path))
