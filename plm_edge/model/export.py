"""From a run's newest checkpoint to a Hugging Face folder that `plm-edge convert` reads."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from plm_edge.errors import InputError
from plm_edge.model import checkpoint, run_state, shards, start
from plm_edge.model.dataset import END_OF_TEXT, TURN_END, read_tokenizer
from plm_edge.paths import write_text_atomic
from plm_edge.shell import quote


def export_run(run: Path, folder: Path, tokenizer_folder: Path) -> None:
    """Write weights in bf16, config and tokenizer to `folder`.

    Raises `InputError` when the run has no checkpoint or was trained with another tokenizer.
    """
    if not run_state.checkpoints(run):
        raise InputError(
            f"{run}: has no checkpoint", hint=f"plm-edge train run … -o {quote([run])}"
        )
    newest = start.load(run)
    sha256 = shards.tokenizer_hash(tokenizer_folder / "tokenizer.json")
    start.require_tokenizer(newest, run, sha256, tokenizer_folder)
    tokenizer = read_tokenizer(tokenizer_folder)
    end = tokenizer.token_to_id(TURN_END)
    # an answer also ends where a document does
    stops = {"eos_token_id": [end, tokenizer.token_to_id(END_OF_TEXT)]}
    checkpoint.copy_tokenizer(tokenizer_folder, folder)
    write_text_atomic(folder / "generation_config.json", json.dumps(stops, indent=2) + "\n")
    checkpoint.save(newest.model.to(torch.bfloat16), folder, extra={"eos_token_id": end})
