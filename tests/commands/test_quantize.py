"""`plm-edge quantize` as a user types it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plm_edge.cli import app
from plm_edge.engine import build
from plm_edge.engine.cache import Engine
from plm_edge.gguf_header import read_header
from tests.quantize.tiny import write_model


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["quantize", *map(str, words)])


@pytest.fixture
def use_engine(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "current", lambda *words: engine)


def test_dry_run_says_the_size_to_the_byte_and_writes_nothing(
    tmp_path: Path, use_engine: None
) -> None:
    source, target = write_model(tmp_path / "in.gguf"), tmp_path / "out.gguf"
    dry = run(source, "-o", target, "--recipe", "q4", "--dry-run", "--json")
    assert dry.exit_code == 0
    promised = json.loads(dry.stdout)
    assert os.listdir(tmp_path) == ["in.gguf"]
    assert (promised["written"], promised["random_weights"]) == (False, True)
    done = run(source, "-o", target, "--recipe", "q4", "--json")
    assert done.exit_code == 0, done.stderr
    assert target.stat().st_size == promised["file_bytes"]
    assert json.loads(done.stdout)["groups"] == promised["groups"]


def test_the_table_ends_with_what_was_written(tmp_path: Path, use_engine: None) -> None:
    source, target = write_model(tmp_path / "in é.gguf"), tmp_path / "out ü.gguf"
    done = run(source, "-o", target, "--recipe", "q4-k", "--threads", "1")
    assert done.exit_code == 0, done.stderr
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith(f"wrote {target}: {target.stat().st_size:,} bytes, ")
    assert "random weights" in last
    assert "ffn_down.weight" in done.stdout


def test_fallbacks_are_said(tmp_path: Path) -> None:
    from tests.quantize.test_quantizer import NARROW

    source = write_model(tmp_path / "in.gguf", shape=NARROW)
    dry = run(source, "-o", tmp_path / "out.gguf", "--recipe", "q4", "--dry-run")
    assert "token_embd.weight: rows do not divide into blocks of q6_K" in dry.stderr


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9000]), "ends inside tensor"),
        (lambda path: path.write_bytes(path.read_bytes()[:999]), "ends inside its header"),
        (lambda path: path.write_bytes(b"PK\3\4" * 99), "is not a GGUF file"),
        (lambda path: path.unlink(), "cannot read: No such file"),
        (lambda path: write_model(path, architecture="qwen3"), "architecture 'qwen3'"),
        (lambda path: write_model(path, dtype="q4_0"), "is q4_0 already"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, damage: object, message: str) -> None:
    source = write_model(tmp_path / "in.gguf")
    damage(source)  # type: ignore[operator]
    result = run(source, "-o", tmp_path / "new" / "out.gguf", "--recipe", "q8")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"plm-edge: {source}: ")
    assert message in result.stderr.splitlines()[0]
    assert not (tmp_path / "new").exists()


def test_an_unknown_recipe_is_one_line(tmp_path: Path) -> None:
    source = write_model(tmp_path / "in.gguf")
    result = run(source, "-o", tmp_path / "out.gguf", "--recipe", "q5")
    assert result.exit_code == 1
    assert "plm-edge: no recipe named 'q5'\nhint: " in result.stderr


def test_a_users_own_recipe_is_found(tmp_path: Path, own_folders: Path, use_engine: None) -> None:
    folder = own_folders / "config" / "quant"
    folder.mkdir(parents=True)
    text = 'schema = 1\ndescription = "mine"\ntype = "q5_0"\n'
    (folder / "mine.toml").write_text(text, encoding="utf-8")
    source, target = write_model(tmp_path / "in.gguf"), tmp_path / "out.gguf"
    assert run(source, "-o", target, "--recipe", "mine").exit_code == 0
    assert read_header(target).by_name["blk.0.ffn_up.weight"].type == "q5_0"
