"""Training starts from a folder or from another run, with the same tokenizer or not at all."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra `torch`: make test WITH_TORCH=1")

from plm_edge.convert import synth_tokenizer  # noqa: E402
from plm_edge.errors import InputError  # noqa: E402
from plm_edge.model import checkpoint, export, run_state, shards, start  # noqa: E402
from plm_edge.model.plm import PlmModel  # noqa: E402
from plm_edge.shape import PlmShape  # noqa: E402

SHAPE = PlmShape(32, 1, 2, 16, 8, 8, 8, 64, 300, 256, 10000.0, 1e-6)


def tokenizer_in(folder: Path, size: int = 300) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    synth_tokenizer.write_tokenizer(folder, synth_tokenizer.make_vocabulary(size), 256)
    return shards.tokenizer_hash(folder / "tokenizer.json")


def run_in(folder: Path, sha256: str, step: int = 3) -> PlmModel:
    model = PlmModel(SHAPE)
    model.initialize(step)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.tensor([[1, 2]])).sum().backward()
    optimizer.step()
    run_state.save(folder, model, optimizer, run_state.RunInfo(step, {}, sha256, asdict(SHAPE)))
    return model


def same(one: PlmModel, other: PlmModel) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


def test_a_run_gives_its_newest_weights(tmp_path: Path) -> None:
    run_in(tmp_path, "t", step=1)
    newest = run_in(tmp_path, "t", step=2)
    found = start.load(tmp_path)
    assert same(found.model, newest)
    assert found.tokenizer_sha256 == "t"


def test_an_exported_run_is_a_folder_to_start_from(tmp_path: Path) -> None:
    sha256 = tokenizer_in(tmp_path / "tokenizer")
    model = run_in(tmp_path / "run", sha256)
    export.export_run(tmp_path / "run", tmp_path / "out", tmp_path / "tokenizer")
    found = start.load(tmp_path / "out")
    assert found.tokenizer_sha256 == sha256
    assert same(found.model, model.to(torch.bfloat16).float())
    assert checkpoint.read_config(tmp_path / "out")["eos_token_id"] is not None


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    run_in(tmp_path / "run", tokenizer_in(tmp_path / "one"))
    tokenizer_in(tmp_path / "two", 280)
    with pytest.raises(InputError, match="another tokenizer"):
        export.export_run(tmp_path / "run", tmp_path / "out", tmp_path / "two")
    assert not (tmp_path / "out").exists()


def test_an_empty_folder_and_a_cut_checkpoint_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a checkpoint nor a run"):
        start.load(tmp_path)
    with pytest.raises(InputError, match="has no checkpoint"):
        export.export_run(tmp_path, tmp_path / "out", tmp_path)
    run_in(tmp_path / "run", "t")
    weights = tmp_path / "run" / "step-000003" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InputError, match="step-000003: cannot read"):
        start.load(tmp_path / "run")
