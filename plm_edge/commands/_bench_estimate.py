"""What `plm-edge bench --device` says of a device nobody can reach: an estimate, named so."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from plm_edge import console
from plm_edge.bench import estimate, roofline, sides
from plm_edge.commands._bench_show import wide_stdout
from plm_edge.errors import InputError
from plm_edge.shell import quote

if TYPE_CHECKING:
    from rich.table import Table

    from plm_edge.bench.estimate import Ceiling, Estimate
    from plm_edge.commands._bench import Request
    from plm_edge.device.profile import Profile
    from plm_edge.gguf_header import GgufHeader


def show(name: str, device: Profile, file: Path | None, recipe: str, request: Request) -> None:
    """Print the roofline of a profile, what it rests on, and how to measure instead."""
    bus = estimate.ceiling(device)
    if bus is None:
        raise InputError(
            f"{name}: its profile knows no memory bandwidth, so there is nothing to estimate with",
            hint=_how_to_connect(name, device),
        )
    header, what = _model(file, recipe)
    found = estimate.estimates(
        header, bus, request.depths, request.cache_types, request.generated or 1
    )
    if request.as_json:
        console.print_json(_as_json(name, device, bus, what, found))
        return
    for line in _inputs(name, device, bus, what):
        print(line)
    wide_stdout().print(_table(found, device))
    console.note(f"to measure: {_how_to_connect(name, device)}")


def _model(file: Path | None, recipe: str) -> tuple[GgufHeader, str]:
    if file is not None:
        header = sides.check_file(file, "edge")
        return header, f"{file.name} ({header.layout} layout, {header.size_bytes / 1e9:.2f} GB)"
    from plm_edge.commands._recipe_header import plm_header

    header = plm_header(recipe)
    return header, f"PLM-1.8B in recipe {recipe} ({header.size_bytes / 1e9:.2f} GB)"


def _how_to_connect(name: str, device: Profile) -> str:
    if device.transport.kind == "adb":
        return "switch on USB debugging, plug the phone in, and run it again"
    if device.transport.host is not None:
        return quote(["plm-edge", "doctor", "--device", name])
    return f"plm-edge device add kitchen --extends {quote([name])} --host USER@ADDRESS"


def _inputs(name: str, device: Profile, bus: Ceiling, what: str) -> list[str]:
    kind = "measured" if bus.is_measured else "theoretical"
    live = roofline.ASSUMED_LIVE_FRACTION
    return [
        f"estimate for {name} ({device.description}), not a measurement",
        f"model: {what}",
        f"memory reads {bus.gigabytes_per_second:g} GB/s ({kind}: {bus.source})",
        *([] if bus.is_measured else [_measured(device)]),
        f"edge reads {live:.1%} of ffn_down's rows (assumed, from PLM's paper) and the latent "
        "cache; stock reads all rows and full keys and values",
        "tok/s is what the bus allows at most; llama.cpp on a Pi 5 reaches about two thirds of it",
    ]


def _measured(device: Profile) -> str:
    rate, source = device.bandwidth.measured_gigabytes_per_second, device.bandwidth.measured_source
    if rate is None:
        return "measured: nobody published what its cores can really read"
    return f"measured: {rate:g} GB/s, but that is one core alone ({source})"


def _table(found: list[Estimate], device: Profile) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column("engine", no_wrap=True)
    columns = ("depth", "cache", "GB/token", "at most tok/s", "weights and cache", "of memory")
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for one in found:
        share = one.memory_bytes / device.memory_bytes if device.memory_bytes else None
        table.add_row(
            one.variant,
            str(one.depth),
            one.cache_type,
            f"{one.bytes_per_token / 1e9:.3f}",
            f"{one.tokens_per_second:.1f}",
            f"{one.memory_bytes / 1e9:.2f} GB",
            "–" if share is None else f"{share:.0%}",
        )
    return table


def _as_json(
    name: str, device: Profile, bus: Ceiling, what: str, found: list[Estimate]
) -> dict[str, object]:
    return {
        "kind": "estimate",
        "device": name,
        "description": device.description,
        "model": what,
        "bandwidth": asdict(bus),
        "live_fraction": roofline.ASSUMED_LIVE_FRACTION,
        "memory_bytes": device.memory_bytes,
        "estimates": [asdict(one) for one in found],
        "to_measure": _how_to_connect(name, device),
    }
