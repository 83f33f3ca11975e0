"""`plm-edge device`: the profiles of machines PLM can run on."""

from __future__ import annotations

from typing import Any

import typer

from plm_edge.commands._data import add_data_commands
from plm_edge.resources import Resource

app = typer.Typer(help="Device profiles: list, show, validate, copy.", no_args_is_help=True)


def _load(resource: Resource) -> Any:
    from plm_edge.device import profile

    return profile.load(resource)


add_data_commands(app, "devices", _load)
