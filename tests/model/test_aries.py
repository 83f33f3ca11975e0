"""Preference runs: an offline round and online ones, resumed after a stop as if there was none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra `torch`: make test WITH_TORCH=1")
torch.set_num_threads(1)  # threads only wait for each other on tensors this small

from plm_edge import results  # noqa: E402
from plm_edge.convert import synth_tokenizer  # noqa: E402
from plm_edge.errors import InputError  # noqa: E402
from plm_edge.model import aries, metrics, run_state, start  # noqa: E402
from plm_edge.model.dataset import Encoder, read_tokenizer  # noqa: E402
from plm_edge.model.plm import PlmModel  # noqa: E402
from plm_edge.model.preference import Preference  # noqa: E402
from plm_edge.model.recipe import Online, PreferenceRecipe, Sampling  # noqa: E402
from plm_edge.shape import PlmShape  # noqa: E402

SHAPE = PlmShape(32, 1, 2, 16, 8, 8, 8, 64, 300, 256, 10000.0, 1e-6)
RECIPE = PreferenceRecipe(
    description="tiny",
    stage="preference",
    rate=1e-3,
    pairs_per_step=2,
    online_rounds=1,
    seed=3,
    save_every=1,
    online=Online(questions=4, draws=2, sampling=Sampling(most=6)),
)
MATERIAL = aries.Material(
    [Preference(f"q{i}", "a b", "c d") for i in range(4)],
    [(f"x{i}", "the quick brown fox") for i in range(4)],
)


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    synth_tokenizer.write_tokenizer(tmp_path, synth_tokenizer.make_vocabulary(300), 256)
    return Encoder(read_tokenizer(tmp_path))


def trainer(run: Path, encoder: Encoder, recipe: Any = RECIPE) -> aries.PreferenceTrainer:
    model = PlmModel(SHAPE)
    model.initialize(3, std=0.1)
    return aries.PreferenceTrainer(recipe, run, encoder, MATERIAL, start.Start(model, "t"), "t")


@pytest.fixture(autouse=True)
def rewards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer is better: a random model's answers never share a word with the right one."""
    monkeypatch.setattr(aries.Material, "reward", lambda self, question, answer: len(answer))


def test_rounds_follow_each_other_and_the_loss_falls(tmp_path: Path, encoder: Encoder) -> None:
    run = tmp_path / "run"
    recipe = replace(RECIPE, offline_pairs=4)
    trainer(run, encoder, recipe).train()
    rows = results.read(run / metrics.FILE).rows
    online = len(results.read(run / "round-1.jsonl").rows)
    assert [row["phase"] for row in rows] == ["round-0"] * 2 + ["round-1"] * (online // 2)
    assert online >= 2
    assert rows[1]["loss"] < rows[0]["loss"]
    weights = start.load(run).model.state_dict()
    fresh = trainer(tmp_path / "other", encoder).reference.state_dict()
    assert any(not torch.equal(weights[name], fresh[name]) for name in fresh)


class Stopped(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_stopped_run_ends_as_one_that_was_not(
    steps: int, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer(tmp_path / "whole", encoder).train()
    stopped = trainer(tmp_path / "run", encoder)
    one_step = stopped._one_step

    def stop(*words: Any) -> Any:
        if stopped.step == steps:
            raise Stopped
        return one_step(*words)

    monkeypatch.setattr(stopped, "_one_step", stop)
    with pytest.raises(Stopped):
        stopped.train()
    trainer(tmp_path / "run", encoder).train()
    whole, again = (start.load(tmp_path / name).model for name in ("whole", "run"))
    other = again.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in whole.state_dict().items())
    curves = [metrics.curve(tmp_path / name, "loss") for name in ("whole", "run")]
    assert curves[0] == curves[1]


def test_a_changed_recipe_is_refused(tmp_path: Path, encoder: Encoder) -> None:
    trainer(tmp_path / "run", encoder).train()
    with pytest.raises(InputError, match=r"rate: 0\.001 → 0\.01"):
        trainer(tmp_path / "run", encoder, replace(RECIPE, rate=1e-2))
    assert run_state.latest_step(tmp_path / "run") is not None


def test_the_rule_is_words_shared_with_the_documented_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    assert MATERIAL.reward("x0", "the quick fox") == pytest.approx(6 / 7)
