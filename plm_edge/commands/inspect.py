"""`plm-edge inspect`: what a checkpoint folder or a GGUF file holds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from plm_edge import console
from plm_edge.commands._data import JsonFlag
from plm_edge.errors import InputError
from plm_edge.shell import quote

app = typer.Typer()

WINDOW = 256  # tokens that see each other; attention costs their square


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="GGUF file, or folder of a checkpoint.")],
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor.")] = False,
    sparsity: Annotated[
        Path | None, typer.Option(metavar="TEXT", help="Measure zero activations on this file.")
    ] = None,
    tokens: Annotated[int, typer.Option(min=1, help="Of the text, for --sparsity.")] = 512,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Its folder, for --sparsity of a GGUF.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Print shape, layout, types, sizes, cache bytes per token, tokenizer and template."""
    if sparsity is not None:
        _sparsity(path, sparsity, tokens, tokenizer, as_json)
        return
    from plm_edge.convert import inspection

    found = inspection.inspect(path)
    if as_json:
        console.print_json(inspection.as_table(found, with_tensors=tensors))
        return
    for note in found.notes:
        console.note(f"note: {note}")
    _render(found)
    if tensors:
        for tensor in found.tensors:
            shape = " x ".join(map(str, tensor.shape))
            print(f"  {tensor.name:<44} {tensor.type:<6} {shape:<20} {tensor.size_bytes:>14,}")


def _sparsity(path: Path, text: Path, tokens: int, tokenizer: Path | None, as_json: bool) -> None:
    from plm_edge.model import activity
    from plm_edge.model.reference import Reference

    if tokenizer is None and not path.is_dir():
        raise InputError(
            f"{path}: a file, whose text needs a tokenizer's folder",
            hint=quote(
                ["plm-edge", "inspect", path, "--sparsity", text, "--tokenizer", "CHECKPOINT"]
            ),
        )
    reference = Reference.from_checkpoint(path) if path.is_dir() else Reference.from_gguf(path)
    length = min(reference.shape.max_position_embeddings, WINDOW)
    windows = activity.read_windows(text, tokenizer or path, length, tokens)
    with console.step_progress(f"run {path}") as progress:
        found = activity.measure(reference, windows, progress)
    if as_json:
        console.print_json({**asdict(found), "zero_share": found.zero_share})
        return
    print(f"{path}: {found.tokens:,} tokens of {text}")
    for number, layer in enumerate(found.layers):
        print(
            f"layer {number:<3} {layer.zero_share:>7.1%} zero, "
            f"{layer.never_share:>6.1%} of the neurons never active"
        )
    print(f"mean      {found.zero_share:>7.1%} zero")


def _render(found: Any) -> None:
    label = ", random weights" if found.is_random else ""
    shape, tokenizer = found.shape, found.tokenizer
    print(f"{found.path}: {found.kind}, {found.layout} layout{label}")
    print(
        f"size        {found.size_bytes:,} bytes, {found.parameters:,} parameters, "
        f"{found.bits_per_weight:.2f} bits per weight"
    )
    for name, (count, size) in found.types.items():
        print(f"  {name:<9} {count:>4} tensors {size:>16,} bytes")
    print(
        f"shape       {shape.num_hidden_layers} layers, width {shape.hidden_size}, "
        f"FFN {shape.intermediate_size}, context {shape.max_position_embeddings}"
    )
    print(
        f"attention   {shape.num_attention_heads} heads of {shape.qk_nope_head_dim} + "
        f"{shape.qk_rope_head_dim} (values {shape.v_head_dim}), latent {shape.kv_lora_rank}"
    )
    for name, (latent, full) in found.cache_bytes_per_token.items():
        print(
            f"cache {name:<5} {latent:,} bytes per token; {full:,} in stock llama.cpp "
            f"({full / latent:.1f} times as much)"
        )
    special = ", ".join(f"{name} {number}" for name, number in tokenizer.special.items())
    print(
        f"tokenizer   {tokenizer.kind}/{tokenizer.split or '-'}, {tokenizer.tokens:,} tokens, "
        f"{tokenizer.padding} for padding; {special or 'no special ids'}"
    )
    print(f"template    {_first_words(tokenizer.template)}")


def _first_words(template: str | None, most: int = 64) -> str:
    if template is None:
        return "none"
    line = " ".join(template.split())
    return line if len(line) <= most else line[: most - 3] + "..."
