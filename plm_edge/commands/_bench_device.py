"""`plm-edge bench --device`: the same benchmark on another machine, or what it could do at most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from plm_edge import console
from plm_edge.bench import bandwidth, estimate, fingerprint, machine, runner, sides
from plm_edge.bench.far import Far
from plm_edge.bench.plan import Pace, Rounds, Side
from plm_edge.bench.session import Bench, Model
from plm_edge.commands import _bench, _bench_estimate, _bench_show
from plm_edge.commands._bench import Request
from plm_edge.device import connect, fit, probe
from plm_edge.device import profile as profiles
from plm_edge.device.local import LocalTransport
from plm_edge.errors import DeviceError
from plm_edge.gguf_header import read_header

if TYPE_CHECKING:
    from plm_edge.device.probe import Facts
    from plm_edge.device.profile import Profile
    from plm_edge.device.transport import Transport
    from plm_edge.engine.cache import Engine

# Without a measurement, for the progress bar alone.
_GUESSED_GIGABYTES_PER_SECOND = 8.0


def run(name: str, file: Path | None, recipe: str, request: Request) -> None:
    """Measure FILE on the device; where none answers, print what its memory bus allows."""
    _bench.check(request)
    device = profiles.find(name)
    if file is None or not connect.has_address(device):
        _bench_estimate.show(name, device, file, recipe, request)
        return
    header = sides.check_file(file, "edge")
    stock = sides.stock_sibling(header, request.stock_file) if request.against_stock else None
    if request.is_dry:
        _show_plan(device, file, stock, request)
        return
    with connect.connect(name, device) as transport:
        try:
            facts = probe.probe(transport)
        except DeviceError:
            _bench_estimate.show(name, device, file, recipe, request)
            raise
        fit.require_fit(name, device, facts)
        _measure(transport, device, facts, (file, stock), request)


def _show_plan(device: Profile, file: Path, stock: Path | None, request: Request) -> None:
    cores = device.cpu.big_cores or 1
    rounds = _rounds(file, stock, request.threads or (cores,), request)
    _bench_show.plan({"": rounds}, _pace(rounds, device, cores), request.as_json)


def _rounds(file: Path, stock: Path | None, threads: Sequence[int], request: Request) -> Rounds:
    ours = sides.edge_sides(file, threads, request.cache_types, request.flash)
    theirs = sides.stock_sides(stock, threads) if stock else []
    context = max(*request.depths, 512)
    return Rounds((*ours, *theirs), request.tests(), request.repeats, context)


def _pace(rounds: Rounds, device: Profile, cores: int) -> Pace:
    bus = estimate.ceiling(device)
    sizes = {side.file: side.file.stat().st_size for side in rounds.sides}
    rate = bus.gigabytes_per_second if bus else _GUESSED_GIGABYTES_PER_SECOND
    return Pace(sizes, rate, cores)


def _measure(
    transport: Transport,
    device: Profile,
    facts: Facts,
    files: tuple[Path, Path | None],
    request: Request,
) -> None:
    cores = len(facts.big_cores)
    if request.threads is not None:
        sides.check_threads(request.threads, cores)
    rounds = _rounds(*files, request.threads or (cores,), request)
    engines: dict[str, Engine] = {
        side.variant: _engine(device, side.variant) for side in rounds.sides
    }
    place = _placed(transport, device, facts, engines, {side.file for side in rounds.sides})
    bench = _bench_of(place, device, facts, engines, rounds.sides)
    planned = {"": rounds}
    if request.threads is None and not transport.is_emulated:
        planned = _bench.with_best_threads(bench, planned)
    _bench.measure(bench, planned, _pace(rounds, device, cores), request)


def _engine(device: Profile, variant: _bench.Variant) -> Engine:
    from plm_edge.engine import build

    if engine := build.current_for(device, variant):
        return engine
    with console.step_progress(f"building the {variant} engine for {device.description}") as bar:
        return build.ensure_for(device, variant, bar, notify=console.note)


def _placed(
    transport: Transport,
    device: Profile,
    facts: Facts,
    engines: Mapping[str, Engine],
    files: set[Path],
) -> Far:
    programs = {
        variant: _push(
            transport,
            engine.tool(runner.TOOL),
            transport.path("engines", engine.manifest.key, runner.TOOL),
            is_executable=True,
        )
        for variant, engine in engines.items()
    }
    models = {file: _push(transport, file, transport.path("models", file.name)) for file in files}
    bus = estimate.ceiling(device)
    place = Far(
        transport,
        device,
        programs,
        models,
        facts.big_cores,
        bandwidth_source=bus.source if bus else None,
    )
    return replace(place, start_celsius=place.look().temperature_celsius)


def _push(transport: Transport, local: Path, remote: str, *, is_executable: bool = False) -> str:
    """The file's path there; right here it stays where it is, beside its libraries."""
    if isinstance(transport, LocalTransport) and not transport.is_emulated:
        return str(local.absolute())
    with console.byte_progress(f"sending {local.name}") as progress:
        transport.push(local, remote, progress, is_executable=is_executable)
    return remote


def _bench_of(
    place: Far,
    device: Profile,
    facts: Facts,
    engines: Mapping[str, Engine],
    used: Sequence[Side],
) -> Bench:
    models: dict[Path, Model] = {}
    for side in used:
        if side.file not in models:
            header = read_header(side.file)
            is_sparse = side.variant == "edge" and header.layout == "edge"
            counted = place.live(side.variant, side.file, side.threads) if is_sparse else None
            models[side.file] = Model(header, fingerprint.sha256(side.file), counted)
    bus = estimate.ceiling(device)
    known = bandwidth.Bandwidth(bus.gigabytes_per_second, 0, "") if bus else None
    return Bench(_machine(facts), known, engines, models, far=place)


def _machine(facts: Facts) -> machine.Machine:
    return machine.Machine(
        cpu=facts.core_names,
        architecture=facts.architecture,
        flags=machine.notable(facts.features),
        cores=len(facts.big_cores),
        memory_bytes=facts.memory_bytes,
        governor=None,
        kernel=facts.system,
    )
