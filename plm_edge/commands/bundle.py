"""`plm-edge bundle`: programs, model and a run script for a device without a wire to here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plm_edge import console
from plm_edge.commands._data import DryRunFlag, JsonFlag
from plm_edge.errors import UsageError

if TYPE_CHECKING:
    from plm_edge.device.profile import Profile
    from plm_edge.engine.cache import Engine

app = typer.Typer()


@app.command()
def bundle(
    file: Annotated[Path, typer.Argument(help="GGUF file of a PLM.")],
    device: Annotated[str, typer.Option("--device", metavar="NAME", help="Who it is for.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="New folder, or a .tar or .tar.gz file.")
    ],
    dry_run: DryRunFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Write a folder or tarball that runs FILE on a device: nothing to install there, no network.

    On the device: sh run.sh
    """
    from plm_edge.device import profile
    from plm_edge.engine import bundle as bundling
    from plm_edge.gguf_header import read_header

    read_header(file).require_architecture()
    found = profile.find(device)
    if found.architecture == "native":
        raise UsageError(
            f"{device} is this machine, or one like it: there is nothing to carry",
            hint="plm-edge device list",
        )
    if dry_run:
        print(f"would write the engine for {device}, {file} and run.sh to {output}")
        return
    planned = bundling.plan(found, _engine(device, found), file, output)
    with console.byte_progress(f"writing {output}") as progress:
        bundling.write(planned, progress)
    if as_json:
        files = bundling.listing(planned)
        console.print_json({"path": str(output), "bytes": planned.size_bytes, "files": files})
        return
    print(output)
    console.note(f"{planned.size_bytes / 1e6:.0f} MB; on the device: sh run.sh")


def _engine(device: str, found: Profile) -> Engine:
    from plm_edge.engine import build

    if engine := build.current_for(found):
        return engine
    with console.step_progress(f"building the engine for {device}") as progress:
        return build.ensure_for(found, "edge", progress, notify=console.note)
