"""`plm-edge train prefer` as typed, on a tiny model and pairs of a user's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

pytest.importorskip("torch", reason="needs the extra `torch`: make test WITH_TORCH=1")

from plm_edge.cli import app
from plm_edge.commands._train_prefer import read_pairs
from plm_edge.convert.synth import SHAPES, write_checkpoint
from plm_edge.errors import ConfigError, InputError


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["train", "prefer", *map(str, words)])


def pairs_file(folder: Path, rows: list[object]) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_own_pairs_move_the_model_and_a_second_call_has_nothing_to_do(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `torch`")
    torch.set_num_threads(1)
    from plm_edge.model import start

    model = tmp_path / "model"
    write_checkpoint(model, SHAPES["tiny"], dtype="f32", seed=4)
    rows: list[object] = [{"question": f"q{i}", "better": "yes", "worse": "no"} for i in range(4)]
    words = ("nano-aries", "--start-from", model, "-o", tmp_path / "run", "--tokenizer", model)
    words = (*words, "--pairs", pairs_file(tmp_path, rows))
    done = run(*words)
    assert done.exit_code == 0, done.stderr
    before, after = start.load(model).model, start.load(tmp_path / "run").model
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(before.state_dict()[name], after.state_dict()[name])
    metrics = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    assert run(*words).exit_code == 0
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == metrics


def test_a_dry_run_says_what_and_writes_nothing(tmp_path: Path) -> None:
    words = ("nano-aries", "--start-from", "sft", "-o", tmp_path / "run", "--tokenizer", "tok")
    assert "240 documented answers and in 2 online rounds" in run(*words, "--dry-run").stdout
    assert list(tmp_path.iterdir()) == []


def test_recipes_go_with_their_commands(tmp_path: Path) -> None:
    words = ("--start-from", "x", "-o", tmp_path / "run", "--tokenizer", "t")
    wrong = run("nano", *words)
    assert wrong.exit_code == 1
    assert "nano: stage = 'pretrain', expected 'preference'" in wrong.stderr
    other = CliRunner().invoke(
        app, ["train", "run", "nano-aries", "--data", "d", "-o", str(tmp_path / "r"), "--dry-run"]
    )
    assert "plm-edge train prefer nano-aries" in other.stderr


def test_broken_pairs_name_the_line(tmp_path: Path) -> None:
    good = {"question": "q", "better": "a", "worse": "b"}
    path = pairs_file(tmp_path, [good, {"question": "q", "better": 1, "worse": "b"}])
    with pytest.raises(ConfigError, match="better = 1, expected a value of type str"):
        read_pairs(path)
    path.write_text(json.dumps(good) + "\n{half\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"pairs\.jsonl:2: not a JSON object"):
        read_pairs(path)
    path.write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="no pairs"):
        read_pairs(path)
