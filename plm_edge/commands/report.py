"""`plm-edge report`: one page from results files, with everything that may be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plm_edge import console
from plm_edge.commands._data import DryRunFlag, JsonFlag

app = typer.Typer()


@app.command()
def report(
    results: Annotated[
        list[Path],
        typer.Argument(help="Results files; GGUF files; `inspect --sparsity --json` in .json."),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The HTML file to write.")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The tables as Markdown, to stdout or --output.")
    ] = False,
    title: Annotated[str, typer.Option(help="Its heading.")] = "plm-edge report",
    as_json: JsonFlag = False,
    dry_run: DryRunFlag = False,
) -> None:
    """Make one self-contained page from results: HTML, or its tables as Markdown or JSON."""
    from dataclasses import asdict

    from plm_edge.commands import _report

    made = _report.read(results, title)
    if as_json:
        console.print_json(asdict(made))
    elif dry_run:
        _report.say(made, output)
    elif markdown:
        _report.write_markdown(made, output)
    else:
        _report.write_html(made, output)
