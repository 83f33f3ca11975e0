"""What `plm-edge tasks run` does: tasks read, engine ready, items asked, rows kept and shown."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from plm_edge import console, resources, results, shell
from plm_edge.errors import InputError, UsageError
from plm_edge.eval import record
from plm_edge.eval.record import Header, Record
from plm_edge.eval.tasks import run as running
from plm_edge.eval.tasks import spec
from plm_edge.eval.tasks.energy import EnergyMeter
from plm_edge.eval.tasks.spec import Task
from plm_edge.eval.tasks.store import Settings, Store
from plm_edge.gguf_header import GgufHeader, read_header

if TYPE_CHECKING:
    from plm_edge.chat.scoring import ScoringModel
    from plm_edge.engine.cache import Engine
    from plm_edge.eval.tasks.model import TaskModel

KIND = "task"


@dataclass(frozen=True)
class Request:
    """What the user asked for; no names means every task that brings its data.

    `threads` may be 0 for a device, whose big cores are counted there.
    """

    file: Path
    names: tuple[str, ...]
    data: Path | None
    limit: int | None
    ctx: int
    threads: int
    cache_type: Literal["f16", "q8_0"]
    is_fresh: bool
    results: Path | None
    device: str | None = None
    is_forced: bool = False

    def results_path(self) -> Path:
        """The file rows go to."""
        return self.results or results.default_path()

    def command(self, task: str) -> str:
        """What repeats one task of this run."""
        words: list[str | Path] = ["plm-edge", "tasks", "run", self.file, "--task", task]
        words += ["--data", self.data] if self.data else []
        words += ["--limit", str(self.limit)] if self.limit else []
        words += ["--ctx", str(self.ctx)]
        words += ["--threads", str(self.threads)] if self.threads else []
        words += ["--device", self.device] if self.device else []
        return shell.quote([*words, "--cache-type", self.cache_type])


def chosen(request: Request) -> list[Task]:
    """The tasks of a request; without names those with data, the others said."""
    if request.data is not None and len(request.names) != 1:
        raise UsageError("--data belongs to one task", hint="name it with --task NAME")
    if request.names:
        known = [resources.find("tasks", name) for name in request.names]
        tasks = [spec.load_task(resource, request.data) for resource in known]
    else:
        every = resources.list_all("tasks")
        own = [resource for resource in every if spec.read_spec(resource).data]
        left = [resource.name for resource in every if resource not in own]
        console.note(f"left out, since they bring no data: {', '.join(left) or 'none'}")
        tasks = [spec.load_task(resource) for resource in own]
    return [task.first(request.limit) for task in tasks]


def run_all(request: Request, tasks: Sequence[Task], engine: Engine) -> list[Record]:
    """Run the tasks one after the other; each result is kept as soon as it is there."""
    from plm_edge.commands._task_model import EngineTaskModel

    header = read_header(request.file)
    settings, cpu = settings_of(request, engine)
    with open_model(header, engine, request) as model:
        place = Setting(header, settings, cpu, _watched)
        return rows(request, tasks, EngineTaskModel(model), place)


@dataclass(frozen=True)
class Setting:
    """What all rows of a run share, and what fills in a device's metrics around each task."""

    header: GgufHeader
    settings: Settings
    cpu: str
    watched: Callable[[], AbstractContextManager[dict[str, Any]]]


def rows(request: Request, tasks: Sequence[Task], model: TaskModel, place: Setting) -> list[Record]:
    """Ask the model every task; each result is kept as soon as it is there."""
    found = []
    for task in tasks:
        values = _run_one(task, model, place, request)
        asked = Asked(KIND, task.name, task.sha256, request.command(task.name))
        header = header_of(asked, place.header, place.settings, place.cpu)
        found.append(Record(header, values))
        record.write(request.results_path(), found[-1])
    return found


def settings_of(request: Request, engine: Engine) -> tuple[Settings, str]:
    """What answers depend on besides the task, and the processor's name."""
    from plm_edge.bench import fingerprint, machine

    with console.byte_progress(f"hashing {request.file.name}") as progress:
        digest = fingerprint.sha256(request.file, progress)
    here, key = machine.read(), engine.manifest.key
    made = Settings(digest, key, here.key, request.ctx, request.threads, request.cache_type)
    return made, here.cpu


@contextmanager
def open_model(header: GgufHeader, engine: Engine, request: Request) -> Iterator[ScoringModel]:
    """The loaded model, freed at the end."""
    from plm_edge.chat.model import ModelOptions
    from plm_edge.chat.scoring import ScoringModel

    if header.is_random:
        console.note("random weights: the answers are noise")
    options = ModelOptions(request.ctx, request.threads, request.cache_type)
    with console.byte_progress(f"loading {header.path.name}") as progress:
        model = ScoringModel(header, engine.lib_dir, options, progress)
    with model:
        yield model


def _run_one(task: Task, model: TaskModel, place: Setting, request: Request) -> dict[str, Any]:
    store = Store(task.sha256, place.settings)
    if request.is_fresh:
        store.forget()
    with place.watched() as device, console.step_progress(f"task {task.name}") as progress:
        outcome = running.run(task, model, store, progress)
    for line in store.skipped:
        console.warn(line)
    if outcome.resumed:
        console.note(f"{task.name}: {outcome.resumed} answers were there from an interrupted run")
    if outcome.left_out:
        names = ", ".join(outcome.left_out[:5]) + (", …" if len(outcome.left_out) > 5 else "")
        console.warn(f"{task.name}: {len(outcome.left_out)} items are too long for --ctx: {names}")
    values = running.values(outcome, device)
    return {**values, "answers": str(store.finish()), "cache_type": place.settings.cache_type}


@contextmanager
def _watched() -> Iterator[dict[str, Any]]:
    """Fills in what the machine tells about the time in between."""
    from plm_edge.bench.sampler import LOOSE_POLL_SECONDS, Sampler

    with contextlib.suppress(OSError):  # forget the peak of loading; not every kernel lets us
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    meter, device = EnergyMeter(), dict[str, Any]()
    with Sampler(os.getpid(), LOOSE_POLL_SECONDS) as sampler:
        yield device
    seen, energy = sampler.observed(), meter.used()
    device["peak_rss_bytes"] = seen.peak_rss_bytes
    device["peak_anonymous_bytes"] = seen.peak_anonymous_bytes
    device["temperature_celsius"] = seen.temperature_celsius
    device["energy_joules"] = energy.joules if energy else None
    device["energy_source"] = energy.source if energy else None


@dataclass(frozen=True)
class Asked:
    """What a row is about: its kind, the task with its data's hash, and the command."""

    kind: str
    name: str
    sha256: str
    command: str


def header_of(asked: Asked, model: GgufHeader, settings: Settings, cpu: str) -> Header:
    """The header of a row that `model` earned under `settings`."""
    return Header(
        kind=asked.kind,
        command=asked.command,
        model=model.path.name,
        model_sha256=settings.model_sha256,
        model_bytes=model.size_bytes,
        layout=model.layout,
        is_random=model.is_random,
        engine=settings.engine,
        machine=settings.machine,
        cpu=cpu,
        text=asked.name,
        text_sha256=asked.sha256,
        ctx=settings.ctx,
    )


def context_of(header: GgufHeader, ctx: int) -> int:
    """The context asked for, or the model's own, but 4096 at most: tasks are short."""
    from plm_edge.chat import preflight

    trained = preflight.shape_of(header).max_position_embeddings
    if ctx > trained:
        raise InputError(f"--ctx {ctx}: the model was trained for {trained} tokens")
    return ctx or min(trained, 4096)
