"""The choice becomes a recipe that gives exactly the chosen types."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from plm_edge import resources, schema
from plm_edge.errors import InputError
from plm_edge.gguf_header import GgufHeader, read_header
from plm_edge.quantize import candidates as finding
from plm_edge.quantize import plan as planning
from plm_edge.quantize import recipe as recipes
from plm_edge.quantize import recipe_text, search
from plm_edge.quantize.search import Space
from plm_edge.quantize.tensor_types import TYPES
from tests.quantize.tiny import write_model


@pytest.fixture
def header(tmp_path: Path) -> GgufHeader:
    return read_header(write_model(tmp_path / "m.gguf"))


def space(header: GgufHeader, seed: int = 1) -> Space:
    draw = random.Random(seed)
    found = finding.find(header)
    costs = {}
    for one in found:
        weight = draw.lognormvariate(0, 2)
        for kind in one.types:
            costs[one.tensor.name, kind] = weight * 4 ** -TYPES[kind].bits_per_value
    return Space(found, costs, finding.fixed_bytes(header, found, {}))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_the_recipe_makes_a_file_of_the_chosen_types_and_size(
    header: GgufHeader, share: float, tmp_path: Path
) -> None:
    one = space(header)
    least = one.smallest_bytes()
    most = planning.make(header, recipes.find("q8")).file_bytes
    budget = int(least + share * (most - least))
    choice = search.choose(one, budget)
    assert choice.file_bytes <= budget
    assert choice.cost == pytest.approx(search.cost_of(one, choice.types))
    assert choice.bound <= choice.cost * (1 + 1e-9)
    made = search.recipe(one, choice.types, "a trial")
    path = tmp_path / "made.toml"
    path.write_text(recipe_text.render(made, ["a comment"]), encoding="utf-8")
    back = recipes.load(resources.Resource("quant", "made", path, "user"))
    assert back == made
    plan = planning.make(header, back)
    assert plan.file_bytes == choice.file_bytes
    assert {e.tensor.name: e.type for e in plan.tensors if e.is_matrix} == choice.types
    assert not any(entry.falls_back for entry in plan.tensors)


def test_all_the_room_there_is_makes_a_whole_file(header: GgufHeader) -> None:
    one = space(header)
    plain = planning.make(header, recipes.find("f16"))
    choice = search.choose(one, plain.file_bytes)
    assert set(choice.types.values()) == {"f16"} and choice.file_bytes == plain.file_bytes
    assert search.recipe(one, choice.types, "whole") == recipes.Recipe("whole", "f16")
    least = search.choose(one, plain.file_bytes - 1)
    assert search.recipe(one, least.types, "mixed").type != "f16"


def test_more_bytes_never_cost_more(header: GgufHeader) -> None:
    one = space(header)
    least = one.smallest_bytes()
    costs = [search.choose(one, least + step * 20_000).cost for step in range(8)]
    assert costs == sorted(costs, reverse=True) and costs[0] > costs[-1]


def test_a_budget_nobody_can_meet_says_the_smallest_file(header: GgufHeader) -> None:
    one = space(header)
    least = one.smallest_bytes()
    with pytest.raises(InputError) as caught:
        search.choose(one, least - 1)
    assert f"the smallest with these formats has {least:,}" in caught.value.message
    assert caught.value.hint == f"--budget {least}"
    assert search.choose(one, least).file_bytes == least


def test_reasons_say_what_the_next_format_would_cost(header: GgufHeader) -> None:
    one = space(header)
    choice = search.choose(one, int(one.smallest_bytes() * 1.5))
    made = search.recipe(one, choice.types, "a trial")
    reasons = [rule.reason for rule in made.rule]
    assert all(reason.startswith("KL ") for reason in reasons)
    assert any("a format smaller (-" in reason for reason in reasons)


def test_texts_survive_toml(tmp_path: Path) -> None:
    odd = 'a "quoted" \\ path\twith ü and \x7f'
    made = recipes.Recipe(odd, "q4_0", (recipes.Rule(("a",), "q8_0", odd, (1, -2)),))
    path = tmp_path / "r.toml"
    path.write_text(recipe_text.render(made, []), encoding="utf-8")
    assert schema.build(schema.read_toml(path), recipes.Recipe, path) == made
