"""`plm-edge train evaluate` as typed, on a tiny random model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plm_edge.cli import app
from plm_edge.convert.synth import SHAPES, write_checkpoint
from plm_edge.model import dataset


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["train", "evaluate", *map(str, words)])


def test_loss_perplexity_and_zeros_are_printed_and_the_same_in_json(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra `torch`").set_num_threads(1)
    model, text = tmp_path / "model", tmp_path / "text.txt"
    write_checkpoint(model, SHAPES["tiny"], dtype="f32", seed=4)
    text.write_text("words to measure on\n" * 2000, encoding="utf-8")
    dataset.build_text(tmp_path / "data", model, [text])
    words = (model, "--data", tmp_path / "data", "--shard", "validation", "--answers", 0)
    done = run(*words, "--force", "0.5", "--json")
    assert done.exit_code == 0, done.stderr
    whole, cut = json.loads(done.stdout)["held_out"]
    assert (whole["force"], cut["force"]) == (None, 0.5)
    assert len(whole["zero_shares"]) == SHAPES["tiny"].num_hidden_layers
    printed = run(*words).stdout
    assert f"loss {whole['loss']['mean']:.3f} [" in printed
    assert f"perplexity {whole['perplexity']['mean']:.1f} [" in printed


@pytest.mark.parametrize("force", ["a half", "0.5,1.0", "-0.1"])
def test_an_impossible_share_is_refused(force: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra `torch`")
    done = run("model", "--data", tmp_path, "--force", force)
    assert done.exit_code == 1
    assert f"--force {force}: expected shares" in done.stderr
