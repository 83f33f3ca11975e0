"""`plm-edge quantize`: a smaller file by a recipe, its size known before it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plm_edge.commands._data import DryRunFlag, JsonFlag

app = typer.Typer()


@app.command()
def quantize(
    file: Annotated[Path, typer.Argument(help="GGUF file, f16 or f32 by preference.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="GGUF file to write.")],
    recipe: Annotated[
        str | None, typer.Option(help="A recipe's name, or its path ending in .toml.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Search the best recipe of this size, as 1.0GB.")
    ] = None,
    bpw: Annotated[
        float | None, typer.Option(min=0, help="Search, with so many bits per weight.")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--for", help="Search, for the memory of this device.")
    ] = None,
    ctx: Annotated[int, typer.Option(min=1, help="With --for: tokens in the cache.")] = 4096,
    text: Annotated[Path | None, typer.Option(help="UTF-8 text to measure a search on.")] = None,
    imatrix: Annotated[Path | None, typer.Option(help="Importance matrix to round with.")] = None,
    types: Annotated[str, typer.Option(help="Formats to search among; a list.")] = "",
    windows: Annotated[
        int | None, typer.Option(min=2, help="Windows of text to measure a search on.")
    ] = None,
    measure: Annotated[
        str, typer.Option(help="all formats, probe (one of each matrix), or auto: by size.")
    ] = "auto",
    method: Annotated[
        str, typer.Option(help="search; or luc, luc-robust: Edge-LLM's rule.")
    ] = "search",
    save_recipe: Annotated[
        Path | None, typer.Option(help="Where a search puts its recipe; beside -o if not said.")
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="0: one per core.")] = 0,
    allow_requantize: Annotated[
        bool, typer.Option("--allow-requantize", help="Quantize what is quantized already.")
    ] = False,
    dry_run: DryRunFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Quantize FILE by a recipe, or by the best one found for a size; check every type."""
    from plm_edge.commands import _quantize
    from plm_edge.gguf_header import read_header
    from plm_edge.quantize.quantizer import Request

    request = Request(read_header(file), output, threads, allow_requantize, imatrix)
    goal = _quantize.goal(recipe, budget, bpw, device)
    if goal == "recipe":
        _quantize.by_recipe(request, str(recipe), dry_run, as_json)
        return
    wanted = _quantize.Wanted(budget, bpw, device, ctx, text, types, windows, measure, method)
    _quantize.by_search(request, wanted, save_recipe, dry_run, as_json)
