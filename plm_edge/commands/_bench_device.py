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
from plm_edge.commands import _bench, _bench_estimate, _bench_show, _device
from plm_edge.commands._bench import Request
from plm_edge.device import connect, deploy, fit, memory, probe
from plm_edge.device import profile as profiles
from plm_edge.errors import DeviceError
from plm_edge.gguf_header import read_header
from plm_edge.shape import PlmShape

if TYPE_CHECKING:
    from plm_edge.device.deploy import Item
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
    cpus = _fast_cores(device, facts)
    cores = 1 if transport.is_emulated else len(cpus)  # emulated threads wait for each other
    if request.threads is not None:
        sides.check_threads(request.threads, cores)
    rounds = _rounds(*files, request.threads or (cores,), request)
    _require_memory(transport.name, facts, rounds)
    engines: dict[str, Engine] = {
        side.variant: _engine(device, side.variant) for side in rounds.sides
    }
    place = _placed(transport, device, facts, engines, {side.file for side in rounds.sides})
    bench = _bench_of(place, device, facts, engines, rounds.sides)
    planned = {"": rounds}
    if request.threads is None and not transport.is_emulated:
        planned = _bench.with_best_threads(bench, planned)
    _bench.measure(bench, planned, _pace(rounds, device, cores), request)


def _fast_cores(device: Profile, facts: Facts) -> tuple[int, ...]:
    """What the device calls big; where it does not tell cores apart, the profile's count."""
    return facts.big_cores[-(device.cpu.big_cores or len(facts.big_cores)) :]


def _require_memory(name: str, facts: Facts, rounds: Rounds) -> None:
    """Raise `SpaceError` before anything is sent if our engine would be killed there.

    Stock's larger cache is its own risk: a run of it that is killed says so.
    """
    context = max(test.depth + test.tokens for test in rounds.tests)
    context = max(context, rounds.memory_context or 0, memory.CONTEXT_STEP)
    for side in rounds.sides:
        if side.variant == "edge":
            header = read_header(side.file)
            shape = PlmShape.from_metadata(header.metadata, str(side.file))
            load = memory.Load(shape, header.size_bytes, side.cache_type)
            memory.plan(name, load, facts, context)


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
    items = {variant: _items(transport, engine) for variant, engine in engines.items()}
    models = {file: deploy.model_item(transport, file) for file in files}
    _device.sent(transport, [*(one for found in items.values() for one in found), *models.values()])
    bus = estimate.ceiling(device)
    place = Far(
        transport,
        device,
        {variant: deploy.place_of(transport, found[0]) for variant, found in items.items()},
        {file: deploy.place_of(transport, item) for file, item in models.items()},
        _fast_cores(device, facts),
        bandwidth_source=bus.source if bus else None,
    )
    return replace(place, start_celsius=place.look().temperature_celsius)


def _items(transport: Transport, engine: Engine) -> list[Item]:
    """The benchmark program first, then its libraries if it has some."""
    program = engine.tool(runner.TOOL)
    return deploy.engine_items(transport, engine.manifest.key, [program], engine.lib_dir)


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
    return Bench(machine_of(device, facts), known, engines, models, far=place)


def machine_of(device: Profile, facts: Facts) -> machine.Machine:
    """The device as a result names it."""
    return machine.Machine(
        cpu=facts.core_names,
        architecture=facts.architecture,
        flags=machine.notable(facts.features),
        cores=len(_fast_cores(device, facts)),
        memory_bytes=facts.memory_bytes,
        governor=None,
        kernel=facts.system,
    )
