"""`plm-edge engine`: build, look at and clean up the inference engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from plm_edge import console
from plm_edge.commands._data import DryRunFlag, JsonFlag

app = typer.Typer(no_args_is_help=True, help="Build, list and clean up the inference engine.")
patches_app = typer.Typer(no_args_is_help=True, help="The patches that make the edge engine.")
app.add_typer(patches_app, name="patches")

StockFlag = Annotated[bool, typer.Option("--stock", help="Upstream's engine, without patches.")]


@app.command()
def build(
    stock: StockFlag = False,
    ui: Annotated[bool, typer.Option("--ui", help="With the web page (needs npm).")] = False,
    tests: Annotated[bool, typer.Option("--tests", help="With the engine's own tests.")] = False,
    dry_run: DryRunFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Build the engine for this machine; nothing is done if it is current."""
    from plm_edge.engine import build as builder
    from plm_edge.engine import report
    from plm_edge.engine import ui as web_page

    variant = _variant(stock)
    extras = builder.Extras(ui=ui and web_page.is_possible(), tests=tests)
    if ui and not extras.ui:
        console.warn("npm is not installed: llama-server gets its API, but no web page")
        console.note("hint: sudo apt-get install npm nodejs")
    if dry_run:
        _print(report.plan_rows(variant, extras), as_json)
        return
    with console.step_progress(f"building the {variant} engine") as progress:
        engine = builder.ensure(variant, progress, extras=extras, notify=console.note)
    console.note(engine.cache_note)
    _print(report.engine_rows(engine), as_json)


def _variant(stock: bool) -> Literal["edge", "stock"]:
    return "stock" if stock else "edge"


def _print(rows: dict[str, Any], as_json: bool) -> None:
    if as_json:
        console.print_json(rows)
        return
    for name, value in rows.items():
        if isinstance(value, (str, int, float, Path)):
            print(f"{name:<14} {value}")
