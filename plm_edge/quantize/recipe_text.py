"""A recipe as TOML: to read, to compare, to run again."""

from __future__ import annotations

import json
from collections.abc import Sequence

from plm_edge.quantize.recipe import Recipe, Rule

_WIDTH = 100


def render(recipe: Recipe, comments: Sequence[str]) -> str:
    """The text of a recipe file; `comments` are its first lines."""
    lines = [f"# {line}" for line in comments]
    lines += ["schema = 1", f"description = {_quoted(recipe.description)}"]
    lines += [f"type = {_quoted(recipe.type)}"]
    for rule in recipe.rule:
        lines += ["", "[[rule]]", *_rule(rule)]
    return "\n".join(lines) + "\n"


def _rule(rule: Rule) -> list[str]:
    lines = [f"tensors = [{', '.join(map(_quoted, rule.tensors))}]"]
    if rule.layers:
        lines.append(f"layers = [{', '.join(map(str, rule.layers))}]")
    return [*lines, f"type = {_quoted(rule.type)}", f"reason = {_quoted(rule.reason)}"]


def _quoted(text: str) -> str:
    # JSON's strings are TOML's basic strings, but for the raw delete character.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
