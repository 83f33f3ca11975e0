"""Where training starts from: a Hugging Face folder, or another run's newest checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from plm_edge import schema
from plm_edge.errors import InputError
from plm_edge.model import checkpoint, run_state, shards
from plm_edge.model.hf_config import CONFIG
from plm_edge.model.plm import PlmModel
from plm_edge.shape import PlmShape
from plm_edge.shell import quote


@dataclass(frozen=True)
class Start:
    """A model in float32, and the tokenizer it goes with where that is known."""

    model: PlmModel
    tokenizer_sha256: str | None


def load(folder: Path) -> Start:
    """The newest weights of a run, or those of a Hugging Face folder."""
    known = run_state.checkpoints(folder)
    if known:
        return _from_run(known[-1])
    if not (folder / CONFIG).exists():
        raise InputError(
            f"{folder}: neither a checkpoint nor a run that has one",
            hint="a Hugging Face folder, or the -o of plm-edge train run",
        )
    tokenizer = folder / "tokenizer.json"
    known_hash = shards.tokenizer_hash(tokenizer) if tokenizer.exists() else None
    return Start(checkpoint.load(folder).float(), known_hash)


def _from_run(newest: Path) -> Start:
    info = run_state.read_info(newest)
    model = PlmModel(schema.build(info.shape, PlmShape, newest / "run.json"))
    try:
        model.load_state_dict(load_file(newest / "model.safetensors"))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InputError(
            f"{newest}: cannot read: {error}", hint=quote(["rm", "-r", newest])
        ) from error
    return Start(model, info.tokenizer_sha256)


def require_tokenizer(start: Start, folder: Path, tokenizer_sha256: str, source: Path) -> None:
    """Refuse a model whose tokens mean something else than those it would be trained on."""
    if start.tokenizer_sha256 not in (None, tokenizer_sha256):
        raise InputError(
            f"{folder}: another tokenizer than the one of {source}",
            hint="plm-edge train data DATA --tokenizer FOLDER, with the model's own tokenizer",
        )
