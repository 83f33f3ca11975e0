"""Every shipped training recipe loads, and its budget is arithmetic that can be checked."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from plm_edge import resources, schema
from plm_edge.commands.train import load_recipe
from plm_edge.model.budget import estimate
from plm_edge.model.recipe import Batch, Part, Phase, TrainRecipe, differences


def load(name: str) -> TrainRecipe:
    resource = resources.find("training", name)
    return schema.build(resources.read_table(resource), TrainRecipe, resource.path)


def test_every_shipped_recipe_loads() -> None:
    found = {r.name: load_recipe(r) for r in resources.list_all("training")}
    assert {"nano", "nano-aries", "plm-1.8b"} <= set(found)
    assert found["nano-aries"].stage == "preference"
    for name, recipe in found.items():
        if recipe.stage != "preference":
            assert recipe.steps > 0, name


def test_the_studys_recipes_differ_in_one_table_each() -> None:
    names = [r.name for r in resources.list_all("training") if r.name.startswith("study-")]
    base = asdict(load("study-wsdc"))
    assert len(names) > 3
    for name in set(names) - {"study-wsdc"}:
        changed = {line.split(".")[0] for line in differences(asdict(load(name)), base)}
        tables = {word for word in changed if not word.startswith("description")}
        assert len(tables) == 1, name


def test_fine_tuning_keeps_shape_and_tokens_of_pre_training() -> None:
    base = load("nano")
    for name in ("nano-sft-general", "nano-sft-code"):
        recipe = load(name)
        assert (recipe.stage, recipe.shape) == ("sft", base.shape)
        assert recipe.batch.tokens == base.batch.tokens


def test_differences_name_the_key() -> None:
    recipe = load("nano")
    other = replace(recipe, seed=recipe.seed + 1)
    assert differences(asdict(other), asdict(recipe)) == [f"seed: {recipe.seed} → {other.seed}"]


def test_an_impossible_preference_recipe_is_refused() -> None:
    whole = load_recipe(resources.find("training", "nano-aries"))
    for wrong in ({"rate": 0.0}, {"pairs_per_step": 0}, {"online_rounds": -1}):
        with pytest.raises(ValueError, match=r"rate|pairs_per_step"):
            replace(whole, **wrong)


def test_the_true_shapes_recipe_has_the_published_amounts() -> None:
    recipe = load("plm-1.8b")
    assert recipe.steps * recipe.batch.tokens == pytest.approx(2.48e12, rel=1e-3)
    budget = estimate(recipe, devices=8, flops_per_second=1e18, shards=True)
    assert budget.parameters == 1_825_458_176
    assert budget.flops > 6 * budget.parameters * budget.tokens
    assert budget.hours == pytest.approx(budget.flops / 1e18 / 3600)
    whole = estimate(recipe, devices=8, flops_per_second=0, shards=False)
    saved = whole.bytes_per_device - budget.bytes_per_device
    assert saved == pytest.approx(16 * budget.parameters * 7 / 8, rel=1e-6)


def test_phases_follow_their_shares() -> None:
    recipe = load("nano")
    names = [recipe.phase_at(step).name for step in range(recipe.steps)]
    counts = [names.count(phase.name) for phase in recipe.phases]
    assert counts == pytest.approx([p.share * recipe.steps for p in recipe.phases], abs=1)
    assert names == sorted(names, key=[p.name for p in recipe.phases].index)


def test_impossible_recipes_are_refused() -> None:
    recipe = load("nano")
    half = (Phase("x", 0.5, (Part("code"),)),)
    for wrong in ({"phases": half}, {"steps": 0}, {"batch": Batch(1, 4096)}):
        with pytest.raises(ValueError, match=r"share|steps|length"):
            replace(recipe, **wrong)  # type: ignore[arg-type]
    for make in (lambda: Batch(3, 1, 2), lambda: Part("x", 0), lambda: Phase("x", 1, ())):
        with pytest.raises(ValueError, match=r"micro|weight|mixture"):
            make()
