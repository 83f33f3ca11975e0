"""What `plm-edge bench` does: files checked, engines ready, rounds run, rows kept and shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from plm_edge import console, paths, results
from plm_edge.bench import bandwidth, fingerprint, live, machine, plan, sides, suite, table
from plm_edge.bench import rows as bench_rows
from plm_edge.bench.plan import Flash, Job, Rounds, Side, Test
from plm_edge.bench.session import Bench, Model
from plm_edge.commands import _bench_show
from plm_edge.errors import UsageError
from plm_edge.gguf_header import read_header
from plm_edge.shape import CACHE_BLOCKS, PlmShape

if TYPE_CHECKING:
    from plm_edge.bench.rows import Row
    from plm_edge.commands._bench_models import ModelStore
    from plm_edge.engine.cache import Engine

Variant = Literal["edge", "stock"]


@dataclass(frozen=True)
class Request:
    """What the user asked for; no threads means the best of a sweep."""

    depths: tuple[int, ...]
    prompt: int
    generated: int
    threads: tuple[int, ...] | None
    repeats: int
    against_stock: bool
    stock_file: Path | None
    cache_types: tuple[str, ...]
    flash: Flash
    results: Path | None
    is_dry: bool
    as_json: bool
    # Before the work begins: making models and engines is a load of its own.
    load_average: float = field(default_factory=machine.load_average)

    def tests(self) -> tuple[Test, ...]:
        """Prompt and generation at each depth."""
        kinds: list[tuple[plan.Kind, int]] = [
            ("prompt", self.prompt),
            ("generation", self.generated),
        ]
        return tuple(Test(kind, n, depth) for depth in self.depths for kind, n in kinds if n)

    def results_path(self) -> Path:
        """The file rows go to."""
        return self.results or results.default_path()


def run_file(file: Path, request: Request) -> None:
    """Measure one file, alone or against stock."""
    check(request)
    header = sides.check_file(file, "edge")
    stock = sides.stock_sibling(header, request.stock_file) if request.against_stock else None
    here = machine.read()
    threads = _threads(request, here.cores)
    ours = sides.edge_sides(file, threads, request.cache_types, request.flash)
    theirs = sides.stock_sides(stock, threads) if stock else []
    context = max(*request.depths, 512)
    planned = {"": Rounds((*ours, *theirs), request.tests(), request.repeats, context)}
    _run(planned, request, here)


def run_suite(request: Request, only: Sequence[str]) -> None:
    """The fixed table: our recipes against stock's mixes, on random weights of PLM's shape."""
    from plm_edge.commands._bench_models import ModelStore, prepare

    check(request)
    cases, here = suite.chosen(only), machine.read()
    store = ModelStore(paths.cache_dir() / "bench", PlmShape())
    threads = _threads(request, here.cores)
    planned = {case.name: _case_rounds(case, store, threads, request) for case in cases}
    if not request.is_dry:
        recipes, mixes = [case.recipe for case in cases], [case.stock_mix for case in cases]
        prepare(store, recipes, mixes, ready("edge"))
    _run(planned, request, here)


def _case_rounds(
    case: suite.Case, store: ModelStore, threads: Sequence[int], request: Request
) -> Rounds:
    ours = sides.edge_sides(store.edge_path(case.recipe), threads, case.cache_types, request.flash)
    theirs = sides.stock_sides(store.stock_path(case.stock_mix), threads)
    return Rounds((*ours, *theirs), case.tests, request.repeats, case.memory_context)


def check(request: Request) -> None:
    """Raise `UsageError` for flags that make no benchmark."""
    unknown = [name for name in request.cache_types if name not in CACHE_BLOCKS]
    if unknown or not request.cache_types:
        known = ", ".join(CACHE_BLOCKS)
        raise UsageError(f"--cache-type {' '.join(unknown)!r}: expected one of {known}")
    if not request.tests():
        raise UsageError("--prompt 0 and --gen 0 leave nothing to measure")
    if request.stock_file and not request.against_stock:
        raise UsageError("--stock-file needs --against stock")


def _threads(request: Request, cores: int) -> tuple[int, ...]:
    """The thread counts to plan with; a sweep replaces the count of all cores later."""
    if request.threads is None:
        return (cores,)
    sides.check_threads(request.threads, cores)
    return request.threads


def _run(planned: dict[str, Rounds], request: Request, here: machine.Machine) -> None:
    if request.is_dry:
        _bench_show.plan(planned, pace_of(planned, here), request.as_json)
        return
    load = request.load_average
    if load > table.BUSY_LOAD:
        console.warn(f"the machine is busy (load {load:.1f}): speeds will be low and spread")
    used = [side for rounds in planned.values() for side in rounds.sides]
    bench = prepared(here, used, load)
    if request.threads is None:
        planned = with_best_threads(bench, planned)
    measure(bench, planned, pace_of(planned, here), request)


def measure(bench: Bench, planned: dict[str, Rounds], pace: plan.Pace, request: Request) -> None:
    """Run what is planned, keep the rows, show them."""
    _bench_show.announce(planned, pace)
    found: list[Row] = []
    with console.step_progress("measuring (seconds, roughly)") as progress:
        seconds = SecondsOf(planned, pace, progress)
        for name, rounds in planned.items():
            fresh = bench.measure(rounds, pace, name, seconds.within(name))
            bench_rows.write(request.results_path(), fresh)
            found += fresh
    _bench_show.rows(found, request.as_json)
    console.note(f"rows appended to {request.results_path()}")


class SecondsOf:
    """Puts the progress of one set of rounds in its place among all of them."""

    def __init__(
        self, planned: dict[str, Rounds], pace: plan.Pace, progress: console.Progress
    ) -> None:
        self._sums = {
            name: sum(pace.seconds(job) for job in rounds.jobs())
            for name, rounds in planned.items()
        }
        self._progress = progress

    def within(self, name: str) -> console.Progress:
        names = list(self._sums)
        before = sum(self._sums[other] for other in names[: names.index(name)])
        whole = round(sum(self._sums.values()))
        return lambda done, total: self._progress(round(before + done), whole)


def pace_of(planned: dict[str, Rounds], here: machine.Machine) -> plan.Pace:
    """A guess of the speeds, from the files' sizes and the bandwidth seen before, if any."""
    files = {side.file for rounds in planned.values() for side in rounds.sides}
    sizes = {file: file.stat().st_size for file in files if file.is_file()}
    known = bandwidth.cached(here)
    return plan.Pace(sizes, known.gigabytes_per_second if known else 10, here.cores)


