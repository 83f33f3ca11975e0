"""What `plm-edge tasks harness` does: lm-evaluation-harness on our model, rows kept and shown."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from plm_edge import console, shell
from plm_edge.commands import _tasks
from plm_edge.commands._tasks import Asked, Request
from plm_edge.eval import record
from plm_edge.eval.record import Record
from plm_edge.eval.tasks import harness
from plm_edge.eval.tasks.harness import HarnessRequest
from plm_edge.gguf_header import read_header

if TYPE_CHECKING:
    from plm_edge.engine.cache import Engine

KIND = "harness"


def run(wanted: HarnessRequest, request: Request, engine: Engine) -> list[Record]:
    """Run the harness's tasks and keep a row of each."""
    from plm_edge.commands._task_model import EngineTaskModel

    header = read_header(request.file)
    settings, cpu = _tasks.settings_of(request, engine)
    with (
        _tasks.open_model(header, engine, request) as model,
        console.step_progress("lm-evaluation-harness") as progress,
    ):
        found = harness.evaluate(wanted, EngineTaskModel(model), progress)
    command, records = _command(wanted, request), []
    for result in found:
        asked = Asked(KIND, result.task, result.sha256, command)
        records.append(Record(_tasks.header_of(asked, header, settings, cpu), asdict(result)))
    for each in records:
        record.write(request.results_path(), each)
    return records


def _command(wanted: HarnessRequest, request: Request) -> str:
    words = ["plm-edge", "tasks", "harness", str(request.file)]
    words += [word for name in wanted.tasks for word in ("--task", name)]
    words += ["--include", str(wanted.include)] if wanted.include else []
    words += ["--limit", str(wanted.limit)] if wanted.limit else []
    words += ["--shots", str(wanted.shots)] if wanted.shots is not None else []
    return shell.quote([*words, "--ctx", str(request.ctx)])


def plan(wanted: HarnessRequest, request: Request, *, as_json: bool) -> None:
    """What would be run, and where results would go."""
    command = _command(wanted, request)
    if as_json:
        console.print_json({"command": command, "results": str(request.results_path())})
        return
    print(f"would run {command}\nwould append to {request.results_path()}")


def show(found: list[Record], *, as_json: bool) -> None:
    """One line per metric, or the rows as JSON."""
    if as_json:
        console.print_json([asdict(each) for each in found])
        return
    for each in found:
        values = each.values
        print(f"{values['task']}: {values['items']} items, {values['shots']} examples")
        for name, value in values["metrics"].items():
            print(f"  {name:<24} {value:.4f}")
