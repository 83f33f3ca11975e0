"""`plm-edge tasks`: what a model is worth to its users, judged by tasks, and what it costs here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from plm_edge.commands._data import DryRunFlag, JsonFlag, add_data_commands
from plm_edge.commands._device_options import DeviceOption, ForceFlag
from plm_edge.commands._ready_engine import ready_engine
from plm_edge.resources import Resource

app = typer.Typer(no_args_is_help=True, help="List, show, check, copy and run tasks for a model.")


def _load(resource: Resource) -> Any:
    from plm_edge.eval.tasks import spec

    return spec.load(resource)


def _parts(resource: Resource) -> list[Path]:
    from plm_edge.eval.tasks import spec

    read = spec.read_spec(resource)
    return [spec.data_path(resource, read)] if read.data else []


add_data_commands(app, "tasks", _load, _parts)


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="The model, a GGUF file.")],
    task: Annotated[
        list[str] | None, typer.Option(help="A name that `list` shows; default: all with data.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The file of a task that brings none.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first items.")] = None,
    ctx: Annotated[int, typer.Option(min=0, help="Context; 0: the model's, 4096 at most.")] = 0,
    threads: Annotated[
        int | None, typer.Option("--threads", "-t", min=1, max=512, help="Default: big cores.")
    ] = None,
    cache_type: Annotated[
        Literal["f16", "q8_0"], typer.Option(help="KV cache: q8_0 takes half the memory.")
    ] = "f16",
    device: DeviceOption = None,
    force: ForceFlag = False,
    fresh: Annotated[
        bool, typer.Option(help="Ask anew what an interrupted run has answers for.")
    ] = False,
    results: Annotated[Path | None, typer.Option(help="The file that rows go to.")] = None,
    as_json: JsonFlag = False,
    dry_run: DryRunFlag = False,
) -> None:
    """Ask a model every item of some tasks; an interrupted run goes on where it stopped."""
    from plm_edge.chat import preflight
    from plm_edge.chat.threads import default_threads
    from plm_edge.commands import _tasks, _tasks_show

    ctx = _tasks.context_of(preflight.checked_header(file), ctx)
    request = _tasks.Request(
        file,
        names=tuple(task or ()),
        data=data,
        limit=limit,
        ctx=ctx,
        threads=threads or (0 if device else default_threads()),
        cache_type=cache_type,
        is_fresh=fresh,
        results=results,
        device=device,
        is_forced=force,
    )
    tasks = _tasks.chosen(request)
    if dry_run:
        _tasks_show.plan(tasks, request.command("NAME"), as_json=as_json)
        return
    if device:
        from plm_edge.commands import _tasks_device

        found = _tasks_device.run_all(request, tasks)
    else:
        found = _tasks.run_all(request, tasks, ready_engine())
    _tasks_show.records(found, as_json=as_json)


@app.command()
def harness(
    file: Annotated[Path, typer.Argument(help="The model, a GGUF file.")],
    task: Annotated[list[str], typer.Option(help="A task of lm-evaluation-harness, or several.")],
    include: Annotated[Path | None, typer.Option(help="Folder with further task YAMLs.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first items.")] = None,
    shots: Annotated[int | None, typer.Option(min=0, help="Examples before each item.")] = None,
    ctx: Annotated[int, typer.Option(min=0, help="Context; 0: the model's, 4096 at most.")] = 0,
    threads: Annotated[
        int | None, typer.Option("--threads", "-t", min=1, max=512, help="Default: big cores.")
    ] = None,
    results: Annotated[Path | None, typer.Option(help="The file that rows go to.")] = None,
    as_json: JsonFlag = False,
    dry_run: DryRunFlag = False,
) -> None:
    """Run tasks of EleutherAI's lm-evaluation-harness on our engine (extra `harness`)."""
    from plm_edge.chat import preflight
    from plm_edge.chat.threads import default_threads
    from plm_edge.commands import _harness, _tasks
    from plm_edge.eval.tasks.harness import HarnessRequest, checked

    wanted = HarnessRequest(tuple(task), include, limit, shots)
    checked(wanted)
    ctx = _tasks.context_of(preflight.checked_header(file), ctx)
    request = _tasks.Request(
        file,
        names=tuple(task),
        data=None,
        limit=limit,
        ctx=ctx,
        threads=threads or default_threads(),
        cache_type="f16",
        is_fresh=False,
        results=results,
    )
    if dry_run:
        _harness.plan(wanted, request, as_json=as_json)
        return
    _harness.show(_harness.run(wanted, request, ready_engine()), as_json=as_json)
