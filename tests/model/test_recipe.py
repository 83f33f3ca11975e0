"""Every shipped training recipe loads, and its budget is arithmetic that can be checked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from plm_edge import resources, schema
from plm_edge.model.budget import estimate
from plm_edge.model.recipe import Batch, Part, Phase, TrainRecipe


def load(name: str) -> TrainRecipe:
    resource = resources.find("training", name)
    return schema.build(resources.read_table(resource), TrainRecipe, resource.path)


def test_every_shipped_recipe_loads() -> None:
    names = [resource.name for resource in resources.list_all("training")]
    assert {"nano", "plm-1.8b"} <= set(names)
    for name in names:
        assert load(name).steps > 0


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
