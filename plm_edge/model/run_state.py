"""A training run on disk: checkpoints that appear whole, are pruned, and resume exactly.

    RUN/step-000100/model.safetensors      weights in float32
    RUN/step-000100/optimizer.safetensors  AdamW's moments
    RUN/step-000100/run.json               recipe, step, tokenizer
    RUN/metrics.jsonl                      one line a step
    RUN/tensorboard/                       the same for TensorBoard
No pickle anywhere: a checkpoint from elsewhere cannot run code.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)

from plm_edge import schema
from plm_edge.errors import InputError
from plm_edge.model.recipe import differences
from plm_edge.paths import read_bytes, write_error
from plm_edge.shell import quote

KEEP = 2
_PREFIX = "step-"
_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)


@dataclass(frozen=True)
class RunInfo:
    """What a checkpoint says of itself; `recipe` as a plain table."""

    step: int
    recipe: dict[str, Any]
    tokenizer_sha256: str
    shape: dict[str, Any]


def save(
    folder: Path, model: Any, optimizer: Any, info: RunInfo, *, is_writer: bool = True
) -> None:
    """Write the checkpoint of `info.step` and drop those before the last `KEEP`.

    With several processes all must call this (parameters are gathered); one writes.
    """
    weights, moments = get_state_dict(model, optimizer, options=_FULL)
    if not is_writer:
        return
    target = folder / f"{_PREFIX}{info.step:06d}"
    temporary = folder / f".{target.name}.part"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_file(_contiguous(weights), temporary / "model.safetensors")
        save_file(_contiguous(_flatten(moments)), temporary / "optimizer.safetensors")
        (temporary / "run.json").write_text(json.dumps(info.__dict__), encoding="utf-8")
        _sync_all(temporary)
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise write_error(target, error) from error
    except SafetensorError as error:  # how safetensors reports a full disk
        shutil.rmtree(temporary, ignore_errors=True)
        raise InputError(
            f"{target}: cannot write: {error}", hint=quote(["df", "-h", folder])
        ) from error
    for old in checkpoints(folder)[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)


def _sync_all(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    return sorted(path.parent for path in folder.glob(f"{_PREFIX}*/run.json"))


def latest_step(folder: Path) -> int | None:
    """The step of a run's newest checkpoint."""
    known = checkpoints(folder)
    return read_info(known[-1]).step if known else None


def read_info(checkpoint: Path) -> RunInfo:
    """What a checkpoint folder says of itself."""
    path = checkpoint / "run.json"
    try:
        table = json.loads(read_bytes(path, limit_bytes=1 << 20))
        return RunInfo(**{name: table[name] for name in RunInfo.__dataclass_fields__})
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: not a training checkpoint: {error}") from error


def same_recipe(run: Path, info: RunInfo, recipe: Any) -> None:
    """Refuse to go on with another recipe than the run's own; the error lists what changed.

    Keys that a newer version added count as their defaults.
    """
    mine = plain(recipe)
    theirs = schema.build(_without_none(info.recipe), type(recipe), run)
    if changed := differences(mine, plain(theirs)):
        raise InputError(
            f"{run}: was started with another recipe: " + "; ".join(changed),
            hint="train into a new folder, or take the change back",
        )


def plain(recipe: Any) -> dict[str, Any]:
    """A recipe as a table that JSON can hold."""
    table: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return table


def _without_none(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value is not None}


def restore(checkpoint: Path, model: Any, optimizer: Any) -> None:
    """Load weights and moments into model and optimizer, in place."""
    try:
        weights = load_file(checkpoint / "model.safetensors")
        moments = load_file(checkpoint / "optimizer.safetensors")
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{checkpoint}: cannot read: {error}", hint=quote(["rm", "-r", checkpoint])
        ) from error
    _, fresh = get_state_dict(model, optimizer, options=_FULL)
    set_state_dict(
        model,
        optimizer,
        model_state_dict=weights,
        optim_state_dict=_unflatten(moments, fresh),
        options=_FULL,
    )


def _contiguous(tensors: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


def _flatten(moments: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {
        f"{name}/{key}": torch.as_tensor(value)
        for name, entry in moments["state"].items()
        for key, value in entry.items()
    }


def _unflatten(tensors: dict[str, torch.Tensor], fresh: dict[str, Any]) -> dict[str, Any]:
    state: dict[str, dict[str, torch.Tensor]] = {}
    for flat, tensor in tensors.items():
        name, key = flat.rsplit("/", 1)
        state.setdefault(name, {})[key] = tensor
    return {"state": state, "param_groups": fresh["param_groups"]}


def drop_leftovers(folder: Path) -> None:
    """Remove what a killed save left behind."""
    for path in folder.glob(f".{_PREFIX}*.part"):
        with contextlib.suppress(OSError):
            shutil.rmtree(path)
