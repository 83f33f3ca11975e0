"""`plm-edge synth`: a checkpoint of random weights, as sparse as asked."""

from __future__ import annotations

from dataclasses import asdict, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plm_edge import console
from plm_edge.commands._data import DryRunFlag, JsonFlag
from plm_edge.errors import UsageError

if TYPE_CHECKING:
    from plm_edge.convert.synth import SynthReport
    from plm_edge.shape import PlmShape

app = typer.Typer()

# Shorter names for what the configuration spells out.
_SIZES = {
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "hidden": "hidden_size",
    "intermediate": "intermediate_size",
    "vocab": "vocab_size",
    "context": "max_position_embeddings",
    "kv_rank": "kv_lora_rank",
    "nope": "qk_nope_head_dim",
    "rope": "qk_rope_head_dim",
    "value": "v_head_dim",
}


class DType(str, Enum):
    """What a weight is stored as."""

    bf16 = "bf16"
    f16 = "f16"
    f32 = "f32"


Size = Annotated[int | None, typer.Option(min=1)]


@app.command()
def synth(
    folder: Annotated[Path, typer.Argument(help="New folder for the checkpoint.")],
    shape: Annotated[str, typer.Option(help="plm-1.8b, nano or tiny.")] = "plm-1.8b",
    zero_fraction: Annotated[
        float, typer.Option(help="Share of squared-ReLU outputs that are zero, in every layer.")
    ] = 0.909,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same weights.")] = 0,
    dtype: Annotated[DType, typer.Option(help="Type of the stored weights.")] = DType.bf16,
    layers: Size = None,
    heads: Size = None,
    hidden: Size = None,
    intermediate: Size = None,
    vocab: Size = None,
    context: Size = None,
    kv_rank: Size = None,
    nope: Size = None,
    rope: Size = None,
    value: Size = None,
    dry_run: DryRunFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Write a checkpoint of random weights with PLM's shape and sparsity, for benchmarks.

    The sizes (--layers, --hidden, ...) change single dimensions of --shape.
    """
    given = locals()
    sizes = {field: given[flag] for flag, field in _SIZES.items() if given[flag] is not None}
    request: dict[str, Any] = {"dtype": dtype.value, "zero_fraction": zero_fraction, "seed": seed}
    plan = {"folder": str(folder), "shape": asdict(_shape(shape, sizes)), **request}
    if dry_run:
        _show_plan(folder, _shape(shape, sizes), plan, as_json)
        return
    from plm_edge.convert.synth import write_checkpoint

    with console.byte_progress(f"writing random weights to {folder}") as progress:
        report = write_checkpoint(folder, _shape(shape, sizes), progress=progress, **request)
    _show(report, plan, as_json)


def _shape(name: str, sizes: dict[str, int]) -> PlmShape:
    from plm_edge.convert.synth import SHAPES

    if name not in SHAPES:
        raise UsageError(f"shape {name!r}, expected one of {', '.join(SHAPES)}")
    return replace(SHAPES[name], **sizes)


def _show_plan(folder: Path, shape: PlmShape, plan: dict[str, Any], as_json: bool) -> None:
    from plm_edge.convert.synth import check_request, weight_bytes

    check_request(
        folder, shape, dtype=plan["dtype"], zero_fraction=plan["zero_fraction"], seed=plan["seed"]
    )
    plan = {**plan, "parameters": shape.parameters, "bytes": weight_bytes(shape, plan["dtype"])}
    if as_json:
        console.print_json(plan)
        return
    print(f"would write {plan['bytes'] / 1e9:.3f} GB of random {plan['dtype']} weights to {folder}")
    print(f"{shape.parameters:,} parameters, {shape.num_hidden_layers} layers")


def _show(report: SynthReport, plan: dict[str, Any], as_json: bool) -> None:
    if report.worst_error > 0.005:
        console.warn(
            f"zero fractions are up to {report.worst_error:.3f} away from "
            f"{report.wanted_zero_fraction:g}: the shape is too small to hit it"
        )
    if as_json:
        measured = {"zero_fractions": report.zero_fractions, "random": True}
        console.print_json({**plan, **measured, "bytes": report.weight_bytes})
        return
    low, high = min(report.zero_fractions), max(report.zero_fractions)
    print(f"{report.folder}: random weights, {report.weight_bytes / 1e9:.3f} GB {report.dtype}")
    print(
        f"zeros after squared ReLU, {report.shape.num_hidden_layers} layers: "
        f"{low:.4f} to {high:.4f} (asked: {report.wanted_zero_fraction:g})"
    )
