"""`plm-edge eval` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plm_edge.bench import machine
from plm_edge.cli import app
from plm_edge.engine import build
from plm_edge.engine.cache import Engine
from tests.eval import small


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["eval", *map(str, words)])


@pytest.fixture
def use_engine(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "current", lambda *words: engine)
    # More threads than free cores spin: seconds instead of milliseconds on a busy machine.
    monkeypatch.setattr(machine, "usable_cores", lambda *words: 1)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    text = tmp_path / "text.txt"
    text.write_text(small.TEXT, encoding="utf-8")
    f32 = small.write_model(tmp_path / "small.f32.gguf")
    return f32, small.write_model(tmp_path / "small.q4.gguf", dtype="q4_0"), text


def test_files_are_judged_compared_and_kept(
    files: tuple[Path, Path, Path], tmp_path: Path, use_engine: None
) -> None:
    f32, q4, text = files
    kept = tmp_path / "results.jsonl"
    flags = ("--text", text, "--ctx", "64", "--results", kept)
    done = run(f32, q4, *flags, "--reference", f32, "--json")
    assert done.exit_code == 0, done.stderr
    first, second = json.loads(done.stdout)
    assert first["divergence"]["value"] == pytest.approx(0, abs=1e-6)
    assert first["same_top"]["value"] == 1
    assert second["divergence"]["low"] > 1e-4
    assert second["difference_from_first"]["divergence"]["low"] > 1e-4
    shown = run("show", "--results", kept, "--json")
    assert json.loads(shown.stdout) == [first, second]
    assert run(q4, "--text", text, "--ctx", "32", "--results", kept).exit_code == 0
    shown = run("show", "--results", kept)
    assert "small.f32.gguf: not compared: different contexts (64, 32 tokens)" in shown.stderr
    assert "random weights" in shown.stdout


def test_dry_run_says_the_plan(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    f32, _, text = files
    kept = tmp_path / "results.jsonl"
    done = run(f32, "--text", text, "--ctx", "64", "--results", kept, "--dry-run", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["context"] == 64
    assert not kept.exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--ctx", "4096"], 1, "text.txt: 1399 tokens, but contexts of 4096 need 8192"),
        (["--cache-type", "q3"], 2, "--cache-type q3: expected one of"),
        (["--reference", "absent.gguf"], 1, "absent.gguf: cannot read"),
    ],
)
def test_mistakes_are_one_line(
    files: tuple[Path, Path, Path], use_engine: None, words: list[str], code: int, said: str
) -> None:
    f32, _, text = files
    done = run(f32, "--text", text, *words)
    assert done.exit_code == code
    assert said in done.stderr.strip().splitlines()[-2 if "hint" in done.stderr else -1]


def test_results_without_evaluations_say_so(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text("")
    done = run("show", "--results", path)
    assert (done.exit_code, "holds no evaluations" in done.stderr) == (1, True)
