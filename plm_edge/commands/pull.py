"""`plm-edge pull`: fetch a checkpoint or GGUF files from a model hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from plm_edge import console
from plm_edge.commands._data import DryRunFlag, JsonFlag

app = typer.Typer()


@app.command()
def pull(
    repository: Annotated[str, typer.Argument(help="OWNER/NAME on the hub.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; default: the model's name.")
    ] = None,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit.")] = "main",
    include: Annotated[
        list[str] | None, typer.Option(help="Only files that match; may be repeated.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(envvar="HF_ENDPOINT", help="Address of the hub.")
    ] = None,
    dry_run: DryRunFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Download a model, resumed after a break and verified file by file."""
    from plm_edge.convert import pull as library

    folder = output or Path(repository.split("/")[-1])
    chosen = library.plan(
        repository, folder, revision=revision, include=include or (), endpoint=endpoint
    )
    if not dry_run:
        with console.byte_progress(f"Fetching {repository}") as progress:
            library.fetch(chosen, endpoint=endpoint, progress=progress)
    _show(chosen, dry_run, as_json)


def _show(chosen: Any, dry_run: bool, as_json: bool) -> None:
    if as_json:
        files = [{"name": file.name, "size_bytes": file.size_bytes} for file in chosen.files]
        console.print_json(
            {
                "repository": chosen.repository,
                "commit": chosen.commit,
                "folder": str(chosen.folder),
                "size_bytes": chosen.size_bytes,
                "files": files,
                "dry_run": dry_run,
            }
        )
        return
    verb = "would fetch" if dry_run else "fetched"
    for file in chosen.files:
        print(f"{file.size_bytes:>14,}  {file.name}")
    print(f"{verb} {chosen.size_bytes:,} bytes of {chosen.repository} into {chosen.folder}")
