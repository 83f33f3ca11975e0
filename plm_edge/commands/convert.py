"""`plm-edge convert`: checkpoint to GGUF, or GGUF to GGUF of the other layout."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plm_edge import console
from plm_edge.commands._data import DryRunFlag, JsonFlag
from plm_edge.errors import InputError

if TYPE_CHECKING:
    from plm_edge.convert.pipeline import ConvertReport

app = typer.Typer()


class Layout(str, Enum):
    """How the tensors are laid out."""

    edge = "edge"
    stock = "stock"


class Type(str, Enum):
    """The type of weight matrices."""

    f32 = "f32"
    f16 = "f16"
    bf16 = "bf16"
    q8_0 = "q8_0"


@app.command()
def convert(
    checkpoint: Annotated[
        Path, typer.Argument(help="Hugging Face folder, or a GGUF file of the other layout.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The GGUF file to write.")],
    layout: Annotated[
        Layout, typer.Option(help="edge: for our engine, fastest. stock: for every llama.cpp.")
    ] = Layout.edge,
    type_: Annotated[
        Type | None,
        typer.Option("--type", help="Type of the matrices; f16 when not given, norms stay f32."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUTPUT if it exists.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read everything back and compare it.")
    ] = False,
    dry_run: DryRunFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Convert a PLM checkpoint to GGUF, or a GGUF to the other layout."""
    from plm_edge.convert import pipeline

    if output.exists() and not force and not dry_run:
        raise InputError(f"{output}: exists already", hint="add --force to replace it")
    kind = type_.value if type_ else None
    job = pipeline.prepare(checkpoint, output, layout=layout.value, type_name=kind)
    report = job.report
    if not dry_run:
        with console.byte_progress(f"Converting to {output.name}") as progress:
            report = job.run(progress, verify=verify)
    if as_json:
        console.print_json({**_plain(report), "dry_run": dry_run})
    else:
        _render(report, dry_run=dry_run)


def _plain(report: ConvertReport) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(report)


def _render(report: ConvertReport, *, dry_run: bool) -> None:
    for line in report.notes:
        console.note(f"note: {line}")
    for name in report.ignored:
        console.note(f"note: left out {name}")
    types = ", ".join(f"{count} {kind}" for kind, count in report.types.items())
    random = ", random weights" if report.is_random else ""
    verb = "would write " if dry_run else ""
    print(
        f"{verb}{report.target}: {report.size_bytes / 1e6:,.1f} MB, {report.layout} layout{random}"
    )
    print(f"  {report.tensors} tensors ({types}), {report.parameters:,} parameters")
    print(f"  tokenizer {report.tokenizer}")
    _render_losses(report)
    if not dry_run:
        rate = report.size_bytes / 1e6 / max(report.seconds, 1e-3)
        print(f"  {report.seconds:.1f} s, {rate:,.0f} MB/s")


def _render_losses(report: ConvertReport) -> None:
    if not report.losses:
        return
    print(f"  {len(report.losses)} tensors lost precision (error relative to their size):")
    for loss in report.losses[:8]:
        print(f"    {loss.tensor:<28} {loss.was} to {loss.now}  {loss.relative_error:.2e}")
    if len(report.losses) > 8:
        print(f"    and {len(report.losses) - 8} more, each below the last one; --json lists all")
