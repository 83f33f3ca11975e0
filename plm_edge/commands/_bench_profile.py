"""`plm-edge bench --profile`: a token taken apart, for one engine or both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plm_edge import console
from plm_edge.bench import machine, profile, sides
from plm_edge.bench.live import Live
from plm_edge.bench.profile import Part, Profile
from plm_edge.commands._bench import Request, check, prepared
from plm_edge.commands._bench_show import wide_stdout

if TYPE_CHECKING:
    from rich.table import Table

    from plm_edge.bench.plan import Side
    from plm_edge.bench.session import Bench


def run(file: Path, request: Request) -> None:
    """Profile each depth on each engine asked for, and print where time and bytes go."""
    check(request)
    header = sides.check_file(file, "edge")
    stock = sides.stock_sibling(header, request.stock_file) if request.against_stock else None
    here = machine.read()
    threads = request.threads or (here.cores,)
    sides.check_threads(threads, here.cores)
    used = sides.edge_sides(file, threads[:1], request.cache_types, request.flash)
    used += sides.stock_sides(stock, threads[:1]) if stock else []
    if request.is_dry:
        for side in used:
            print(f"would time each operation of {request.generated} tokens: {side.label}")
        return
    bench = prepared(here, used)
    found = [(side, depth) for side in used for depth in request.depths]
    shown = [(side, _measured(bench, side, depth, request)) for side, depth in found]
    _show(bench, shown, request.as_json)


def _measured(bench: Bench, side: Side, depth: int, request: Request) -> Profile:
    console.note(f"timing each operation at depth {depth}: {side.label} ...")
    engine, model = bench.engines[side.variant], bench.models[side.file]
    ops = profile.measure(side, engine, depth, request.generated)
    return profile.gather(ops, depth, model.header, bench.reads(side), bench.live_fraction(side))


def _show(bench: Bench, shown: list[tuple[Side, Profile]], as_json: bool) -> None:
    assert bench.bandwidth is not None  # this machine's is always measured
    rate = bench.bandwidth.gigabytes_per_second
    live = {side.file: bench.models[side.file].live for side, _ in shown}
    if as_json:
        console.print_json(
            {
                "machine": asdict(bench.machine),
                "bandwidth_gigabytes_per_second": rate,
                "profiles": [_as_json(side, found) for side, found in shown],
                "live_fraction_by_layer": _live_rows(live),
            }
        )
        return
    for side, found in shown:
        label = "random weights, " if bench.models[side.file].header.is_random else ""
        print(
            f"{side.file.name} ({label}{side.label}), depth {found.depth}: "
            f"{found.token_seconds * 1e3:.2f} ms a token; its operations one by one take "
            f"{found.single_seconds * 1e3:.2f} ms"
        )
        wide_stdout().print(_table(found, rate))
    for layers in _live_rows(live).values():
        print("live neurons by layer, %:", *(f"{share:.1%}"[:-1] for share in layers))


def _live_rows(live: Mapping[Path, Live | None]) -> dict[str, list[float]]:
    return {path.name: list(one.layers.values()) for path, one in live.items() if one}


def _as_json(side: Side, found: Profile) -> dict[str, Any]:
    return {"engine": side.variant, "file": str(side.file), **asdict(found)}


def _table(found: Profile, rate: float) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column("part", no_wrap=True)
    for heading in ("ms", "of time", "MB read", "of bytes", "GB/s", "of bus", "operations"):
        table.add_column(heading, justify="right", no_wrap=True)
    for part in found.parts:
        table.add_row(*_cells(part, found, rate))
    total = Part("token", found.token_seconds, found.size_bytes, sum(p.calls for p in found.parts))
    table.add_row(*_cells(total, found, rate), end_section=True)
    return table


def _cells(part: Part, found: Profile, rate: float) -> tuple[str, ...]:
    reached = part.gigabytes_per_second
    return (
        part.name,
        f"{part.seconds * 1e3:.2f}",
        f"{part.seconds / found.token_seconds:.0%}",
        f"{part.size_bytes / 1e6:.1f}",
        f"{part.size_bytes / found.size_bytes:.0%}",
        "–" if reached is None else f"{reached:.1f}",
        "–" if reached is None else f"{reached / rate:.0%}",
        f"{part.calls:.0f}",
    )
