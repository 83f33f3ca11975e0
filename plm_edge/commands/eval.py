"""`plm-edge eval`: perplexity, and how far files are from a reference, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plm_edge.commands._data import DryRunFlag, JsonFlag
from plm_edge.commands._default_group import DefaultGroup

app = typer.Typer(
    cls=DefaultGroup, help="Measure what a file's answers are worth.", no_args_is_help=True
)

ResultsOption = Annotated[Path | None, typer.Option(help="Results file.")]


@app.command("run")
def run(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="GGUF files of a PLM.")],
    text: Annotated[Path, typer.Option(help="UTF-8 text to judge on.")],
    reference: Annotated[
        Path | None, typer.Option(help="GGUF to measure KL and agreement against, f32 at best.")
    ] = None,
    ctx: Annotated[int, typer.Option(min=8, help="Tokens in a window.")] = 512,
    windows: Annotated[int | None, typer.Option(min=2, help="At most so many.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Likeliest tokens a reference keeps.")] = 4096,
    cache_type: Annotated[str, typer.Option(help="f16, q8_0, bf16 or f32.")] = "f16",
    threads: Annotated[int, typer.Option(min=0, help="0: one per fast core.")] = 0,
    results: ResultsOption = None,
    dry_run: DryRunFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Judge each FILE on a text: the word `run` may be left out."""
    from plm_edge.commands import _eval
    from plm_edge.eval.model import Options

    options = Options(ctx, threads or _eval.default_threads(), _eval.cache_type(cache_type))
    request = _eval.Request(tuple(files), text, reference, options, windows, top, results)
    if dry_run:
        _eval.say_plan(request, as_json)
        return
    _eval.show(_eval.run(request), as_json)


@app.command("show")
def show(results: ResultsOption = None, as_json: JsonFlag = False) -> None:
    """Read the results back: the newest of each model, compared where that is right."""
    from plm_edge import results as result_files
    from plm_edge.commands import _eval

    _eval.show_stored(results or result_files.default_path(), as_json)
