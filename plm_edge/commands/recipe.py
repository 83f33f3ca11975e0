"""`plm-edge recipe`: the quantization recipes."""

from __future__ import annotations

from typing import Any

import typer

from plm_edge.commands._data import add_data_commands
from plm_edge.resources import Resource

app = typer.Typer(no_args_is_help=True, help="List, show, check and copy quantization recipes.")


def _load(resource: Resource) -> Any:
    from plm_edge.quantize import recipe

    return recipe.load(resource)


add_data_commands(app, "quant", _load)
