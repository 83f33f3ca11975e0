"""Recipes: first match wins, layers count from either end, mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge import resources
from plm_edge.errors import ConfigError, InputError
from plm_edge.quantize import recipe
from plm_edge.quantize.recipe import Recipe, Rule
from tests.quantize.tiny import SHAPE, tensor_shapes

RULE = '[[rule]]\ntensors = ["a"]\ntype = "q8_0"\nreason = "r"\n'


def write(folder: Path, text: str) -> resources.Resource:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return resources.Resource("quant", "mine", path, "user")


@pytest.mark.parametrize("resource", resources.list_all("quant"), ids=lambda r: r.name)
@pytest.mark.parametrize("layout", ["edge", "stock"])
def test_every_shipped_recipe_loads_and_each_rule_finds_a_tensor(
    resource: resources.Resource, layout: str
) -> None:
    loaded = recipe.load(resource)
    names = [*tensor_shapes(SHAPE, "edge"), *tensor_shapes(SHAPE, "stock")]
    for rule in loaded.rule:
        assert any(rule.matches(name, 3) for name in names)
    for name in tensor_shapes(SHAPE, layout):
        assert loaded.type_of(name, 3).name


def test_the_four_recipes_are_there() -> None:
    assert {r.name for r in resources.list_all("quant")} >= {"f16", "q4", "q4-k", "q8"}


def test_first_match_wins_and_the_rest_gets_the_main_type() -> None:
    rules = (Rule(("blk.*.ffn_*",), "q6_K", "r", (0, -1)), Rule(("blk.*.ffn_up.*",), "q5_K", "r"))
    mix = Recipe("d", "q4_0", rules)
    types = [mix.type_of(f"blk.{layer}.ffn_up.weight", 4).name for layer in range(4)]
    assert types == ["q6_K", "q5_K", "q5_K", "q6_K"]
    assert mix.type_of("token_embd.weight", 4).name == "q4_0"


def test_layers_the_model_does_not_have_match_nothing() -> None:
    rule = Rule(("*",), "q6_K", "r", (7, -9))
    assert not any(rule.matches(f"blk.{layer}.x.weight", 4) for layer in range(4))
    assert not rule.matches("token_embd.weight", 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('type = "q4_0"', "key 'description' is missing"),
        ('description = "d"\ntype = "q9"', "type = 'q9', expected one of"),
        ('description = "d"\ntype = "q4_0"\nmix = 1', "unknown key 'mix'"),
        ('description = "d"\ntype = "f16"\n' + RULE, "type = 'f16' takes no rules"),
        (
            'description = "d"\ntype = "q4_0"\n' + RULE.replace("q8_0", "q7"),
            r"\[rule\[0\]\] type = 'q7'",
        ),
        ('description = "d"\ntype = "q4_0"\n' + RULE.replace('"a"', ""), "tensors is empty"),
        ('description = "d"\ntype = "q4_0"\n' + RULE.replace('"r"', '" "'), "reason is empty"),
        ('description = "d"\ntype = "q4_0"\nrule = "all"', "rule = 'all', expected a list"),
    ],
)
def test_a_broken_recipe_is_named_with_file_and_key(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=rf"mine\.toml: .*{message}"):
        recipe.load(write(tmp_path, "schema = 1\n" + text + "\n"))


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(InputError, match="no recipe named 'q4k'") as caught:
        recipe.find("q4k")
    assert caught.value.hint == "did you mean 'q4-k'?"
