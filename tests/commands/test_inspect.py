"""`plm-edge inspect --sparsity` as typed, on a folder and on a GGUF made from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plm_edge.cli import app
from plm_edge.convert.synth import SHAPES, write_checkpoint
from plm_edge.model.dataset import read_tokenizer
from plm_edge.model.reference import Reference


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [*map(str, words)])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect") / "tiny"
    write_checkpoint(folder, SHAPES["tiny"], dtype="f32", seed=4)
    return folder


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("return a list of the names\n" * 4, encoding="utf-8")
    return path


def test_shares_are_the_references(model: Path, text: Path) -> None:
    done = run("inspect", model, "--sparsity", text, "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    ids = read_tokenizer(model).encode(text.read_text(encoding="utf-8")).ids
    assert found["tokens"] == len(ids)
    wanted = Reference.from_checkpoint(model).zero_fractions(ids)
    assert [layer["zero_share"] for layer in found["layers"]] == pytest.approx(list(wanted))
    printed = run("inspect", model, "--sparsity", text).stdout
    assert f"{found['layers'][0]['zero_share']:>7.1%} zero" in printed
    assert f"mean      {found['zero_share']:>7.1%} zero" in printed


def test_a_gguf_needs_a_tokenizers_folder_and_agrees(
    model: Path, text: Path, tmp_path: Path
) -> None:
    gguf = tmp_path / "tiny.gguf"
    assert run("convert", model, "-o", gguf, "--type", "f32").exit_code == 0
    refused = run("inspect", gguf, "--sparsity", text)
    assert refused.exit_code == 1
    assert f"--sparsity {text} --tokenizer CHECKPOINT" in refused.stderr
    words = ("--sparsity", text, "--json")
    from_file = json.loads(run("inspect", gguf, *words, "--tokenizer", model).stdout)
    from_folder = json.loads(run("inspect", model, *words).stdout)
    for one, other in zip(from_file["layers"], from_folder["layers"], strict=True):
        assert one["zero_share"] == pytest.approx(other["zero_share"], abs=1e-3)


def test_a_missing_and_an_empty_text_are_named(model: Path, tmp_path: Path) -> None:
    assert "nothing.txt" in run("inspect", model, "--sparsity", tmp_path / "nothing.txt").stderr
    empty = tmp_path / "empty.txt"
    empty.touch()
    done = run("inspect", model, "--sparsity", empty)
    assert (done.exit_code, "empty.txt: empty" in done.stderr) == (1, True)
