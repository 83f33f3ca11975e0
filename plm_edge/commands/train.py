"""`plm-edge train`: pre-training and fine-tuning of PLM from recipes (extra `torch`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from plm_edge import console
from plm_edge.commands._data import DryRunFlag, JsonFlag, NameArgument, add_data_commands
from plm_edge.commands._train_data import data
from plm_edge.commands._train_evaluate import evaluate
from plm_edge.commands._train_prefer import prefer
from plm_edge.errors import InputError, MissingToolError
from plm_edge.resources import Resource

app = typer.Typer(help="Train PLM from a recipe; resumable (extra: torch).", no_args_is_help=True)


def load_recipe(resource: Resource) -> Any:
    """A `TrainRecipe`, or a `PreferenceRecipe` where the stage says so."""
    from plm_edge import resources, schema
    from plm_edge.model.recipe import PreferenceRecipe, TrainRecipe

    table = resources.read_table(resource)
    kind = PreferenceRecipe if table.get("stage") == "preference" else TrainRecipe
    return schema.build(table, kind, resource.path)


def _find(name: str) -> Any:
    from plm_edge import resources

    found = load_recipe(resources.find("training", name))
    if found.stage == "preference":
        raise InputError(
            f"{name}: a preference recipe", hint=f"plm-edge train prefer {name} --start-from …"
        )
    return found


def require_torch() -> None:
    """`MissingToolError` where the extra is not installed."""
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise MissingToolError(
            "training needs PyTorch, which is not installed", hint="pip install 'plm-edge[torch]'"
        )


def _require_matplotlib() -> None:
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise MissingToolError(
            "plots need matplotlib, which is not installed", hint="pip install 'plm-edge[report]'"
        )


add_data_commands(app, "training", load_recipe)
app.command("data", help="Train a tokenizer and write token shards.")(data)
app.command("prefer", help="Preference rounds on better and worse answers; resumable.")(prefer)
app.command("evaluate", help="Held-out loss and answers, beside baselines.")(evaluate)


@app.command("run", help="Train; run again after an interruption, it goes on where it stopped.")
def run(
    recipe: NameArgument,
    data: Annotated[Path, typer.Option(help="Folder of token shards.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")],
    start_from: Annotated[Path | None, typer.Option(help="Run or checkpoint to fine-tune.")] = None,
    strategy: Annotated[str, typer.Option(help="ddp or fsdp, under torchrun.")] = "ddp",
    stop_after: Annotated[int | None, typer.Option(help="Steps of this call.")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads; 0: torch's choice.")] = 0,
    dry_run: DryRunFlag = False,
) -> None:
    if dry_run:
        chosen = _find(recipe)
        print(
            f"would train {recipe} into {output}: {chosen.steps:,} steps of "
            f"{chosen.batch.tokens:,} tokens from {data}"
        )
        return
    require_torch()
    from plm_edge.model.trainer import Job, run_job

    chosen = _find(recipe)
    job = Job(chosen, data, output, start_from, "fsdp" if strategy == "fsdp" else "ddp", stop_after)
    with console.step_progress(f"train {recipe}") as progress:

        def show(row: dict[str, Any]) -> None:
            progress(row["step"] + 1, chosen.steps)

        run_job(job, show, threads)


@app.command("export", help="Write a run's newest weights as a Hugging Face folder in bf16.")
def export(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of the run.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    tokenizer: Annotated[Path, typer.Option(help="Folder with the tokenizer's files.")],
    dry_run: DryRunFlag = False,
) -> None:
    if dry_run:
        print(f"would write the newest weights of {run_folder} to {output}")
        return
    require_torch()
    from plm_edge.model.export import export_run

    export_run(run_folder, output, tokenizer)
    print(output)


@app.command("plan", help="Estimate memory, tokens, steps and time of a recipe; trains nothing.")
def plan(
    recipe: NameArgument,
    devices: Annotated[int, typer.Option(min=1, help="Processes the run is spread over.")] = 1,
    flops: Annotated[float, typer.Option(min=0, help="FLOP/s reached by all together.")] = 0.0,
    strategy: Annotated[str, typer.Option(help="ddp or fsdp.")] = "fsdp",
    as_json: JsonFlag = False,
) -> None:
    from plm_edge.model.budget import estimate

    budget = estimate(_find(recipe), devices, flops, strategy == "fsdp")
    if as_json:
        console.print_json(budget.__dict__)
        return
    print(f"parameters         {budget.parameters:,}")
    print(f"tokens             {budget.tokens:,} in {budget.steps:,} steps")
    print(f"memory per device  {budget.bytes_per_device / 1e9:.1f} GB (estimate)")
    print(f"arithmetic         {budget.flops:.3g} FLOP (estimate)")
    if budget.hours:
        print(f"time               {budget.hours:,.1f} h at {flops:.3g} FLOP/s (estimate)")


@app.command("plot", help="Draw a metric of runs over their steps as an SVG.")
def plot(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="SVG to write.")],
    key: Annotated[str, typer.Option(help="A key of metrics.jsonl.")] = "validation_loss",
    dry_run: DryRunFlag = False,
) -> None:
    if dry_run:
        print(f"would draw {key} of {', '.join(map(str, runs))} to {output}")
        return
    _require_matplotlib()
    from plm_edge.model.plot import draw, read_curves

    draw(read_curves(runs, key), key.replace("_", " "), output)
    print(output)