def prepared(here: machine.Machine, used: Sequence[Side], load: float = 0.0) -> Bench:
    """Engines ready, files hashed, live neurons counted, the memory bus measured."""
    engines: dict[str, Engine] = {}
    for side in used:
        if side.variant not in engines:
            engines[side.variant] = ready(side.variant)
    models: dict[Path, Model] = {}
    for side in used:
        if side.file not in models:
            models[side.file] = _model(side, engines[side.variant])
    return Bench(here, bandwidth.of(here), engines, models, load)


def _model(side: Side, engine: Engine) -> Model:
    header = read_header(side.file)
    with console.byte_progress(f"hashing {side.file.name}") as progress:
        digest = fingerprint.sha256(side.file, progress)
    is_sparse = side.variant == "edge" and header.layout == "edge"
    return Model(header, digest, live.measure(side, engine) if is_sparse else None)


def ready(variant: Variant) -> Engine:
    """An engine from the cache, or built with progress."""
    from plm_edge.engine import build

    if engine := build.current(variant):
        return engine
    with console.step_progress(f"building the {variant} engine") as progress:
        return build.ensure(variant, progress, notify=console.note)


def with_best_threads(bench: Bench, planned: dict[str, Rounds]) -> dict[str, Rounds]:
    """The same rounds, each engine on the thread count it is fastest with."""
    if bench.machine.cores == 1:
        return planned
    first = {side.variant: side for rounds in planned.values() for side in rounds.sides}

    def speed(job: Job) -> float:
        return bench.run_job(job).speeds[0][1]

    with console.step_progress("finding the best thread count"):
        best = sides.sweep(list(first.values()), bench.machine.cores, speed)
    console.note(", ".join(f"{variant}: {count} threads" for variant, count in best.items()))
    return {
        name: replace(
            rounds, sides=tuple(sides.with_threads(s, best[s.variant]) for s in rounds.sides)
        )
        for name, rounds in planned.items()
    }


def show(request: Request) -> None:
    """Read the results file back: the tables of the last run, compared with earlier ones."""
    _bench_show.stored(request.results_path(), request.as_json)
