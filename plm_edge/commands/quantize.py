"""`plm-edge quantize`: a smaller file by a recipe, its size known before it is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plm_edge import console
from plm_edge.commands._data import DryRunFlag, JsonFlag

if TYPE_CHECKING:
    from plm_edge.quantize.plan import Plan
    from plm_edge.quantize.quantizer import Request

app = typer.Typer()


@app.command()
def quantize(
    file: Annotated[Path, typer.Argument(help="GGUF file, f16 or bf16 by preference.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="GGUF file to write.")],
    recipe: Annotated[str, typer.Option(help="A recipe; `plm-edge recipe list` names them.")],
    threads: Annotated[int, typer.Option(min=0, help="0: one per core.")] = 0,
    allow_requantize: Annotated[
        bool, typer.Option("--allow-requantize", help="Quantize what is quantized already.")
    ] = False,
    dry_run: DryRunFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Quantize FILE by a recipe, with the engine's quantizer; check every type afterwards."""
    from plm_edge.gguf_header import read_header
    from plm_edge.quantize import plan as planning
    from plm_edge.quantize import recipe as recipes
    from plm_edge.quantize.quantizer import Request, check

    request = Request(read_header(file), output, threads, allow_requantize)
    plan = planning.make(request.source, recipes.find(recipe))
    check(request, plan)
    _say_fallbacks(plan)
    seconds = None if dry_run else _apply(request, plan)
    _show(request, plan, recipe, seconds, as_json)


def _apply(request: Request, plan: Plan) -> float:
    from plm_edge.commands._ready_engine import ready_engine
    from plm_edge.quantize import quantizer

    engine = ready_engine()
    with console.byte_progress(f"quantizing {request.source.path.name}") as progress:
        return quantizer.apply(request, plan, engine, progress).seconds


def _say_fallbacks(plan: Plan) -> None:
    for group in plan.groups():
        if group.falls_back_from is not None:
            console.warn(
                f"{group.name}: rows do not divide into blocks of {group.falls_back_from}; "
                f"{group.tensors} tensors become {group.type}"
            )


def _show(request: Request, plan: Plan, recipe: str, seconds: float | None, as_json: bool) -> None:
    from plm_edge.quantize.report import plan_table, rows

    is_random = bool(request.source.metadata.get("plm_edge.random"))
    if as_json:
        summary: dict[str, Any] = {
            "file": str(request.source.path),
            "output": str(request.target),
            "recipe": recipe,
            "random_weights": is_random,
            "file_bytes": plan.file_bytes,
            "bits_per_weight": round(plan.bits_per_weight, 4),
            "written": seconds is not None,
            "seconds": seconds,
        }
        console.print_json({**summary, "groups": rows(plan)})
        return
    console.stdout().print(plan_table(plan))
    verb = "would write" if seconds is None else "wrote"
    took = "" if seconds is None else f" in {seconds:.0f} s, every type checked"
    label = ", random weights" if is_random else ""
    print(
        f"{verb} {request.target}: {plan.file_bytes:,} bytes, "
        f"{plan.bits_per_weight:.2f} bits per weight{label}{took}"
    )
