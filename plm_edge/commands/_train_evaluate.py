"""`plm-edge train evaluate`: held-out loss and answers of a model beside trivial baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from plm_edge import console
from plm_edge.commands._data import JsonFlag
from plm_edge.errors import InputError


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Run or checkpoint folder.")],
    data: Annotated[Path, typer.Option(help="Folder of token shards.")],
    tokenizer: Annotated[Path | None, typer.Option(help="Its folder; else MODEL's own.")] = None,
    shard: Annotated[
        list[str] | None, typer.Option(help="Held-out shard, may be repeated [test].")
    ] = None,
    answers: Annotated[int, typer.Option(min=0, help="Questions of each kind; 0: none.")] = 60,
    force: Annotated[str, typer.Option(help="Shares of activations to cut: 0.5,0.9")] = "",
    threads: Annotated[int, typer.Option(help="CPU threads; 0: torch's choice.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    from plm_edge.commands.train import require_torch

    require_torch()
    if threads:
        import torch

        torch.set_num_threads(threads)
    report = {
        "model": str(model),
        "held_out": _held_out(model, data, shard or ["test"], _shares(force)),
        "tasks": _tasks(model, tokenizer or model, answers) if answers else [],
    }
    if as_json:
        console.print_json(report)
        return
    _render(report)


def _shares(force: str) -> list[float | None]:
    try:
        shares = [float(part) for part in force.split(",") if part]
    except ValueError:
        shares = [-1.0]
    if not all(0 <= share < 1 for share in shares):
        raise InputError(f"--force {force}: expected shares from 0 to below 1, like 0.5,0.9")
    return [None, *shares]


def _held_out(
    model: Path, data: Path, names: list[str], shares: list[float | None]
) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from plm_edge.model import evaluate, start

    loaded = start.load(model).model.eval()
    return [
        {
            "shard": name,
            "force": share,
            **asdict(evaluate.held_out(loaded, data, name, force=share)),
        }
        for name in names
        for share in shares
    ]


def _tasks(model: Path, tokenizer: Path, most: int) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from plm_edge.model import evaluate, start
    from plm_edge.model.dataset import Encoder, read_tokenizer

    encoder = Encoder(read_tokenizer(tokenizer))
    with console.step_progress(f"ask {model}") as progress:
        found = evaluate.tasks(start.load(model).model.eval(), encoder, most, progress)
    return [asdict(task) for task in found]


def _render(report: dict[str, Any]) -> None:
    for row in report["held_out"]:
        cut = "" if row["force"] is None else f", {row['force']:.0%} of activations cut"
        print(
            f"{row['shard']}: loss {_interval(row['loss'])} nats per token, "
            f"perplexity {_interval(row['perplexity'], 1)}{cut}"
        )
    zeros = report["held_out"][0]["zero_shares"]
    print("zeros per layer: " + ", ".join(f"{share:.1%}" for share in zeros))
    for task in report["tasks"]:
        columns = "   ".join(
            f"{name} {_interval(task[name])}" for name in ("model", "majority", "retrieval")
        )
        print(f"{task['kind']:<10} {task['measure']:<10} n={task['model']['count']:<4} {columns}")


def _interval(estimate: dict[str, Any], digits: int = 3) -> str:
    low, high = estimate["low"], estimate["high"]
    return f"{estimate['mean']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
