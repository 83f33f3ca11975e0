"""From a run's newest checkpoint to a Hugging Face folder that `plm-edge convert` reads."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from plm_edge import schema
from plm_edge.errors import InputError
from plm_edge.model import checkpoint, run_state, shards
from plm_edge.model.dataset import TURN_END, read_tokenizer
from plm_edge.model.plm import PlmModel
from plm_edge.model.recipe import TrainRecipe


def export_run(run: Path, folder: Path, tokenizer_folder: Path) -> None:
    """Write weights in bf16, config and tokenizer to `folder`.

    Raises `InputError` when the run has no checkpoint or was trained with another tokenizer.
    """
    known = run_state.checkpoints(run)
    if not known:
        raise InputError(f"{run}: has no checkpoint", hint=f"plm-edge train run … -o {run}")
    info = run_state.read_info(known[-1])
    if shards.tokenizer_hash(tokenizer_folder / "tokenizer.json") != info.tokenizer_sha256:
        raise InputError(f"{tokenizer_folder}: not the tokenizer {run} was trained with")
    recipe = schema.build(_tuples(info.recipe), TrainRecipe, known[-1] / "run.json")
    model = PlmModel(recipe.shape)
    model.load_state_dict(load_file(known[-1] / "model.safetensors"))
    end = read_tokenizer(tokenizer_folder).token_to_id(TURN_END)
    checkpoint.copy_tokenizer(tokenizer_folder, folder)
    checkpoint.save(model.to(torch.bfloat16), folder, extra={"eos_token_id": end})


def _tuples(table: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in table.items() if value is not None}
