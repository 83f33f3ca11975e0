"""`plm-edge imatrix` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plm_edge.bench import machine
from plm_edge.cli import app
from plm_edge.engine import build
from plm_edge.engine.cache import Engine
from plm_edge.quantize import imatrix
from tests.eval import small


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["imatrix", *map(str, words)])


@pytest.fixture
def use_engine(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "current", lambda *words: engine)
    # More threads than free cores spin: seconds instead of milliseconds on a busy machine.
    monkeypatch.setattr(machine, "usable_cores", lambda *words: 1)


def texts(folder: Path) -> tuple[Path, Path]:
    one, two = folder / "one.txt", folder / "two.txt"
    one.write_text(small.TEXT, encoding="utf-8")
    two.write_text(small.TEXT[::-1], encoding="utf-8")
    return one, two


def test_measured_shown_and_merged(tmp_path: Path, use_engine: None) -> None:
    model = small.write_model(tmp_path / "m.gguf")
    paths = []
    for text in texts(tmp_path):
        paths.append(tmp_path / f"{text.stem}.gguf")
        done = run(model, "--text", text, "-o", paths[-1], "--ctx", "64", "--windows", "4")
        assert done.exit_code == 0, done.stderr
    both = tmp_path / "both.gguf"
    assert run("merge", *paths, "-o", both, "--dry-run").stdout.startswith("would write")
    assert not both.exists()
    assert run("merge", *paths, "-o", both).exit_code == 0
    shown = json.loads(run("show", both, "--json").stdout)
    assert [name for name, _ in shown["texts"]] == ["one.txt", "two.txt"]
    roles = {row["role"]: row for row in shown["roles"]}
    assert roles["attn_q.weight"]["tokens"] == 2 * 4 * 64
    assert roles["ffn_down.weight (neurons)"]["mean_square"] > 0
    assert imatrix.read(both).origin.windows == 8
    assert "edge layout" in run("show", both).stdout
    twice = run("merge", both, paths[0], "-o", tmp_path / "x.gguf")
    assert (twice.exit_code, "one.txt is in already" in twice.stderr) == (1, True)


def test_dry_run_reads_and_writes_nothing(tmp_path: Path) -> None:
    model = small.write_model(tmp_path / "m.gguf")
    text, _ = texts(tmp_path)
    done = run(model, "--text", text, "-o", tmp_path / "i.gguf", "--dry-run")
    assert done.exit_code == 0 and done.stdout.startswith("would read")
    assert not (tmp_path / "i.gguf").exists()


def test_text_shorter_than_a_context_leaves_nothing(tmp_path: Path, use_engine: None) -> None:
    model = small.write_model(tmp_path / "m.gguf")
    text, _ = texts(tmp_path)
    done = run(model, "--text", text, "-o", tmp_path / "i.gguf", "--ctx", "1024")
    assert done.exit_code == 1
    assert "1399 tokens, but contexts of 1024 need 2048" in done.stderr
    assert not (tmp_path / "i.gguf").exists()
