"""Recipes as text read back the same; whole searches are in test_search."""

from __future__ import annotations

from pathlib import Path

from plm_edge import resources
from plm_edge.quantize import recipe as recipes
from plm_edge.quantize import recipe_text


def test_shipped_recipes_read_back_the_same(tmp_path: Path) -> None:
    for resource in resources.list_all("quant"):
        made = recipes.load(resource)
        path = tmp_path / f"{resource.name}.toml"
        path.write_text(recipe_text.render(made, ["first", "second"]), encoding="utf-8")
        assert recipes.load(resources.Resource("quant", "r", path, "user")) == made
        assert path.read_text(encoding="utf-8").startswith("# first\n# second\nschema = 1\n")
