"""Hugging Face folders in and out: the same files `plm-edge convert` reads.

A checkpoint saved here and loaded again is the same bit for bit.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from plm_edge.errors import InputError
from plm_edge.model.hf_config import CONFIG, read_config
from plm_edge.model.plm import PlmModel
from plm_edge.paths import atomic_path, write_text_atomic
from plm_edge.shape import PlmShape
from plm_edge.shell import quote

WEIGHTS = "model.safetensors"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)


def config_of(shape: PlmShape, dtype: torch.dtype) -> dict[str, Any]:
    """The `config.json` of a shape: PLM's fixed choices and its dimensions."""
    return {
        "architectures": ["PLMForCausalLM"],
        "model_type": "plm",
        "hidden_act": "relu2",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "num_key_value_heads": shape.num_attention_heads,
        "q_lora_rank": None,
        "rope_scaling": None,
        "tie_word_embeddings": True,
        "torch_dtype": str(dtype).removeprefix("torch."),
        **asdict(shape),
    }


def save(model: PlmModel, folder: Path, *, extra: dict[str, Any] | None = None) -> None:
    """Write config and weights to `folder`; each file appears whole or not at all.

    `extra` goes into the config (bos/eos ids, labels). Weights come last, so that a folder with
    weights is a folder with everything.
    """
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    dtype = next(iter(weights.values())).dtype
    config = {**config_of(model.shape, dtype), **(extra or {})}
    write_text_atomic(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(weights, temporary, metadata={"format": "pt"})


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy what `source` has of a tokenizer into `folder`."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            with atomic_path(folder / name) as temporary:
                shutil.copyfile(source / name, temporary)


def load(folder: Path) -> PlmModel:
    """The model in `folder`, with the dtype of its file.

    Raises `InputError` for weights that do not fit the config: a missing, extra or misshaped
    tensor is named.
    """
    shape = PlmShape.from_config(read_config(folder), str(folder / CONFIG))
    path = folder / WEIGHTS
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot read: {error}", hint=quote(["ls", "-l", path])) from error
    with torch.device("meta"):
        model = PlmModel(shape)
    _require_fit(model, weights, path)
    model.load_state_dict(weights, assign=True)
    return model


def _require_fit(model: PlmModel, weights: dict[str, torch.Tensor], path: Path) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name, size in wanted.items():
        if name not in weights:
            raise InputError(f"{path}: tensor {name} is missing")
        if tuple(weights[name].shape) != size:
            raise InputError(f"{path}: {name} is {tuple(weights[name].shape)}, expected {size}")
    for name in weights:
        if name not in wanted:
            raise InputError(f"{path}: tensor {name} is not part of a PLM")
