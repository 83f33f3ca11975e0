from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plm_edge.cli import app
from tests.convert.samples import change_json, make_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "PLM tiny, größer")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["convert", *map(str, arguments)])


def test_it_says_what_it_wrote(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "an out" / "plm.gguf"
    result = run(folder, "-o", target)
    assert result.exit_code == 0, result.output
    size = target.stat().st_size / 1e6
    first, second, third, *_ = result.stdout.splitlines()
    assert first == f"{target}: {size:,.1f} MB, edge layout"
    assert second == "  22 tensors (15 f16, 7 f32), 172,416 parameters"
    assert third == "  tokenizer gpt2/qwen2, 511 tokens and 1 for padding"
    assert "note: the tokenizer composes accents (NFC)" in result.stderr


def test_json_and_dry_run(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "plm.gguf"
    result = run(folder, "-o", target, "--type", "q8_0", "--layout", "stock", "--dry-run", "--json")
    report = json.loads(result.stdout)
    assert not target.exists()
    assert report["dry_run"] is True
    assert report["layout"] == "stock"
    result = run(folder, "-o", target, "--type", "q8_0", "--layout", "stock", "--json")
    assert json.loads(result.stdout)["size_bytes"] == report["size_bytes"]
    assert target.stat().st_size == report["size_bytes"]


def test_an_existing_file_is_kept_unless_forced(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "plm.gguf"
    target.write_text("mine")
    result = run(folder, "-o", target)
    assert result.exit_code == 1
    assert target.read_text() == "mine"
    assert f"{target}: exists already\nhint: add --force" in result.stderr
    assert run(folder, "-o", target, "--force", "--verify").exit_code == 0
    assert target.read_bytes().startswith(b"GGUF")


def test_losses_are_listed(folder: Path, tmp_path: Path) -> None:
    run(folder, "-o", tmp_path / "stock.gguf", "--layout", "stock", "--type", "q8_0")
    result = run(tmp_path / "stock.gguf", "-o", tmp_path / "edge.gguf")
    assert "4 tensors lost precision (error relative to their size):" in result.stdout
    assert "blk.0.ffn_down.weight" in result.stdout


def test_random_weights_show(folder: Path, tmp_path: Path) -> None:
    change_json(folder / "config.json", lambda c: c.update(plm_edge_random=True))
    assert "edge layout, random weights" in run(folder, "-o", tmp_path / "plm.gguf").stdout


def test_bad_input_is_one_line_and_a_hint(folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").write_text("{")
    result = run(folder, "-o", tmp_path / "plm.gguf")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(f"plm-edge: {folder / 'config.json'}: not valid JSON")
    assert "Traceback" not in result.output
