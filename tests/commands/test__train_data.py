"""`plm-edge train data` as typed, on a user's own file: no torch needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plm_edge.cli import app


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["train", "data", *map(str, words)])


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "mine.txt"
    lines = (f"line {n} of a text with words enough to learn merges from\n" for n in range(400))
    path.write_text("".join(lines), encoding="utf-8")
    return path


def test_a_tokenizer_is_trained_once_and_used_again(text: Path, tmp_path: Path) -> None:
    words = (tmp_path / "data", "--tokenizer", tmp_path / "tok", "--text", text)
    first = run(*words, "--vocab-size", 512, "--json")
    assert first.exit_code == 0, first.stderr
    assert "training a tokenizer of 512 ids" in first.stderr
    made = (tmp_path / "tok" / "tokenizer.json").read_bytes()
    index = json.loads((tmp_path / "data" / "index.json").read_text(encoding="utf-8"))
    assert index["vocab_size"] == 512
    assert index["tokens"] == json.loads(first.stdout)["tokens"]
    again = run(*words)
    assert again.exit_code == 0
    assert "training a tokenizer" not in again.stderr
    assert (tmp_path / "tok" / "tokenizer.json").read_bytes() == made
    assert f"{index['tokens']['text']:,} tokens" in again.stdout


def test_a_dry_run_says_what_and_writes_nothing(text: Path, tmp_path: Path) -> None:
    words = (tmp_path / "data", "--tokenizer", tmp_path / "tok", "--text", text, "--dry-run")
    done = run(*words)
    assert "would train a tokenizer of 4096 ids" in done.stdout
    assert str(text) in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt"]


def test_tiny_and_broken_texts_are_refused_before_a_tokenizer_is_made(tmp_path: Path) -> None:
    tiny, latin = tmp_path / "tiny.txt", tmp_path / "latin.txt"
    tiny.write_text("few words", encoding="utf-8")
    latin.write_bytes(b"\xe9" * 20_000)
    for path, words in ((tiny, "9 characters of text"), (latin, "not UTF-8 at byte 0")):
        done = run(tmp_path / "data", "--tokenizer", tmp_path / "tok", "--text", path)
        assert done.exit_code == 1
        assert f"{path}: {words}" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latin.txt", "tiny.txt"]
