"""`plm-edge converter`: the files that say how an architecture's checkpoint becomes a GGUF."""

from __future__ import annotations

from typing import Any

import typer

from plm_edge.commands._data import add_data_commands
from plm_edge.resources import Resource

app = typer.Typer(no_args_is_help=True, help="List, show, check and copy converters.")


def _load(resource: Resource) -> Any:
    from plm_edge.convert import converter

    return converter.load(resource)


add_data_commands(app, "converters", _load)
