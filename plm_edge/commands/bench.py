"""`plm-edge bench`: speed and memory of a file on this machine, beside stock llama.cpp."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from plm_edge.commands._data import DryRunFlag, JsonFlag
from plm_edge.errors import UsageError

app = typer.Typer()


class Flash(str, Enum):
    """Flash attention, as the engine calls it."""

    auto = "auto"
    on = "on"
    off = "off"


@app.command()
def bench(
    file: Annotated[Path | None, typer.Argument(help="GGUF file of a PLM.")] = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="Measure on that device, not here.")
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="With --device and no FILE: estimate PLM-1.8B in this recipe.")
    ] = "q4",
    depth: Annotated[str, typer.Option(help="Tokens already in the cache.")] = "0,1024,4096",
    prompt: Annotated[int, typer.Option(min=0, help="Prompt length; 0: none.")] = 512,
    gen: Annotated[int, typer.Option(min=0, help="Tokens to generate; 0: none.")] = 32,
    threads: Annotated[str, typer.Option(help="A list, or auto: sweep, keep the best.")] = "auto",
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; medians of them.")] = 5,
    against: Annotated[str | None, typer.Option(help="stock: take turns with it.")] = None,
    stock_file: Annotated[Path | None, typer.Option(help="What stock runs instead.")] = None,
    cache_type: Annotated[str, typer.Option(help="f16, q8_0, bf16, f32; a list.")] = "f16",
    flash: Annotated[Flash, typer.Option(help="Flash attention of our engine.")] = Flash.auto,
    results: Annotated[Path | None, typer.Option(help="Results file to append to.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Read the results file back.")] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Where a token's time and bytes go.")
    ] = False,
    suite: Annotated[bool, typer.Option("--suite", help="The table of `make bench`.")] = False,
    only: Annotated[str, typer.Option(help="Cases of the suite; a list.")] = "",
    dry_run: DryRunFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure FILE: prompts and generation at several depths, memory, share of the memory bus.

    With --device on another machine; where none can be reached, what its memory bus allows at most.
    """
    from plm_edge.commands import _bench, _bench_device, _bench_profile
    from plm_edge.commands._bench import Request

    request = Request(
        depths=_numbers(depth, "--depth"),
        prompt=prompt,
        generated=gen,
        threads=None if threads == "auto" else _numbers(threads, "--threads"),
        repeats=repeats,
        against_stock=_is_stock(against),
        stock_file=stock_file,
        cache_types=_words(cache_type),
        flash=flash.value,
        results=results,
        is_dry=dry_run,
        as_json=as_json,
    )
    if show:
        _bench.show(request)
    elif device is not None:
        if suite or profile:
            raise UsageError("--device goes with neither --suite nor --profile")
        _bench_device.run(device, file, recipe, request)
    elif suite:
        _bench.run_suite(request, _words(only))
    elif file is None:
        raise UsageError("which file?", hint="plm-edge bench FILE, or --suite, or --show")
    elif profile:
        _bench_profile.run(file, request)
    else:
        _bench.run_file(file, request)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.replace(",", " ").split())


def _numbers(text: str, flag: str) -> tuple[int, ...]:
    words = _words(text)
    if not words or not all(word.isdigit() for word in words):
        raise UsageError(f"{flag} {text!r}: expected whole numbers, as in 0,1024")
    return tuple(dict.fromkeys(int(word) for word in words))


def _is_stock(against: str | None) -> bool:
    if against not in (None, "stock"):
        raise UsageError(f"--against {against!r}: expected stock")
    return against == "stock"
