"""`plm-edge imatrix`: which inputs of each matrix matter, measured on text; show and merge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plm_edge import console
from plm_edge.commands._data import DryRunFlag, JsonFlag
from plm_edge.commands._default_group import DefaultGroup

app = typer.Typer(
    cls=DefaultGroup, help="Measure which weights matter, on text.", no_args_is_help=True
)

OutputOption = Annotated[Path, typer.Option("--output", "-o", help="GGUF file to write.")]


@app.command("run")
def run(
    file: Annotated[Path, typer.Argument(help="GGUF file of a PLM, f16 or f32.")],
    text: Annotated[Path, typer.Option(help="UTF-8 text like what the model will read.")],
    output: OutputOption,
    ctx: Annotated[int, typer.Option(min=8, help="Tokens in a window.")] = 512,
    windows: Annotated[int | None, typer.Option(min=2, help="At most so many.")] = None,
    threads: Annotated[int, typer.Option(min=0, help="0: one per fast core.")] = 0,
    dry_run: DryRunFlag = False,
) -> None:
    """Measure FILE on a text: the word `run` may be left out."""
    from plm_edge.commands import _imatrix

    request = _imatrix.Request(file, text, output, ctx, windows, threads)
    if dry_run:
        print(_imatrix.plan(request))
        return
    made = _imatrix.collect(request)
    print(f"wrote {output}: {made.origin.windows} windows of {made.origin.context} tokens")


@app.command("show")
def show(
    file: Annotated[Path, typer.Argument(help="Importance matrix.")], as_json: JsonFlag = False
) -> None:
    """What an importance matrix was measured on, and where the weight lies."""
    from plm_edge.commands._bench_show import wide_stdout
    from plm_edge.quantize import imatrix, imatrix_report

    found = imatrix.read(file)
    if as_json:
        console.print_json(imatrix_report.summary(found))
        return
    origin = found.origin
    texts = ", ".join(f"{name} ({digest[:12]})" for name, digest in origin.texts)
    print(f"{origin.layout} layout, weights {origin.weights[:12]}, on {texts}")
    print(f"{origin.windows} windows of {origin.context} tokens")
    wide_stdout().print(imatrix_report.table(found))


@app.command("merge")
def merge(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Two or more.")],
    output: OutputOption,
    dry_run: DryRunFlag = False,
) -> None:
    """Add up what was measured on several texts."""
    from plm_edge.quantize import imatrix

    merged = imatrix.read(files[0])
    for path in files[1:]:
        merged = imatrix.merge(merged, imatrix.read(path), path)
    if not dry_run:
        imatrix.write(output, merged)
    verb = "would write" if dry_run else "wrote"
    print(f"{verb} {output}: {len(merged.origin.texts)} texts, {merged.origin.windows} windows")
