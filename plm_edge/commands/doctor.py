"""`plm-edge doctor`: what keeps a device from running PLM, or from running it fast."""

from __future__ import annotations

from typing import Annotated

import typer

from plm_edge.commands import _doctor
from plm_edge.commands._data import JsonFlag

app = typer.Typer()


@app.command()
def doctor(
    device: Annotated[
        str, typer.Option("--device", metavar="NAME", help="The device to look over.")
    ] = "host",
    storage: Annotated[
        bool, typer.Option(help="Measure how fast its disk reads (writes 64 MB for that).")
    ] = True,
    as_json: JsonFlag = False,
) -> None:
    """Look a device over; each finding comes with what mends it."""
    _doctor.show(device, with_storage=storage, as_json=as_json)
